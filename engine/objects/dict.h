/* Dict hooks. */
#ifndef MPE_OBJECTS_DICT_H
#define MPE_OBJECTS_DICT_H

#include "core/engine.h"

void mpe__dict_recover(mpe_engine *e, mpe_object *o, uint64_t lock_off);
void mpe__dict_destroy(mpe_engine *e, mpe_object *o);
void mpe__dict_scan(mpe_engine *e, mpe_object *o, int (*visit)(void *ud, uint64_t h), void *ud);
void mpe__dict_measure(mpe_engine *e, mpe_object *o, uint64_t *depth, uint64_t *bytes);

#endif
