/* SPDX-License-Identifier: MIT */
/*
** wire.c - the format in which values cross a process boundary: writers and readers in plain C.
**
** The layout of the bytes is at the end of mpengine_wire.h.  This file writes single items and
** reads them back, one at a time; its callers handle references and turn items into values (in
** Lua: bindings/codec/lcodec*.c).  Nothing here recurses, so nesting costs
** no C stack; nothing allocates except the buffer that is written to.
**
** Reading trusts nothing: every length is compared with the bytes that are left before it is
** used, and an item that does not lie wholly inside the message is MPE_ECORRUPT.
*/
#include "base/wire.h"

/* ------------------------------------------------------------------------------ writing */

static int
put_tag(mpe_buf *b, uint8_t tag)
{
    uint8_t *p = mpe_buf_room(b, 1);

    if (p == NULL)
        return MPE_ENOMEM;
    *p = tag;
    b->len++;
    return MPE_OK;
}

int
mpe_wire_put_nil(mpe_buf *b)
{
    return put_tag(b, MPE_TAG_NIL);
}

int
mpe_wire_put_bool(mpe_buf *b, int value)
{
    return put_tag(b, value ? MPE_TAG_TRUE : MPE_TAG_FALSE);
}

int
mpe_wire_put_int(mpe_buf *b, int64_t value)
{
    uint8_t *p = mpe_buf_room(b, MPE_WIRE_SCALAR_MAX);

    if (p == NULL)
        return MPE_ENOMEM;
    b->len += (size_t)(mpe_wire_write_int(p, value) - p);
    return MPE_OK;
}

int
mpe_wire_put_float(mpe_buf *b, double value)
{
    uint8_t *p = mpe_buf_room(b, MPE_WIRE_SCALAR_MAX);

    if (p == NULL)
        return MPE_ENOMEM;
    b->len += (size_t)(mpe_wire_write_float(p, value) - p);
    return MPE_OK;
}

int
mpe_wire_put_handle(mpe_buf *b, uint64_t handle)
{
    uint8_t *p = mpe_buf_room(b, MPE_WIRE_SCALAR_MAX);

    if (p == NULL)
        return MPE_ENOMEM;
    b->len += (size_t)(mpe_wire_write_u64(p, MPE_TAG_HANDLE, handle) - p);
    return MPE_OK;
}

size_t
mpe_wire_str_header(uint8_t header[MPE_WIRE_STR_HEADER], size_t n)
{
    if (n <= MPE_WIRE_SHORT) {
        header[0] = (uint8_t)(MPE_TAG_STR0 + n);
        return 1;
    }
    header[0] = MPE_TAG_STR;
    return (size_t)(mpe_wire_write_varint(header + 1, n) - header);
}

int
mpe_wire_put_str(mpe_buf *b, const void *bytes, size_t n)
{
    uint8_t *p;

    if (n > SIZE_MAX / 2)
        return MPE_ENOMEM;
    p = mpe_buf_room(b, MPE_WIRE_STR_HEADER + n);
    if (p == NULL)
        return MPE_ENOMEM;
    b->len += mpe_wire_str_header(p, n);
    if (n > 0)
        memcpy(b->data + b->len, bytes, n);
    b->len += n;
    return MPE_OK;
}

int
mpe_wire_begin_table(mpe_buf *b, size_t narr, size_t *mark)
{
    uint8_t *start = mpe_buf_room(b, 2 + MPE_WIRE_VARINT_MAX);
    uint8_t *p = start;

    if (p == NULL)
        return MPE_ENOMEM;
    *p++ = MPE_TAG_TABLE;
    p = mpe_wire_write_varint(p, narr);
    *p++ = 0;
    b->len += (size_t)(p - start);
    *mark = b->len - 1;
    return MPE_OK;
}

