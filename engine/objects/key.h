/* SPDX-License-Identifier: MIT */
/* The keys of dicts and caches: bytes, which are their identity. */
#ifndef MPE_OBJECTS_KEY_H
#define MPE_OBJECTS_KEY_H

#include "base/defs.h"
#include "mpengine_core.h"

/* The key as it is stored: a packed float that is a whole number is the integer, in small. */
mpe_bytes mpe__whole_key(mpe_bytes key, uint8_t small[MPE_WIRE_SCALAR_MAX]);
static inline int
mpe__is_float_key(mpe_bytes key)
{
    return MPE__UNLIKELY(key.size == 9 && *(const uint8_t *)key.data == MPE_TAG_FLOAT);
}
static inline mpe_bytes
mpe__key_of(mpe_bytes key, uint8_t small[MPE_WIRE_SCALAR_MAX])
{
    return mpe__is_float_key(key) ? mpe__whole_key(key, small) : key;
}

#endif
