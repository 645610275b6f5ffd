/* SPDX-License-Identifier: MIT */
/* Values and C: pack and unpack a sequence of values by a format of one letter each, and walk a
 * snapshot. The bytes are those of mpengine_wire.h, so a script reads what C has packed and the
 * other way round. Both calls do all or nothing.
 */
#include "base/wire.h"
#include "core/object.h"
#include "objects/doors.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

/* ---- packing ---- */

static int
pack_object(mpe_engine *e, mpe_buf *out, mpe_object *o)
{
    if (!mpe__admits(e, o, MPE__ANY_KIND))
        return mpe__refusal(e, o, MPE__ANY_KIND);
    return mpe_wire_put_handle(out, mpe_handle_of(e, o));
}

static int
pack_bytes(mpe_buf *out, const void *bytes, size_t size)
{
    return !bytes && size > 0 ? MPE_EINVAL : mpe_wire_put_str(out, bytes ? bytes : "", size);
}

/* A list of arguments as a struct, so that a function can take from it. */
struct arguments {
    va_list list;
};

static int
pack_one(mpe_engine *e, mpe_buf *out, char letter, struct arguments *a)
{
    const void *bytes;
    switch (letter) {
    case 'n':
        return mpe_wire_put_nil(out);
    case 'b':
        return mpe_wire_put_bool(out, va_arg(a->list, int) != 0);
    case 'i':
        return mpe_wire_put_int(out, va_arg(a->list, int64_t));
    case 'd':
        return mpe_wire_put_float(out, va_arg(a->list, double));
    case 'z':
        bytes = va_arg(a->list, const char *);
        return bytes ? pack_bytes(out, bytes, strlen(bytes)) : MPE_EINVAL;
    case 's':
        bytes = va_arg(a->list, const void *);
        return pack_bytes(out, bytes, va_arg(a->list, size_t));
    case 'o':
        return pack_object(e, out, va_arg(a->list, mpe_object *));
    default:
        return MPE_EINVAL;
    }
}

int
mpe_pack(mpe_engine *e, mpe_buf *out, const char *format, ...)
{
    struct arguments a;
    int rc = MPE_OK;
    if (!out || !format)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    mpe__buf_adopt(out, &e->memory);
    if (format[strspn(format, "nbidzso")])
        return MPE_EINVAL;
    size_t before = out->len;
    va_start(a.list, format);
    for (; *format && rc == MPE_OK; format++)
        rc = pack_one(e, out, *format, &a);
    va_end(a.list);
    if (rc != MPE_OK)
        out->len = before;
    return rc;
}

/* ---- reading one value, whatever it is ---- */

/* A value that has begun: how many of its parts are still to come, and whether pairs follow them
 * until the end of the table. */
struct level {
    uint64_t parts;
    int open, has_key;
};

/* Counts an item as a part of the value at the top: 1 when it ends an open table. */
static int
count_part(struct level *top, const mpe_wire_item *item)
{
    if (item->kind == MPE_WIRE_END)
        return top->parts == 0 && top->open && !top->has_key ? 1 : MPE_ECORRUPT;
    if (top->parts > 0)
        top->parts--;
    else
        top->has_key = !top->has_key; /* of an open table: others are left at once */
    return 0;
}

/* Reads the parts of the value whose first item is *item. */
static int
skip_parts(const mpe_engine *e, mpe_wire_reader *r, const mpe_wire_item *first)
{
    mpe_wire_item item = *first;
    mpe_buf levels;
    int rc = MPE_OK;
    mpe__buf_init(&levels, &e->memory);
    do {
        struct level l = {.parts = mpe__wire_parts(&item),
                          .open = item.kind == MPE_WIRE_TABLE && item.open};
        if (item.kind != MPE_WIRE_END && (l.parts > 0 || l.open))
            rc = mpe_buf_append(&levels, &l, sizeof l);
        while (rc == MPE_OK && levels.len > 0) {
            memcpy(&l, levels.data + levels.len - sizeof l, sizeof l);
            if (l.parts > 0 || l.open)
                break;
            levels.len -= sizeof l;
        }
        if (rc != MPE_OK || levels.len == 0)
            break;
        if (mpe_wire_read(r, &item) <= 0)
            rc = MPE_ECORRUPT;
        else if ((rc = count_part(&l, &item)) == 1) {
            l.open = 0;
            rc = MPE_OK;
        }
        memcpy(levels.data + levels.len - sizeof l, &l, sizeof l);
    } while (rc == MPE_OK);
    mpe_buf_free(&levels);
    return rc;
}

