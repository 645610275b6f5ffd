/* SPDX-License-Identifier: MIT */
/* Structs as elements of arrays: the layout, which is a text, and views of one field.
 *
 * The array has a larger head than others, and its layout behind the elements, where it never
 * changes: every process that has the array knows its fields. Whole elements are read and written by
 * array_store.c. A view of a field is an ordinary view
 * of numbers whose step is the size of the struct.
 */
#include "core/object.h"
#include "objects/array.h"
#include "objects/doors.h"

#include <string.h>

/* ---- layouts ---- */

/* How far a layout has been read. */
struct reader {
    const char *at;
    uint64_t size; /* of the fields so far */
    size_t align;
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

/* Reads a field, "name:type" or "name:typeN", and the comma behind it. 0 when it is none. */
static int
read_field(struct reader *r, mpe_field *f)
{
    const char *name = r->at;
    while (is_name(*r->at, r->at == name))
        r->at++;
    f->name = (mpe_bytes){name, (size_t)(r->at - name)};
    if (r->at == name || *r->at++ != ':')
        return 0;
    f->type = *r->at;
    size_t size = mpe_type_size(f->type);
    if (size == 0 || (r->at++, !read_count(r, &f->count)))
        return 0;
    if (*r->at == ',' ? !is_name(*++r->at, 1) : *r->at != '\0')
        return 0;
    f->offset = (uint32_t)((r->size + size - 1) & ~(uint64_t)(size - 1));
    r->size = f->offset + size * (f->count ? f->count : 1);
    r->align = size > r->align ? size : r->align;
    return r->size <= MPE_STRUCT_BYTES;
}

static int
is_named(const mpe_field *f, const char *name, size_t size)
{
    return f->name.size == size && memcmp(f->name.data, name, size) == 0;
}

static int
is_twice(const char *layout, const mpe_field *f)
{
    mpe_field other;
    struct reader r = {.at = layout};
    while (read_field(&r, &other) && other.name.data != f->name.data)
        if (is_named(f, other.name.data, other.name.size))
            return 1;
    return 0;
}

size_t
mpe_struct_size(const char *layout)
{
    struct reader r = {.at = layout, .align = 1};
    mpe_field f;
    if (!layout)
        return 0;
    do
        if (!read_field(&r, &f) || is_twice(layout, &f))
            return 0;
    while (*r.at);
    return (size_t)((r.size + r.align - 1) & ~(uint64_t)(r.align - 1));
}

int
mpe_struct_field(const char *layout, size_t index, mpe_field *out)
{
    struct reader r = {.at = layout};
    mpe_field f;
    if (!layout || !out)
        return MPE_EINVAL;
    do {
        if (*r.at == '\0' && r.at != layout)
            return MPE_ERANGE;
        if (!read_field(&r, &f))
            return MPE_EINVAL;
    } while (index-- > 0);
    *out = f;
    return MPE_OK;
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
find_field(const char *layout, const char *name, mpe_field *f)
{
    size_t size = strlen(name);
    for (size_t i = 0; mpe_struct_field(layout, i, f) == MPE_OK; i++)
        if (is_named(f, name, size))
            return 1;
    return 0;
}

int
mpe_field_view(mpe_engine *e, mpe_object *o, const char *name, uint32_t index, mpe_object **out)
{
    mpe_elements s;
    mpe_field f;
    if (!name || !out)
        return MPE_EINVAL;
    int rc = mpe_array_elements(e, o, &s);
    if (rc != MPE_OK)
        return rc;
    if (s.type != MPE_STRUCT)
        return MPE_ETYPE;
    if (!find_field(mpe_struct_layout(e, o), name, &f) || index >= (f.count ? f.count : 1))
        return MPE_ERANGE;
    size_t size = mpe_type_size(f.type);
    mpe_elements part = {.first = (uint8_t *)s.first + f.offset + index * size,
                         .length = s.length,
                         .step = s.step * (int64_t)(s.size / size),
                         .columns = s.columns,
                         .size = size,
                         .type = f.type};
    return mpe__array_view_create(e, o, &part, out);
}
