/* Array hooks. */
#ifndef MPE_SHM_ARRAY_H
#define MPE_SHM_ARRAY_H

#include "sync/engine.h"

void mpe__array_measure(mpe_engine *e, mpe_object *o, uint64_t *depth, uint64_t *bytes);

#endif
