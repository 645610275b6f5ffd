/* SPDX-License-Identifier: MIT */
/* Structs as elements of arrays: the layout, which is a text, and views of one field.
 *
 * The array has a larger head than others, and its layout behind the elements, where it never
 * changes: every process that has the array knows its fields. Whole elements are read and written by
 * array_store.c. A view of a field is an ordinary view of numbers whose step is the size of the
 * struct, of which the size of each number is a part; a struct in a struct has no views, since its
 * size need not be one.
 */
#include "core/object.h"
#include "objects/array.h"
#include "objects/doors.h"

#include <string.h>

/* ---- layouts ---- */

/* How far a layout has been read: up to a comma, a brace or the end behind a field. */
struct reader {
    const char *at;
    uint64_t size; /* of the fields so far */
    size_t align;
    int depth; /* of structs in it that are allowed */
};

static int
is_name(char c, int is_first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           (!is_first && c >= '0' && c <= '9');
}

/* The number of elements behind a type; 0 when there is none. */
static int
read_count(struct reader *r, uint32_t *count)
{
    uint64_t n = 0;
    const char *first = r->at;
    for (; *r->at >= '0' && *r->at <= '9' && n <= MPE_STRUCT_BYTES; r->at++)
        n = 10 * n + (uint64_t)(*r->at - '0');
    *count = (uint32_t)n;
    return r->at == first || (*first != '0' && n <= MPE_STRUCT_BYTES);
}

static int read_struct(struct reader *r);

/* Reads a type; 0 when it is none. */
static int
read_type(struct reader *r, mpe_field *f, size_t *align)
{
    struct reader inner = {.at = r->at + 1, .align = 1, .depth = r->depth - 1};
    f->type = *r->at;
    f->layout = NULL;
    f->size = (uint32_t)mpe_type_size(f->type);
    *align = f->size;
    if (f->type != '{')
        return f->size > 0 && (r->at++, read_count(r, &f->count));
    if (r->depth == 0 || !read_struct(&inner) || *inner.at != '}')
        return 0;
    f->type = MPE_STRUCT;
    f->layout = r->at + 1;
    f->size = (uint32_t)inner.size;
    f->count = 0;
    *align = inner.align;
    r->at = inner.at + 1;
    return 1;
}

static uint64_t
aligned(uint64_t size, size_t align)
{
    return (size + align - 1) & ~(uint64_t)(align - 1);
}

/* Reads a field, "name:type" or "name:typeN". 0 when it is none. */
static int
read_field(struct reader *r, mpe_field *f)
{
    const char *name = r->at;
    size_t align;
    while (is_name(*r->at, r->at == name))
        r->at++;
    f->name = (mpe_bytes){name, (size_t)(r->at - name)};
    if (r->at == name || *r->at++ != ':' || !read_type(r, f, &align))
        return 0;
    f->offset = (uint32_t)aligned(r->size, align);
    r->size = f->offset + (uint64_t)f->size * (f->count ? f->count : 1);
    r->align = align > r->align ? align : r->align;
    return r->size <= MPE_STRUCT_BYTES;
}

/* Does an earlier field have its name? */
static int
is_twice(const char *layout, const mpe_field *f)
{
    const char *name = f->name.data;
    int depth = 0;
    for (const char *p = layout; p < name; p++) {
        depth += (*p == '{') - (*p == '}');
        if (depth == 0 && (p == layout || p[-1] == ',') && strncmp(p, name, f->name.size + 1) == 0)
            return 1;
    }
    return 0;
}

/* Reads all fields, up to what is no comma. 0 when they are none. */
static int
read_struct(struct reader *r)
{
    const char *layout = r->at;
    mpe_field f;
    do
        if (!read_field(r, &f) || is_twice(layout, &f))
            return 0;
    while (*r->at == ',' && r->at++);
    r->size = aligned(r->size, r->align);
    return 1;
}

size_t
mpe_struct_size(const char *layout)
{
    struct reader r = {.at = layout, .align = 1, .depth = MPE_STRUCT_DEPTH};
    return layout && read_struct(&r) && *r.at == '\0' ? (size_t)r.size : 0;
}

