/* Moves of the lock word, for every kind that has one. */
#ifndef MPE_OBJECTS_LOCK_H
#define MPE_OBJECTS_LOCK_H

#include "core/engine.h"

void mpe__lock_death(mpe_engine *e, mpe_object *o, uint32_t slot);
int mpe__lock_ready(mpe_engine *e, mpe_object *o, int event);

#endif
