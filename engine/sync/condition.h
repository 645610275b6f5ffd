/* Condition layout and hooks. */
#ifndef MPE_SYNC_CONDITION_H
#define MPE_SYNC_CONDITION_H

#include "sync/engine.h"

/* The word of the object is its own recursive lock, for use when lock is 0. */
struct mpe__condition {
    mpe__a64 lock;                /* handle of the lock that goes with it, 0: its own */
    mpe__a32 waiting[MPE__SLOTS]; /* waits under way per slot; ilock */
    mpe__a32 woken[MPE__SLOTS];   /* of those, notified and not yet returned; ilock */
};

void mpe__condition_death(mpe_engine *e, mpe_object *o, uint32_t slot);
int mpe__condition_ready(mpe_engine *e, mpe_object *o, int event);

#endif