int
mpe_wire_end_table(mpe_buf *b, size_t mark, size_t npairs)
{
    if (npairs <= MPE_WIRE_FEW_PAIRS) {
        b->data[mark] = (uint8_t)npairs;
        return MPE_OK;
    }
    b->data[mark] = (uint8_t)(128 + 64 - __builtin_clzll((uint64_t)npairs - 1));
    return put_tag(b, MPE_TAG_END);
}

/* ------------------------------------------------------------------------------ reading */

void
mpe_wire_open(mpe_wire_reader *r, const void *data, size_t len)
{
    r->base = data;
    r->at = data;
    r->end = r->base + len;
}

static size_t
left(const mpe_wire_reader *r)
{
    return (size_t)(r->end - r->at);
}

static int
read_bytes(mpe_wire_reader *r, mpe_wire_item *item, enum mpe_wire_kind kind, size_t n)
{
    if (n > left(r))
        return MPE_ECORRUPT;
    item->kind = kind;
    item->n = n;
    item->u.bytes = r->at;
    r->at += n;
    return 1;
}

/* A number that counts nothing in memory: an offset or the number of a value. */
static int
read_number(mpe_wire_reader *r, mpe_wire_item *item, enum mpe_wire_kind kind)
{
    uint64_t n;

    if (mpe_wire_read_varint(&r->at, r->end, &n) != MPE_OK || n > SIZE_MAX)
        return MPE_ECORRUPT;
    item->kind = kind;
    item->n = (size_t)n;
    return 1;
}

/* A count of things that follow, each of at least one byte. */
static int
read_count(mpe_wire_reader *r, mpe_wire_item *item, enum mpe_wire_kind kind)
{
    int rc = read_number(r, item, kind);

    return rc == 1 && item->n > left(r) ? MPE_ECORRUPT : rc;
}

static int
read_long_str(mpe_wire_reader *r, mpe_wire_item *item)
{
    int rc = read_count(r, item, MPE_WIRE_STR);

    return rc == 1 ? read_bytes(r, item, MPE_WIRE_STR, item->n) : rc;
}

static int
read_table(mpe_wire_reader *r, mpe_wire_item *item)
{
    unsigned pairs;
    int rc = read_count(r, item, MPE_WIRE_TABLE);

    if (rc != 1 || left(r) == 0)
        return MPE_ECORRUPT;
    pairs = *r->at++;
    item->open = pairs > MPE_WIRE_FEW_PAIRS;
    pairs -= item->open ? 128 : 0;
    if (item->open && pairs > 62)
        return MPE_ECORRUPT;
    item->npairs = item->open ? (size_t)1 << pairs : pairs;
    /* An open table has more pairs than half of what it asks space for. */
    if (item->n + (item->open ? item->npairs : 2 * item->npairs) > left(r))
        return MPE_ECORRUPT;
    return 1;
}

static int
read_int(mpe_wire_reader *r, mpe_wire_item *item, uint8_t tag)
{
    unsigned width = mpe_wire_int_width(tag);

    if (width > left(r))
        return MPE_ECORRUPT;
    item->kind = MPE_WIRE_INT;
    item->u.i = mpe_wire_read_int(tag, r->at, width);
    r->at += width;
    return 1;
}

static int
read_u64(mpe_wire_reader *r, mpe_wire_item *item, enum mpe_wire_kind kind)
{
    uint64_t v;

    if (left(r) < 8)
        return MPE_ECORRUPT;
    memcpy(&v, r->at, 8);
    r->at += 8;
    item->kind = kind;
    item->u.h = mpe_wire_le64(v); /* a float is the same 8 bytes */
    return 1;
}

static int
read_plain(mpe_wire_item *item, enum mpe_wire_kind kind, int64_t i)
{
    item->kind = kind;
    item->u.i = i;
    return 1;
}

