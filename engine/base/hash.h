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
mpe__read64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint64_t
mpe__read32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* The last 1 to 16 bytes: in two words, which overlap where they must. */
static inline uint64_t
mpe__hash_end(const uint8_t *p, size_t n, uint64_t h)
{
    uint64_t a = 0, b = 0;
    if (n >= 8) {
        a = mpe__read64(p);
        b = mpe__read64(p + n - 8);
    } else if (n >= 4) {
        a = mpe__read32(p);
        b = mpe__read32(p + n - 4);
    } else if (n > 0) {
        a = (uint64_t)p[0] << 16 | (uint64_t)p[n / 2] << 8 | p[n - 1];
    }
    return mpe__mix(a ^ 0xE7037ED1A0B428DBull, b ^ h);
}

static inline uint64_t
mpe__hash(const void *bytes, size_t n, uint64_t seed)
{
    const uint8_t *p = bytes;
    uint64_t h = seed ^ 0x9E3779B97F4A7C15ull;
    size_t left = n;
    for (; left > 16; left -= 16, p += 16)
        h = mpe__mix(mpe__read64(p) ^ 0xA0761D6478BD642Full, mpe__read64(p + 8) ^ h);
    return mpe__mix(mpe__hash_end(p, left, h) ^ n, 0x8EBC6AF09C88C6E3ull);
}

#endif
