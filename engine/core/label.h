/* Names of objects and the places where they were made. See label.c. */
#ifndef MPE_CORE_LABEL_H
#define MPE_CORE_LABEL_H

#include "core/engine.h"

/* The text of a place, by its number; NULL: there is no such place. */
const char *mpe__place_text(const mpe_engine *e, uint32_t number);
/* The name in a label, NULL: it has none. Also for a reader: the object may be freed meanwhile, then
 * the bytes may be anything, but they are bytes of the arena. */
mpe_bytes mpe__label_name(const mpe_engine *e, uint64_t label);

#endif
