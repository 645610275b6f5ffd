/* SPDX-License-Identifier: MIT */
/*
** lcodec_memo.h - the objects a message holds already: an open-addressing map by address.
**
** A slot is live when its gen is the memo's, so starting over costs an increment and no clearing.
** `at` is the offset of the object's tag; or, once something has referred to the object
** (numbered), the number that references use.  The map owns its slots and nothing they point to:
** the objects must stay alive and unmoved while the message is made.
*/
#ifndef LMPE_CODEC_MEMO_H
#define LMPE_CODEC_MEMO_H

#include <stddef.h>
#include <stdint.h>

typedef struct lmpe_memo_slot {
    const void *key;
    uint32_t at;
    uint32_t gen; /* bit 0: numbered */
} lmpe_memo_slot;

typedef struct lmpe_memo {
    lmpe_memo_slot *slots;
    uint32_t mask;    /* slots - 1; a power of two less one */
    uint32_t used;    /* live slots; at most three quarters */
    uint32_t gen;     /* even */
    uint32_t numbers; /* given out */
} lmpe_memo;

/* Forgets everything.  Errors: ENOMEM. */
int lmpe_memo_start(lmpe_memo *m);
int lmpe_memo_grow(lmpe_memo *m);
void lmpe_memo_free(lmpe_memo *m);

static inline int
lmpe_memo_live(const lmpe_memo *m, const lmpe_memo_slot *s)
{
    return (s->gen & ~1u) == m->gen;
}

/* The live slot of the key, or the free one where it belongs. */
static inline lmpe_memo_slot *
lmpe_memo_find(const lmpe_memo *m, const void *key)
{
    uint64_t h = (uint64_t)(uintptr_t)key * UINT64_C(0x9e3779b97f4a7c15);
    uint32_t i = (uint32_t)(h >> 32) & m->mask;

    while (lmpe_memo_live(m, &m->slots[i]) && m->slots[i].key != key)
        i = (i + 1) & m->mask;
    return &m->slots[i];
}

/* Fills a free slot that lmpe_memo_find gave.  Errors: ENOMEM. */
static inline int
lmpe_memo_set(lmpe_memo *m, lmpe_memo_slot *s, const void *key, size_t at)
{
    s->key = key;
    s->at = (uint32_t)at;
    s->gen = m->gen;
    if (++m->used > m->mask - m->mask / 4)
        return lmpe_memo_grow(m);
    return 0;
}

#endif
