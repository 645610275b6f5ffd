/* Array hooks. */
#ifndef MPE_OBJECTS_ARRAY_H
#define MPE_OBJECTS_ARRAY_H

#include "core/engine.h"

void mpe__array_measure(mpe_engine *e, mpe_object *o, uint64_t *depth, uint64_t *bytes);

#endif
