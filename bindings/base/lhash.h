/* SPDX-License-Identifier: MIT
 *
 * lhash.h - a hash of bytes that come in pieces: FNV-1a (Fowler, Noll, Vo), of 64 bits. Its low bits are good.
 */
#ifndef LHASH_H
#define LHASH_H

#include <stddef.h>
#include <stdint.h>

#define LMPE_HASH_SEED 0xcbf29ce484222325u

static inline uint64_t
lmpe_hash_more(uint64_t h, const void *bytes, size_t size)
{
    const uint8_t *b = bytes;
    for (size_t i = 0; i < size; i++)
        h = (h ^ b[i]) * 0x100000001b3u;
    return h;
}

#endif