/* The value that a reference means: of the number, or at the offset. */
static int
resolve(const mpe_wire_reader *r, mpe_wire_item *item)
{
    mpe_wire_reader all;
    mpe_wire_item one = {.kind = MPE_WIRE_NIL};
    size_t at = item->n, before = item->at;
    mpe_wire_open(&all, r->base, (size_t)(r->end - r->base));
    if (item->kind == MPE_WIRE_REF) {
        size_t number = item->n + 1;
        while (number > 0) {
            if (mpe_wire_read(&all, &one) <= 0 || one.at >= before)
                return MPE_ECORRUPT;
            number -= one.kind == MPE_WIRE_REFNEW;
        }
        at = one.n;
    }
    if (at >= before)
        return MPE_ECORRUPT;
    all.at = r->base + at;
    if (mpe_wire_read(&all, item) <= 0 || !item->marked)
        return MPE_ECORRUPT;
    return MPE_OK;
}

/* Reads one value: its first item, a reference being that which it means. */
static int
read_value(const mpe_engine *e, mpe_wire_reader *r, mpe_wire_item *item)
{
    int rc = mpe_wire_read(r, item);
    if (rc <= 0)
        return rc < 0 ? rc : MPE_ETYPE;
    if (item->kind == MPE_WIRE_END || item->kind == MPE_WIRE_CELL || item->kind == MPE_WIRE_CELLREF)
        return MPE_ECORRUPT;
    rc = skip_parts(e, r, item);
    if (rc == MPE_OK && (item->kind == MPE_WIRE_REF || item->kind == MPE_WIRE_REFNEW))
        rc = resolve(r, item);
    return rc;
}

/* ---- unpacking ---- */

static int
to_integer(const mpe_wire_item *item, int64_t *i)
{
    if (item->kind == MPE_WIRE_INT) {
        *i = item->u.i;
        return MPE_OK;
    }
    if (item->kind != MPE_WIRE_FLOAT || !(item->u.f >= -0x1p63 && item->u.f < 0x1p63) ||
        item->u.f != floor(item->u.f))
        return MPE_ETYPE;
    *i = (int64_t)item->u.f;
    return MPE_OK;
}

static int
to_float(const mpe_wire_item *item, double *d)
{
    if (item->kind != MPE_WIRE_FLOAT && item->kind != MPE_WIRE_INT)
        return MPE_ETYPE;
    *d = item->kind == MPE_WIRE_FLOAT ? item->u.f : (double)item->u.i;
    return MPE_OK;
}

static int
to_bytes(const mpe_wire_item *item, const void **bytes, size_t *size)
{
    if (item->kind != MPE_WIRE_STR)
        return MPE_ETYPE;
    if (bytes)
        *bytes = item->u.bytes;
    if (size)
        *size = item->n;
    return MPE_OK;
}

/* Copies a text, when write is 1; text NULL: any length is fine. */
static int
to_text(const mpe_wire_item *item, char *text, size_t size, int write)
{
    if (item->kind != MPE_WIRE_STR || (item->n > 0 && memchr(item->u.bytes, 0, item->n)))
        return MPE_ETYPE;
    if (text && item->n >= size)
        return MPE_ERANGE;
    if (text && write) {
        memcpy(text, item->u.bytes, item->n);
        text[item->n] = 0;
    }
    return MPE_OK;
}

/* What a call of unpack works on: first everything is checked and the objects are held, then it is
 * written, and the objects are passed on. */
struct unpacking {
    mpe_engine *e;
    int write;
    mpe_object **held;
    size_t objects; /* of this pass */
};

static int
to_object(struct unpacking *u, const mpe_wire_item *item, mpe_object **out)
{
    if (u->write) {
        mpe_object *o = u->held[u->objects++];
        if (out)
            *out = o;
        else
            mpe_drop(u->e, o);
        return MPE_OK;
    }
    if (item->kind != MPE_WIRE_HANDLE)
        return MPE_ETYPE;
    int rc = mpe_hold(u->e, item->u.h, &u->held[u->objects]);
    u->objects += rc == MPE_OK;
    return rc;
}

