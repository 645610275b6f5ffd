/* A seeded 64-bit hash of bytes, in the manner of wyhash: multiply 64 x 64 to 128 bits and fold.
 * Source of the idea: Wang Yi, wyhash (public domain). Not for untrusted network input. */
#ifndef MPE_BASE_HASH_H
#define MPE_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t
mpe__mix(uint64_t a, uint64_t b)
{
    __uint128_t m = (__uint128_t)a * b;
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static inline uint64_t
mpe__hash(const void *bytes, size_t n, uint64_t seed)
{
    const uint8_t *p = bytes;
    uint64_t h = seed ^ 0x9E3779B97F4A7C15ull, a = 0, b = 0;
    size_t left = n;
    for (; left > 16; left -= 16, p += 16) {
        memcpy(&a, p, 8);
        memcpy(&b, p + 8, 8);
        h = mpe__mix(a ^ 0xA0761D6478BD642Full, b ^ h);
    }
    a = b = 0;
    if (left > 0)
        memcpy(&a, p, left > 8 ? 8 : left);
    if (left > 8)
        memcpy(&b, p + 8, left - 8);
    h = mpe__mix(a ^ 0xE7037ED1A0B428DBull, b ^ h);
    return mpe__mix(h ^ n, 0x8EBC6AF09C88C6E3ull);
}

#endif
