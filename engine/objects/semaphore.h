/* Semaphore layout and hooks. */
#ifndef MPE_OBJECTS_SEMAPHORE_H
#define MPE_OBJECTS_SEMAPHORE_H

#include "core/engine.h"

/* The word of the object is the number of permits there are, held or not. */
struct mpe__semaphore {
    mpe__a32 initial;
    mpe__a32 bounded;
    mpe__a16 held[MPE__SLOTS]; /* permits held per slot; ilock */
};

void mpe__semaphore_death(mpe_engine *e, mpe_object *o, uint32_t slot);
int mpe__semaphore_ready(mpe_engine *e, mpe_object *o, int event);

#endif
