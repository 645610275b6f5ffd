/* SPDX-License-Identifier: MIT */
/*
** mpengine_wire.h - values as bytes: the part of the C API that needs no Lua.
**
** Everything that crosses a process boundary (arguments, queue items, dict values, results,
** errors) is one message: a sequence of tagged values, one after the other, up to the end of
** the bytes.  This header lets a C program write such messages and read them, so that a C host
** and a Lua script can talk through the same queue.
**
**     mpe_buf b;                                  mpe_wire_reader r;
**     size_t t;                                   mpe_wire_item it;
**     mpe_buf_init(&b);                           mpe_wire_open(&r, data, len);
**     mpe_wire_begin_table(&b, 2, &t);            while ((rc = mpe_wire_read(&r, &it)) > 0)
**     mpe_wire_put_int(&b, 7);                        switch (it.kind) { ... }
**     mpe_wire_put_str(&b, "seven", 5);
**     mpe_wire_end_table(&b, t, 0);
**
** Writers return 0, or MPE_ENOMEM and leave the buffer as it was.  Readers never look outside
** the bytes they were given; damage is MPE_ECORRUPT.  Nothing here blocks, raises, prints or
** keeps state between calls; a buffer or reader belongs to one thread at a time.  Comments have the
** form that mpengine.h describes.
**
** The byte layout is the list of tags at the end.
*/
#ifndef MPENGINE_WIRE_H
#define MPENGINE_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include <string.h>

#include "mpengine.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------------ byte buffer */

#define MPE_BUF_INLINE 256

/*
** A growable byte buffer.  The first MPE_BUF_INLINE bytes need no allocation, so it can live on
** the C stack for small messages; kept in a long-lived structure it is scratch space that stops
** allocating once it has grown.  Never copy it by value: `data` may point into itself.  A call that
** takes an engine and a buffer has the buffer grow by the allocator of the engine
** (mpe_config.alloc), which is then needed until the buffer is freed; otherwise it is malloc.
*/
struct mpe_buf {
    uint8_t *data;
    size_t len; /* bytes used */
    size_t cap; /* bytes available at data */
    void *(*alloc)(void *ud, void *block, size_t old_size, size_t size); /* private; NULL: malloc */
    void *alloc_ud;                                                      /* private */
    uint8_t small[MPE_BUF_INLINE];
};

/* Makes an empty buffer.  Ownership: the caller must mpe_buf_free it. */
MPE_API void mpe_buf_init(mpe_buf *b);

/* Releases the memory and makes it an empty, usable buffer again. */
MPE_API void mpe_buf_free(mpe_buf *b);

/* Empties the buffer, and frees its memory when that is more than `keep` bytes. */
MPE_API void mpe_buf_reset(mpe_buf *b, size_t keep);

/* Makes room for n more bytes (len is unchanged).  Errors: ENOMEM. */
MPE_API int mpe_buf_grow(mpe_buf *b, size_t n);

/* Appends n bytes.  Errors: ENOMEM. */
MPE_API int mpe_buf_append(mpe_buf *b, const void *bytes, size_t n);

/* The address for the next n bytes, or NULL without memory; the caller advances len. */
static inline uint8_t *
mpe_buf_room(mpe_buf *b, size_t n)
{
    if (b->cap - b->len < n && mpe_buf_grow(b, n) != MPE_OK)
        return NULL;
    return b->data + b->len;
}

/* ---------------------------------------------------------------------------- writing */

/* Writes nil.  Errors: ENOMEM. */
MPE_API int mpe_wire_put_nil(mpe_buf *b);
/* Writes false (0) or true.  Errors: ENOMEM. */
MPE_API int mpe_wire_put_bool(mpe_buf *b, int value);
/* Writes an integer.  Errors: ENOMEM. */
MPE_API int mpe_wire_put_int(mpe_buf *b, int64_t value);
/* Writes a float.  Errors: ENOMEM. */
MPE_API int mpe_wire_put_float(mpe_buf *b, double value);
/* Writes a string of n bytes.  Errors: ENOMEM. */
MPE_API int mpe_wire_put_str(mpe_buf *b, const void *bytes, size_t n);
/* Writes a shared object, by its handle.  Errors: ENOMEM. */
MPE_API int mpe_wire_put_handle(mpe_buf *b, uint64_t handle);

/*
** Starts a table. Its elements 1..narr follow at once, then key and value of each further pair;
** *mark is for mpe_wire_end_table.  Errors: ENOMEM.
*/
MPE_API int mpe_wire_begin_table(mpe_buf *b, size_t narr, size_t *mark);
/* Ends a table behind whose elements npairs pairs were written.  Errors: ENOMEM. */
MPE_API int mpe_wire_end_table(mpe_buf *b, size_t mark, size_t npairs);