/* Reads a number or boolean for a pointer that may be NULL. */
static int
unpack_scalar(struct unpacking *u, char letter, const mpe_wire_item *item, void *to)
{
    int64_t i;
    double d;
    int rc = MPE_OK;
    switch (letter) {
    case 'n':
        return item->kind == MPE_WIRE_NIL ? MPE_OK : MPE_ETYPE;
    case 'b':
        if (item->kind != MPE_WIRE_BOOL)
            return MPE_ETYPE;
        if (to && u->write)
            *(int *)to = (int)item->u.i;
        return MPE_OK;
    case 'i':
        if ((rc = to_integer(item, &i)) == MPE_OK && to && u->write)
            *(int64_t *)to = i;
        return rc;
    default:
        if ((rc = to_float(item, &d)) == MPE_OK && to && u->write)
            *(double *)to = d;
        return rc;
    }
}

static int
unpack_one(struct unpacking *u, char letter, const mpe_wire_item *item, struct arguments *a)
{
    const void **bytes;
    size_t *size;
    char *text;
    switch (letter) {
    case '?':
        return MPE_OK;
    case 'n':
        return unpack_scalar(u, letter, item, NULL);
    case 'z':
        text = va_arg(a->list, char *);
        return to_text(item, text, va_arg(a->list, size_t), u->write);
    case 's':
        bytes = va_arg(a->list, const void **);
        size = va_arg(a->list, size_t *);
        return u->write ? to_bytes(item, bytes, size) : to_bytes(item, NULL, NULL);
    case 'o':
        return to_object(u, item, va_arg(a->list, mpe_object **));
    default:
        return unpack_scalar(u, letter, item, va_arg(a->list, void *));
    }
}

/* One pass over message and format. */
static int
unpack(struct unpacking *u, mpe_bytes message, const char *format, struct arguments *a)
{
    mpe_wire_reader r;
    mpe_wire_item item;
    int rc = MPE_OK;
    mpe_wire_open(&r, message.data, message.size);
    u->objects = 0;
    for (; *format && rc == MPE_OK; format++)
        if ((rc = read_value(u->e, &r, &item)) == MPE_OK)
            rc = unpack_one(u, *format, &item, a);
    if (rc == MPE_OK && r.at != r.end) {
        rc = read_value(u->e, &r, &item);
        rc = rc == MPE_OK ? MPE_ETYPE : rc; /* there are more */
    }
    return rc;
}

/* How often the letter o is there. */
static size_t
count_objects(const char *format)
{
    size_t n = 0;
    for (; *format; format++)
        n += *format == 'o';
    return n;
}

int
mpe_unpack(mpe_engine *e, const void *data, size_t size, const char *format, ...)
{
    mpe_object *few[8];
    struct unpacking u = {.e = e, .held = few};
    struct arguments a;
    mpe_bytes message = {data ? data : "", size};
    if (!e || !format || (!data && size > 0))
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    if (format[strspn(format, "nbidzso?")])
        return MPE_EINVAL;
    size_t objects = count_objects(format);
    if (objects > 8 && !(u.held = mpe__new(&e->memory, objects * sizeof *u.held)))
        return MPE_ENOMEM;
    va_start(a.list, format);
    int rc = unpack(&u, message, format, &a);
    va_end(a.list);
    while (rc != MPE_OK && u.objects > 0)
        mpe_drop(e, u.held[--u.objects]);
    if (rc == MPE_OK) {
        u.write = 1;
        va_start(a.list, format);
        unpack(&u, message, format, &a);
        va_end(a.list);
    }
    if (u.held != few)
        mpe__delete(&e->memory, u.held, objects * sizeof *u.held);
    return rc;
}

/* ---- snapshots ---- */

int
mpe_next(const mpe_buf *snapshot, size_t *at, mpe_bytes *key, mpe_bytes *value)
{
    uint32_t sizes[2];
    if (!snapshot || !at)
        return MPE_EINVAL;
    if (*at == snapshot->len)
        return MPE_ENOENT;
    if (*at > snapshot->len || snapshot->len - *at < sizeof sizes)
        return MPE_ECORRUPT;
    const uint8_t *p = snapshot->data + *at;
    memcpy(sizes, p, sizeof sizes);
    uint64_t bytes = ((uint64_t)sizes[0] + sizes[1] + 7) & ~(uint64_t)7;
    if (bytes > snapshot->len - *at - sizeof sizes)
        return MPE_ECORRUPT;
    p += sizeof sizes;
    if (key)
        *key = (mpe_bytes){p, sizes[0]};
    if (value)
        *value = (mpe_bytes){p + sizes[0], sizes[1]};
    *at += sizeof sizes + bytes;
    return MPE_OK;
}
