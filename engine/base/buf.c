/* SPDX-License-Identifier: MIT */
/*
** buf.c - a growable byte buffer with room for a small message inside itself.
**
** It takes memory from malloc, or from the allocator that mpe__buf_adopt gave it while it had none.
** Owns the memory at `data` unless that is `small`.  Invariant: len <= cap, and data is `small`
** exactly when cap is MPE_BUF_INLINE.  Growth doubles, so appending is amortised constant.
** It does not know what the bytes mean (wire.c does) and is not safe for two threads at once.
*/
#include <string.h>

#include "base/buf.h"

void
mpe_buf_init(mpe_buf *b)
{
    b->data = b->small;
    b->len = 0;
    b->cap = MPE_BUF_INLINE;
    b->alloc = NULL;
}

static struct mpe__memory
memory_of(const mpe_buf *b)
{
    return (struct mpe__memory){b->alloc, b->alloc_ud};
}

void
mpe_buf_free(mpe_buf *b)
{
    if (b->data != b->small) {
        struct mpe__memory m = memory_of(b);
        mpe__delete(&m, b->data, b->cap);
    }
    mpe_buf_init(b);
}

void
mpe_buf_reset(mpe_buf *b, size_t keep)
{
    if (b->cap > keep)
        mpe_buf_free(b);
    b->len = 0;
}

static size_t
grown_cap(const mpe_buf *b, size_t need)
{
    size_t cap = b->cap;

    while (cap < need)
        cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    return cap < 512 ? 512 : cap;
}

int
mpe_buf_grow(mpe_buf *b, size_t n)
{
    uint8_t *data;
    size_t cap;

    if (b->cap - b->len >= n)
        return MPE_OK;
    if (n > SIZE_MAX / 2 - b->len)
        return MPE_ENOMEM;
    cap = grown_cap(b, b->len + n);
    struct mpe__memory m = memory_of(b);
    if (b->data == b->small)
        data = mpe__new(&m, cap);
    else
        data = mpe__renew(&m, b->data, b->cap, cap);
    if (data == NULL)
        return MPE_ENOMEM;
    if (b->data == b->small)
        memcpy(data, b->small, b->len);
    b->data = data;
    b->cap = cap;
    return MPE_OK;
}

int
mpe_buf_append(mpe_buf *b, const void *bytes, size_t n)
{
    uint8_t *p = mpe_buf_room(b, n);

    if (p == NULL)
        return MPE_ENOMEM;
    if (n > 0)
        memcpy(p, bytes, n);
    b->len += n;
    return MPE_OK;
}
