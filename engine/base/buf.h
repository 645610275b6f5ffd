/* SPDX-License-Identifier: MIT */
/*
** buf.h - the byte buffer as engine files see it: the public part, and whose memory it takes.
*/
#ifndef MPE_BASE_BUF_H
#define MPE_BASE_BUF_H

#include "base/memory.h"
#include "mpengine_wire.h"

/* From now on the buffer takes memory from this allocator, if it has none yet. */
static inline void
mpe__buf_adopt(mpe_buf *b, const struct mpe__memory *m)
{
    if (MPE__LIKELY(!m->call) || b->data != b->small)
        return;
    b->alloc = m->call;
    b->alloc_ud = m->ud;
}

static inline void
mpe__buf_init(mpe_buf *b, const struct mpe__memory *m)
{
    mpe_buf_init(b);
    mpe__buf_adopt(b, m);
}

#endif
