/* SPDX-License-Identifier: MIT */
/* The loops over elements that lie one after the other, for each type of number. They know nothing
 * of objects; array_math.c feeds them. A number is that of the public calls. */
#ifndef MPE_OBJECTS_ARRAY_KERNELS_H
#define MPE_OBJECTS_ARRAY_KERNELS_H

#include <stddef.h>
#include <stdint.h>

typedef union mpe__number {
    int64_t i; /* integer types */
    double d;  /* f, d */
} mpe__number;

struct mpe__kernels {
    uint8_t size;      /* bytes of an element; 0: not a number */
    uint8_t is_float;  /* a number is d */
    uint8_t is_narrow; /* results may not fit the type */
    uint64_t highest;  /* of integer types */
    mpe__number (*sum)(const void *p, size_t n);
    mpe__number (*dot)(const void *p, const void *q, size_t n);
    /* n is not 0 */
    mpe__number (*least)(const void *p, size_t n);
    mpe__number (*greatest)(const void *p, size_t n);
    /* Are all below the limit, a power of two, and not below its negative? Of floats: is none
     * greater than the limit, or less than its negative? */
    int (*within)(const void *p, size_t n, mpe__number limit);
    void (*axpy)(void *y, mpe__number k, const void *x, size_t n);
    void (*scale)(void *p, mpe__number k, size_t n);
    /* Would all results fit? NULL as y: of scale. */
    int (*fits)(const void *y, mpe__number k, const void *x, size_t n);
};

/* By class: the integers of 8, 16, 32, 64 bits, signed and unsigned in turn, float, double. */
extern const struct mpe__kernels mpe__kernels[10];

#endif
