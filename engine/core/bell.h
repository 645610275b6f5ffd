/* Doorbells: waking a process wherever it sleeps. See bell.c. */
#ifndef MPE_CORE_BELL_H
#define MPE_CORE_BELL_H

#include "core/engine.h"

#define MPE__BUCKETS 30u           /* of object indexes, one bell bit each */
#define MPE__DELIVERY 0x40000000u  /* a thread of this process has left something for the loop */
#define MPE__BROADCAST 0x80000000u /* a process died, or asks for attention: check everything */

static inline uint32_t
mpe__bucket(uint32_t object)
{
    return object % MPE__BUCKETS;
}

/* The socket that is this process's doorbell and rings those of others. It is opened at first
 * use, if necessary in place of the descriptor reserved for it; -1. */
int mpe__bell_socket(mpe_engine *e);
/* Rings a slot's bell with bits; its owner checks what they name. Returns whether it does so at
 * once: a running process may check much later, so its turn is given to the next one as well. */
int mpe__ring(mpe_engine *e, uint32_t slot, uint32_t bits);
/* Rings every live slot with MPE__BROADCAST, whatever its sleep state. */
void mpe__ring_all(mpe_engine *e);

static inline int
mpe__has_waiters(const mpe_engine *e, const mpe_object *o, int event)
{
    const struct mpe__slotset *w = &o->waiters[event];
    uint64_t any = atomic_load(&w->bits[0]);
    if (MPE__UNLIKELY(mpe__load32(&e->header->slots_top) > 64))
        for (uint32_t i = 1; i < MPE__SLOT_WORDS; i++)
            any |= atomic_load(&w->bits[i]);
    return any != 0;
}

/* The slow parts of the two functions below, once a waiter was seen. */
void mpe__wake_one_of(mpe_engine *e, mpe_object *o, int event);
void mpe__wake_all_of(mpe_engine *e, mpe_object *o, int event);

/* Wakes one, or every, process that has set its bit in (o, event). The change that makes waking
 * worthwhile, and a sequentially consistent read-modify-write, precede the call. */
static inline void
mpe__wake_one(mpe_engine *e, mpe_object *o, int event)
{
    if (MPE__UNLIKELY(mpe__has_waiters(e, o, event)))
        mpe__wake_one_of(e, o, event);
}

static inline void
mpe__wake_all(mpe_engine *e, mpe_object *o, int event)
{
    if (MPE__UNLIKELY(mpe__has_waiters(e, o, event)))
        mpe__wake_all_of(e, o, event);
}

/* A slot of a set, the first from that one on; -1 when it is empty. */
int mpe__set_next(struct mpe__slotset *set, uint32_t from);

static inline void
mpe__set_add(struct mpe__slotset *set, uint32_t slot)
{
    atomic_fetch_or(&set->bits[slot / 64], 1ull << slot % 64);
}

/* Whether the slot was in it. If not, what the process that took it out did before is seen. */
static inline int
mpe__set_remove(struct mpe__slotset *set, uint32_t slot)
{
    uint64_t bit = 1ull << slot % 64;
    if (!(mpe__load64(&set->bits[slot / 64]) & bit))
        return 0;
    return (atomic_fetch_and(&set->bits[slot / 64], ~bit) & bit) != 0;
}

static inline int
mpe__set_has(const struct mpe__slotset *set, uint32_t slot)
{
    return (int)(atomic_load(&set->bits[slot / 64]) >> slot % 64 & 1);
}

/* Is a slot in it other than this one? */
static inline int
mpe__set_has_others(const struct mpe__slotset *set, uint32_t slot)
{
    for (uint32_t i = 0; i < MPE__SLOT_WORDS; i++)
        if (atomic_load(&set->bits[i]) & ~(slot / 64 == i ? 1ull << slot % 64 : 0))
            return 1;
    return 0;
}

static inline uint32_t
mpe__set_count(const struct mpe__slotset *set)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < MPE__SLOT_WORDS; i++)
        n += (uint32_t)__builtin_popcountll(atomic_load(&set->bits[i]));
    return n;
}

static inline int
mpe__set_empty(const struct mpe__slotset *set)
{
    return mpe__set_count(set) == 0;
}

#endif
