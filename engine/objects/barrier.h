/* The body of a barrier. */
#ifndef MPE_OBJECTS_BARRIER_H
#define MPE_OBJECTS_BARRIER_H

#include "core/engine.h"

/* The word of the object: generation << 33 | broken << 32 | a bit per generation modulo 32 that
 * shows whether it ended by a reset. */
struct mpe__barrier {
    uint32_t parties;
    uint32_t settings_size;
    mpe__a64 arrived[MPE__SLOTS]; /* generation << 32 | arrivals of the slot in it; ilock */
    uint8_t settings[];           /* encoded by the caller; may hold handles */
};

#endif
