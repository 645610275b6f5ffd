/* The body of a condition. */
#ifndef MPE_OBJECTS_CONDITION_H
#define MPE_OBJECTS_CONDITION_H

#include "core/engine.h"

/* The word of the object is its own recursive lock, for use when lock is 0. */
struct mpe__condition {
    mpe__a64 lock;               /* handle of its lock, 0: its own */
    mpe__a64 counts[MPE__SLOTS]; /* of the waits of a slot, in one word; ilock */
};

#define MPE__CONDITION_BITS 21
#define MPE__CONDITION_MAX ((1u << MPE__CONDITION_BITS) - 1) /* waits of one slot */

struct mpe__condition_counts {
    uint32_t waiting;  /* current waits */
    uint32_t woken;    /* of those, notified and not yet returned */
    uint32_t assigned; /* notifications so far, in 22 bits; wraps */
};

static inline struct mpe__condition_counts
mpe__condition_counts(const struct mpe__condition *c, uint32_t slot)
{
    uint64_t word = mpe__load64(&c->counts[slot]);
    return (struct mpe__condition_counts){.waiting = (uint32_t)word & MPE__CONDITION_MAX,
                                          .woken = (uint32_t)(word >> MPE__CONDITION_BITS) &
                                                   MPE__CONDITION_MAX,
                                          .assigned = (uint32_t)(word >> 2 * MPE__CONDITION_BITS)};
}

#endif
