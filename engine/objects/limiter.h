/* SPDX-License-Identifier: MIT */
/* Rate limiters, from the point of view of the engine that is closed. See limiter.c. */
#ifndef MPE_OBJECTS_LIMITER_H
#define MPE_OBJECTS_LIMITER_H

#include "core/engine.h"

/* Frees what this process knows of its waiters. The places are left as they are: the death of the
 * slot clears them. */
void mpe__limiter_lines_free(mpe_engine *e);

#endif