/* The longest header of a string. */
#define MPE_WIRE_STR_HEADER 11
/* Writes the header of a string alone and returns its size; n bytes of the string follow it. */
MPE_API size_t mpe_wire_str_header(uint8_t header[MPE_WIRE_STR_HEADER], size_t n);

/* ---------------------------------------------------------------------------- reading */

enum mpe_wire_kind {
    MPE_WIRE_NIL,
    MPE_WIRE_BOOL,    /* i: 0 or 1 */
    MPE_WIRE_INT,     /* i */
    MPE_WIRE_FLOAT,   /* f */
    MPE_WIRE_STR,     /* bytes, n */
    MPE_WIRE_TABLE,   /* n elements follow, then npairs pairs; open: pairs until MPE_WIRE_END */
    MPE_WIRE_END,     /* ends the pairs of an open table */
    MPE_WIRE_REF,     /* n: number of a value that was referred to before */
    MPE_WIRE_REFNEW,  /* n: offset of the marked value meant, which takes the next number */
    MPE_WIRE_GLOBALS, /* the receiver's table of globals */
    MPE_WIRE_MODULE,  /* n + 1 strings follow: a module's name, n keys that lead to the value */
    MPE_WIRE_META,    /* two values follow: a metatable (its name or MODULE), and its table */
    MPE_WIRE_CLASS,   /* two values follow: the name of a registered metatable, its contents */
    MPE_WIRE_HANDLE,  /* h: a shared object */
    MPE_WIRE_FUNC,    /* code (a string, or a blob's HANDLE) follows, then n CELLs or CELLREFs */
    MPE_WIRE_CELL,    /* a new upvalue: its value follows; it takes the next cell number */
    MPE_WIRE_CELLREF  /* n: an upvalue seen before */
};

typedef struct mpe_wire_item {
    enum mpe_wire_kind kind;
    int marked; /* something further on refers to this value */
    int open;   /* a table whose pairs end with MPE_WIRE_END; npairs is then a size hint */
    size_t at;  /* offset of the value's first byte */
    size_t n;
    size_t npairs;
    union {
        int64_t i;
        double f;
        uint64_t h;
        const uint8_t *bytes; /* inside the message; not zero-terminated */
    } u;
} mpe_wire_item;

typedef struct mpe_wire_reader {
    const uint8_t *base;
    const uint8_t *at;
    const uint8_t *end;
} mpe_wire_reader;

/* Starts reading a message.  Ownership: the bytes stay the caller's, for as long as it is read. */
MPE_API void mpe_wire_open(mpe_wire_reader *r, const void *data, size_t len);

/*
** Reads the next item. Returns 1, or 0 at the end of the message. Counts of a table or a function
** are never larger than the bytes that are left, so they can size an allocation.
** Errors: ECORRUPT.
*/
MPE_API int mpe_wire_read(mpe_wire_reader *r, mpe_wire_item *item);

/*
** Calls f for each shared object that a message holds, in order, repetitions included; a
** non-zero result of f ends the walk and is returned.  Errors: ECORRUPT.
*/
MPE_API int mpe_wire_scan_handles(const void *data, size_t len,
                                  int (*f)(void *arg, uint64_t handle), void *arg);

/* ------------------------------------------------------------------------------ bytes */

/*
** What the bytes are.  The first byte of a value is its tag; numbers of more than one byte are
** little-endian; a count is a LEB128 varint.  Bit 0 (in the short strings bit 5) of the tag of a
** string, table, function or module value is its mark: the writer sets it, afterwards, when
** something further on refers back to that value, so that a reader has to remember only those.
**
**     00..7f              integer 0..127
**     80..9f, a0..bf      string of 0..31 bytes, unmarked, marked; the bytes follow
**     c0..df              reference to the value number 0..31
**     the rest            enum mpe_wire_tag
**
** References.  The first one to a value is REFNEW with the offset, from the start of the message,
** of its tag; that gives the value the next number, from 0, which later references use.
** A table is its tag, the count of its elements, one byte for its pairs, the elements, the pairs.
** That byte is the number of pairs below 128, or else 128 plus the binary logarithm of the space
** to reserve, and the pairs end with END.
*/
enum mpe_wire_tag {
    MPE_TAG_STR0 = 0x80,
    MPE_TAG_STR0_MARKED = 0xa0,
    MPE_TAG_REF0 = 0xc0,
    MPE_TAG_NIL = 0xe0,
    MPE_TAG_FALSE,
    MPE_TAG_TRUE,
    MPE_TAG_FLOAT,                   /* 8 bytes, IEEE 754 */
    MPE_TAG_POS1,                    /* ..POS4: that many bytes, the value */
    MPE_TAG_NEG1 = MPE_TAG_POS1 + 4, /* ..NEG4: the complement of the value */
    MPE_TAG_INT6 = MPE_TAG_NEG1 + 4, /* two's complement */
    MPE_TAG_INT8,
    MPE_TAG_STR = 0xee, /* count, bytes */
    MPE_TAG_TABLE = 0xf0,
    MPE_TAG_FUNC = 0xf2,   /* count of upvalues, code, upvalues */
    MPE_TAG_MODULE = 0xf4, /* count of keys, name, keys: unmarked strings */
    MPE_TAG_CELL = 0xf6,   /* value */
    MPE_TAG_CELLREF,       /* number of the cell */
    MPE_TAG_REF,           /* number */
    MPE_TAG_REFNEW,        /* offset */
    MPE_TAG_GLOBALS,
    MPE_TAG_META,   /* name or MODULE, table */
    MPE_TAG_HANDLE, /* 8 bytes */
    MPE_TAG_HANDLE_MARKED,
    MPE_TAG_END,
    MPE_TAG_CLASS /* name, table */
};

