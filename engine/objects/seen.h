/* Numbers of containers as a reader sees them, which takes no lock: only loads, and a number may be
 * wrong while the container changes. */
#ifndef MPE_OBJECTS_SEEN_H
#define MPE_OBJECTS_SEEN_H

#include "core/engine.h"

uint64_t mpe__dict_count_seen(mpe_engine *e, const mpe_object *o);
uint64_t mpe__list_count_seen(mpe_engine *e, const mpe_object *o);

#endif
