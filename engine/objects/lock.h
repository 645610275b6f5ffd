/* Moves of the lock word, for every kind that has one. */
#ifndef MPE_OBJECTS_LOCK_H
#define MPE_OBJECTS_LOCK_H

#include "core/engine.h"

/* The owner of what an engine acquires for its thread, not for a task: outside of what
 * mpe_owner_new gives and callers may choose. */
#define MPE__OWNER_HOST 0x80000000u

/* mpe_lock_acquire and the others, after their checks. */
int mpe__lock_take(mpe_engine *e, mpe_object *o, uint32_t task);
int mpe__lock_give(mpe_engine *e, mpe_object *o);
int mpe__rlock_take(mpe_engine *e, mpe_object *o, uint32_t task);
int mpe__rlock_give(mpe_engine *e, mpe_object *o, uint32_t task);
/* Is the owner a task of that slot? */
int mpe__lock_is_of(const mpe_object *o, uint32_t slot);
void mpe__lock_death(mpe_engine *e, mpe_object *o, uint32_t slot);
int mpe__lock_ready(mpe_engine *e, mpe_object *o, int event);

#endif