int
mpe_struct_field(const char *layout, size_t index, mpe_field *out)
{
    struct reader r = {.at = layout, .align = 1, .depth = MPE_STRUCT_DEPTH};
    mpe_field f;
    if (!layout || !out)
        return MPE_EINVAL;
    while (read_field(&r, &f) && (*r.at == ',' || *r.at == '}' || *r.at == '\0')) {
        if (index-- == 0) {
            *out = f;
            return MPE_OK;
        }
        if (*r.at++ != ',')
            return MPE_ERANGE;
    }
    return MPE_EINVAL;
}

/* ---- arrays ---- */

int
mpe_struct_create(mpe_engine *e, const char *layout, uint64_t length, uint32_t columns,
                  unsigned flags, mpe_object **out)
{
    size_t size = mpe_struct_size(layout);
    uint64_t bytes;
    if (!out || size == 0 || (columns && length % columns))
        return MPE_EINVAL;
    size_t text = strlen(layout) + 1, spare = flags & MPE_ARRAY_RAW ? 0 : 15 + size;
    if (__builtin_mul_overflow(length, (uint64_t)size, &bytes) || bytes > UINT64_MAX >> 8)
        return MPE_EARENA;
    mpe_object *o;
    int rc = mpe__array_begin(
        e, flags,
        sizeof(struct mpe__struct_array) - sizeof(struct mpe__array) + bytes + text + spare, &o);
    if (rc != MPE_OK)
        return rc;
    struct mpe__struct_array *a = mpe__body(e, o);
    a->head = (struct mpe__array){.length = length, .type = MPE_STRUCT, .columns = columns};
    a->size = (uint32_t)size;
    a->layout_bytes = (uint32_t)text;
    memcpy((uint8_t *)(a + 1) + bytes, layout, text);
    return mpe__object_finish(e, o, out);
}

const char *
mpe_struct_layout(mpe_engine *e, mpe_object *o)
{
    mpe_elements s;
    if (mpe_array_elements(e, o, &s) != MPE_OK || s.type != MPE_STRUCT)
        return NULL;
    if (mpe_kind_of(o) == MPE_KIND_ARRAY_VIEW)
        return mpe__at(e, ((struct mpe__array_view *)mpe__body(e, o))->layout_off);
    return (char *)s.first + s.length * s.size;
}

static int
find_name(const char *layout, const char *name, size_t size, mpe_field *f)
{
    for (size_t i = 0; mpe_struct_field(layout, i, f) == MPE_OK; i++)
        if (f->name.size == size && memcmp(f->name.data, name, size) == 0)
            return 1;
    return 0;
}

/* The field of a path, "x" or "position.x", with its offset in the element. */
static int
find_field(const char *layout, const char *path, mpe_field *f)
{
    uint32_t offset = 0;
    for (;;) {
        size_t size = strcspn(path, ".");
        if (!layout || !find_name(layout, path, size, f))
            return 0;
        f->offset += offset;
        if (path[size] == '\0')
            return 1;
        offset = f->offset;
        layout = f->layout;
        path += size + 1;
    }
}

int
mpe_field_view(mpe_engine *e, mpe_object *o, const char *path, uint32_t index, mpe_object **out)
{
    mpe_elements s;
    mpe_field f;
    if (!path || !out)
        return MPE_EINVAL;
    int rc = mpe_array_elements(e, o, &s);
    if (rc != MPE_OK)
        return rc;
    if (s.type != MPE_STRUCT)
        return MPE_ETYPE;
    if (!find_field(mpe_struct_layout(e, o), path, &f) || index >= (f.count ? f.count : 1))
        return MPE_ERANGE;
    if (f.type == MPE_STRUCT)
        return MPE_ETYPE;
    mpe_elements part = {.first = (uint8_t *)s.first + f.offset + index * f.size,
                         .length = s.length,
                         .step = s.step * (int64_t)(s.size / f.size),
                         .columns = s.columns,
                         .size = f.size,
                         .type = f.type};
    return mpe__array_view_create(e, o, &part, out);
}