#define MPE_WIRE_SHORT 31      /* longest string with a header of one byte */
#define MPE_WIRE_NEAR 32       /* references with a header of one byte */
#define MPE_WIRE_FEW_PAIRS 127 /* most pairs that are counted */
#define MPE_WIRE_SCALAR_MAX 9  /* most bytes of anything but a string or container */
#define MPE_WIRE_VARINT_MAX 10

/*
** The writers behind the calls above: they write at p, where the room is known to suffice
** (MPE_WIRE_SCALAR_MAX bytes; some of them may be overwritten later), and return the end.
*/
static inline uint64_t
mpe_wire_le64(uint64_t v)
{
    return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? v : __builtin_bswap64(v);
}

static inline uint8_t *
mpe_wire_write_u64(uint8_t *p, uint8_t tag, uint64_t v)
{
    v = mpe_wire_le64(v);
    *p++ = tag;
    memcpy(p, &v, 8);
    return p + 8;
}

static inline uint8_t *
mpe_wire_write_int(uint8_t *p, int64_t v)
{
    uint64_t u = (uint64_t)(v ^ (v >> 63));
    unsigned bytes;

    if ((uint64_t)v < 128) {
        *p = (uint8_t)v;
        return p + 1;
    }
    bytes = (71u - (unsigned)__builtin_clzll(u | 1)) / 8;
    if (bytes <= 4) {
        mpe_wire_write_u64(
            p, (uint8_t)((v < 0 ? 1u * MPE_TAG_NEG1 : 1u * MPE_TAG_POS1) + bytes - 1), u);
        return p + 1 + bytes;
    }
    if (u < UINT64_C(1) << 47) {
        mpe_wire_write_u64(p, MPE_TAG_INT6, (uint64_t)v);
        return p + 7;
    }
    return mpe_wire_write_u64(p, MPE_TAG_INT8, (uint64_t)v);
}

static inline uint8_t *
mpe_wire_write_float(uint8_t *p, double v)
{
    uint64_t bits;

    memcpy(&bits, &v, 8);
    return mpe_wire_write_u64(p, MPE_TAG_FLOAT, bits);
}

static inline uint8_t *
mpe_wire_write_varint(uint8_t *p, uint64_t v)
{
    while (v >= 128) {
        *p++ = (uint8_t)(v | 128);
        v >>= 7;
    }
    *p++ = (uint8_t)v;
    return p;
}

/* The varint at *pp: 0 and *pp behind it, or MPE_ECORRUPT. */
static inline int
mpe_wire_read_varint(const uint8_t **pp, const uint8_t *end, uint64_t *v)
{
    const uint8_t *p = *pp;
    uint64_t sum = 0;
    unsigned shift;

    for (shift = 0; shift < 64 && p < end; shift += 7) {
        sum |= (uint64_t)(*p & 127) << shift;
        if (*p++ < 128) {
            *pp = p;
            *v = sum;
            return MPE_OK;
        }
    }
    return MPE_ECORRUPT;
}

/* The integer after a tag POS1..INT8, 8 readable bytes or not: its length 1..8. */
static inline unsigned
mpe_wire_int_width(uint8_t tag)
{
    if (tag >= MPE_TAG_INT6)
        return tag == MPE_TAG_INT6 ? 6 : 8;
    return ((unsigned)(tag - MPE_TAG_POS1) & 3) + 1;
}

static inline int64_t
mpe_wire_read_int(uint8_t tag, const uint8_t *p, unsigned width)
{
    uint64_t u = 0;

    memcpy(&u, p, width);
    u = mpe_wire_le64(u);
    if (tag == MPE_TAG_INT6)
        return (int64_t)(u << 16) >> 16;
    return (int64_t)(tag >= MPE_TAG_NEG1 && tag < MPE_TAG_INT6 ? ~u : u);
}

#ifdef __cplusplus
}
#endif

#endif
