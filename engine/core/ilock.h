/* Intent locks: the internal lock of every structure in the arena. See ilock.c. */
#ifndef MPE_CORE_ILOCK_H
#define MPE_CORE_ILOCK_H

#include "core/engine.h"

/* Takes the lock at word, which guards (part of) object index, 0: the arena itself. Spins briefly,
 * then sleeps; a dead owner is reaped. Locks nest at most MPE__INTENTS deep, released in reverse
 * order, and are never held across anything that can raise or block. */
void mpe__ilock(mpe_engine *e, mpe__a32 *word, uint32_t object);
void mpe__iunlock(mpe_engine *e, mpe__a32 *word);
/* Takes the lock if it is free; 1 when it has. */
int mpe__ilock_try(mpe_engine *e, mpe__a32 *word, uint32_t object);

/* The slot named by a word that is not free. */
static inline uint32_t
mpe__ilock_owner(uint32_t word)
{
    return (word & 0x7fffffffu) - 1;
}

/* Splits an intent: the offset of the lock word and the object index. */
static inline uint64_t
mpe__intent_offset(uint64_t intent)
{
    return (intent & ((1ull << 34) - 1)) << 2;
}

static inline uint32_t
mpe__intent_object(uint64_t intent)
{
    return (uint32_t)(intent >> 34);
}

#endif