static int
read_tagged(mpe_wire_reader *r, mpe_wire_item *item, uint8_t tag)
{
    switch (tag & (tag >= MPE_TAG_STR && tag < MPE_TAG_CELL ? 0xfe : 0xff)) {
    case MPE_TAG_NIL:
        return read_plain(item, MPE_WIRE_NIL, 0);
    case MPE_TAG_FALSE:
    case MPE_TAG_TRUE:
        return read_plain(item, MPE_WIRE_BOOL, tag == MPE_TAG_TRUE);
    case MPE_TAG_FLOAT:
        return read_u64(r, item, MPE_WIRE_FLOAT);
    case MPE_TAG_STR:
        return read_long_str(r, item);
    case MPE_TAG_TABLE:
        return read_table(r, item);
    case MPE_TAG_FUNC:
        return read_count(r, item, MPE_WIRE_FUNC);
    case MPE_TAG_MODULE:
        return read_count(r, item, MPE_WIRE_MODULE);
    case MPE_TAG_CELL:
        return read_plain(item, MPE_WIRE_CELL, 0);
    case MPE_TAG_CELLREF:
        return read_number(r, item, MPE_WIRE_CELLREF);
    case MPE_TAG_REF:
        return read_number(r, item, MPE_WIRE_REF);
    case MPE_TAG_REFNEW:
        return read_number(r, item, MPE_WIRE_REFNEW);
    case MPE_TAG_GLOBALS:
        return read_plain(item, MPE_WIRE_GLOBALS, 0);
    case MPE_TAG_META:
        return read_plain(item, MPE_WIRE_META, 0);
    case MPE_TAG_CLASS:
        return read_plain(item, MPE_WIRE_CLASS, 0);
    case MPE_TAG_HANDLE:
    case MPE_TAG_HANDLE_MARKED:
        return read_u64(r, item, MPE_WIRE_HANDLE);
    case MPE_TAG_END:
        return read_plain(item, MPE_WIRE_END, 0);
    default:
        return read_int(r, item, tag);
    }
}

int
mpe_wire_read(mpe_wire_reader *r, mpe_wire_item *item)
{
    uint8_t tag;

    if (r->at == r->end)
        return 0;
    item->at = (size_t)(r->at - r->base);
    tag = *r->at++;
    item->marked = 0;
    if (tag < MPE_TAG_STR0)
        return read_plain(item, MPE_WIRE_INT, tag);
    if (tag < MPE_TAG_REF0) {
        item->marked = tag >= MPE_TAG_STR0_MARKED;
        return read_bytes(r, item, MPE_WIRE_STR, tag & MPE_WIRE_SHORT);
    }
    if (tag < MPE_TAG_NIL) {
        item->kind = MPE_WIRE_REF;
        item->n = tag - MPE_TAG_REF0;
        return 1;
    }
    item->marked = (tag > MPE_TAG_STR && tag < MPE_TAG_CELL && (tag & 1)) ||
                   tag == MPE_TAG_HANDLE_MARKED;
    return read_tagged(r, item, tag);
}

uint64_t
mpe__wire_parts(const mpe_wire_item *item)
{
    switch (item->kind) {
    case MPE_WIRE_TABLE:
        return item->n + (item->open ? 0 : 2 * (uint64_t)item->npairs);
    case MPE_WIRE_MODULE:
    case MPE_WIRE_FUNC:
        return item->n + 1;
    case MPE_WIRE_META:
    case MPE_WIRE_CLASS:
        return 2;
    case MPE_WIRE_CELL:
        return 1;
    default:
        return 0;
    }
}

int
mpe_wire_scan_handles(const void *data, size_t len, int (*f)(void *arg, uint64_t handle), void *arg)
{
    mpe_wire_reader r;
    mpe_wire_item item;
    uint64_t due = 0; /* parts of values that have begun */
    int rc;

    mpe_wire_open(&r, data, len);
    while ((rc = mpe_wire_read(&r, &item)) > 0) {
        due += mpe__wire_parts(&item) - (due > 0 && item.kind != MPE_WIRE_END);
        if (item.kind != MPE_WIRE_HANDLE)
            continue;
        rc = f(arg, item.u.h);
        if (rc != 0)
            return rc;
    }
    return rc == 0 && due > 0 ? MPE_ECORRUPT : rc;
}
