/* List hooks. */
#ifndef MPE_OBJECTS_LIST_H
#define MPE_OBJECTS_LIST_H

#include "core/engine.h"

void mpe__list_destroy(mpe_engine *e, mpe_object *o);
void mpe__list_scan(mpe_engine *e, mpe_object *o, int (*visit)(void *ud, uint64_t h), void *ud);
void mpe__list_measure(mpe_engine *e, mpe_object *o, uint64_t *depth, uint64_t *bytes);

#endif
