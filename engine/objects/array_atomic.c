/* SPDX-License-Identifier: MIT */
/* Atomic changes of one element of an array: a compare-and-swap of its bytes, so a death leaves the
 * old value or the new one.
 */
#include "objects/doors.h"

#include <math.h>
#include <string.h>

/* An element: its place, its size, and the kind of number there. */
struct element {
    void *at;
    size_t size;
    enum { SIGNED, UNSIGNED, FLOAT, DOUBLE } number;
};

static int
find(mpe_engine *e, mpe_object *array, uint64_t index, struct element *out)
{
    mpe_elements s;
    int rc = mpe_array_elements(e, array, &s);
    if (rc != MPE_OK)
        return rc;
    char type = s.type;
    if (type == 'c' || type == 'u' || type == MPE_STRUCT)
        return MPE_ETYPE;
    if (index >= s.length)
        return MPE_ERANGE;
    out->size = s.size;
    out->at = (uint8_t *)s.first + (int64_t)index * s.step * (int64_t)out->size;
    out->number = type == 'f' ? FLOAT : type == 'd' ? DOUBLE : type < 'a' ? UNSIGNED : SIGNED;
    return MPE_OK;
}

/* The bits of an element, those above its size being zero. */
static uint64_t
load(const struct element *t)
{
    switch (t->size) {
    case 1:
        return atomic_load((const _Atomic uint8_t *)t->at);
    case 2:
        return atomic_load((const _Atomic uint16_t *)t->at);
    case 4:
        return atomic_load((const _Atomic uint32_t *)t->at);
    default:
        return atomic_load((const _Atomic uint64_t *)t->at);
    }
}

static int
swap(const struct element *t, uint64_t seen, uint64_t bits)
{
    uint8_t b = (uint8_t)seen;
    uint16_t h = (uint16_t)seen;
    uint32_t i = (uint32_t)seen;
    switch (t->size) {
    case 1:
        return atomic_compare_exchange_strong((_Atomic uint8_t *)t->at, &b, (uint8_t)bits);
    case 2:
        return atomic_compare_exchange_strong((_Atomic uint16_t *)t->at, &h, (uint16_t)bits);
    case 4:
        return atomic_compare_exchange_strong((_Atomic uint32_t *)t->at, &i, (uint32_t)bits);
    default:
        return atomic_compare_exchange_strong((_Atomic uint64_t *)t->at, &seen, bits);
    }
}

/* A C value of the element's type as bits, and back. The processor is little-endian. */
static uint64_t
bits_of(const struct element *t, const void *value)
{
    uint64_t bits = 0;
    memcpy(&bits, value, t->size);
    return bits;
}

static void
write_value(const struct element *t, uint64_t bits, void *to)
{
    if (to)
        memcpy(to, &bits, t->size);
}

static __int128
integer_of(const struct element *t, uint64_t bits)
{
    unsigned unused = (unsigned)(64 - 8 * t->size);
    return t->number == SIGNED ? (__int128)((int64_t)(bits << unused) >> unused) : (__int128)bits;
}

static double
float_of(const struct element *t, uint64_t bits)
{
    float f;
    double d;
    memcpy(&f, &bits, sizeof f);
    memcpy(&d, &bits, sizeof d);
    return t->number == FLOAT ? (double)f : d;
}

/* The sum of two values: 0 when it does not fit. */
static int
add(const struct element *t, uint64_t a, uint64_t b, uint64_t *sum)
{
    *sum = 0;
    if (t->number == DOUBLE) {
        double d = float_of(t, a) + float_of(t, b);
        memcpy(sum, &d, sizeof d);
        return 1;
    }
    if (t->number == FLOAT) {
        double d = float_of(t, a) + float_of(t, b);
        float f = (float)d;
        memcpy(sum, &f, sizeof f);
        return !(isinf(f) && !isinf(d));
    }
    __int128 v = integer_of(t, a) + integer_of(t, b);
    *sum = t->size < 8 ? (uint64_t)v & ((1ull << 8 * t->size) - 1) : (uint64_t)v;
    return integer_of(t, *sum) == v;
}

/* Numbers are compared as numbers, and a NaN is the same as any other. */
static int
same(const struct element *t, uint64_t a, uint64_t b)
{
    if (t->number == SIGNED || t->number == UNSIGNED)
        return a == b;
    double x = float_of(t, a), y = float_of(t, b);
    return x == y || (isnan(x) && isnan(y));
}

int
mpe_array_add(mpe_engine *e, mpe_object *array, uint64_t index, const void *amount, void *now)
{
    struct element t;
    if (!e || !array || !amount)
        return MPE_EINVAL;
    int rc = find(e, array, index, &t);
    if (rc != MPE_OK)
        return rc;
    uint64_t by = bits_of(&t, amount), seen, sum;
    do {
        seen = load(&t);
        if (!add(&t, seen, by, &sum))
            return MPE_ERANGE;
    } while (!swap(&t, seen, sum));
    write_value(&t, sum, now);
    return MPE_OK;
}

int
mpe_array_exchange(mpe_engine *e, mpe_object *array, uint64_t index, const void *expected,
                   const void *desired, void *now)
{
    struct element t;
    if (!e || !array || !expected || !desired)
        return MPE_EINVAL;
    int rc = find(e, array, index, &t);
    if (rc != MPE_OK)
        return rc;
    uint64_t was = bits_of(&t, expected), bits = bits_of(&t, desired), seen;
    do {
        seen = load(&t);
        if (!same(&t, seen, was)) {
            write_value(&t, seen, now);
            return MPE_EAGAIN;
        }
    } while (!swap(&t, seen, bits));
    write_value(&t, bits, now);
    return MPE_OK;
}
