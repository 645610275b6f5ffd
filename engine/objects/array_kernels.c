/* SPDX-License-Identifier: MIT */
/* The loops over elements, in a form that a compiler turns into vector instructions: what is
 * carried from an element to the next is kept LANES times, in memory, so that no step waits for the
 * one before. Floats are added in an order that is the same on every processor, and a product is
 * never contracted with a sum (-ffp-contract=off), for the same reason.
 *
 * Integers are calculated as unsigned ones, which wrap around.
 */
#include "objects/array_kernels.h"

#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>

/* More versions, for processors with wider vectors, chosen when the library is loaded. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) &&       \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define WIDE __attribute__((target_clones("avx2", "default")))
#define WIDEST __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDE
#define WIDEST
#endif

#define LANES 16

/* ---- the least and the greatest ---- */

#define NEVER(a, b) 0
#define UNORDERED(a, b) __builtin_isunordered(a, b)

/* U is an unsigned integer of the size of T; field is where its number is. A comparison tells of two
 * elements whether one is no number. */
#define BETTER(a, op, b) ((a)op(b) ? (a) : (b))
#define BEST_LANES 32
#define BEST(name, T, U, field, op, unordered)                                                     \
    WIDEST static mpe__number name(const void *from, size_t n)                                     \
    {                                                                                              \
        const T *p = from, *end = p + n;                                                           \
        T best[BEST_LANES];                                                                        \
        U strange[BEST_LANES] = {0};                                                               \
        for (int l = 0; l < BEST_LANES; l++)                                                       \
            best[l] = p[0];                                                                        \
        for (; end - p >= 4 * BEST_LANES; p += 4 * BEST_LANES)                                     \
            for (int l = 0; l < BEST_LANES; l++) {                                                 \
                T a = p[l], b = p[l + BEST_LANES], c = p[l + 2 * BEST_LANES];                      \
                T d = p[l + 3 * BEST_LANES];                                                       \
                strange[l] |= (U)0 - (U)(unordered(a, b) | unordered(c, d));                       \
                a = BETTER(a, op, b);                                                              \
                c = BETTER(c, op, d);                                                              \
                a = BETTER(a, op, c);                                                              \
                best[l] = BETTER(a, op, best[l]);                                                  \
            }                                                                                      \
        for (; p < end; p++) {                                                                     \
            strange[0] |= (U)unordered(p[0], p[0]);                                                \
            best[0] = BETTER(p[0], op, best[0]);                                                   \
        }                                                                                          \
        for (int l = 1; l < BEST_LANES; l++) {                                                     \
            strange[0] |= strange[l];                                                              \
            best[0] = BETTER(best[l], op, best[0]);                                                \
        }                                                                                          \
        return strange[0] ? (mpe__number){.d = (double)NAN} : (mpe__number){.field = best[0]};     \
    }

/* ---- integers: T is the type, U the unsigned one of its size, W one that is not promoted ---- */

#define INTEGER_KERNELS(name, T, U, W, S, MIN, MAX)                                                \
    WIDE static mpe__number sum_##name(const void *from, size_t n)                                 \
    {                                                                                              \
        const T *p = from;                                                                         \
        uint64_t s = 0;                                                                            \
        for (size_t i = 0; i < n; i++)                                                             \
            s += (uint64_t)p[i];                                                                   \
        return (mpe__number){.i = (int64_t)s};                                                     \
    }                                                                                              \
    WIDE static mpe__number dot_##name(const void *from, const void *with, size_t n)               \
    {                                                                                              \
        const T *p = from, *q = with;                                                              \
        uint64_t s = 0;                                                                            \
        for (size_t i = 0; i < n; i++)                                                             \
            s += (uint64_t)((S)p[i] * (S)q[i]);                                                    \
        return (mpe__number){.i = (int64_t)s};                                                     \
    }                                                                                              \
    BEST(least_##name, T, U, i, <, NEVER)                                                          \
    BEST(greatest_##name, T, U, i, >, NEVER)                                                       \
    WIDEST static int within_##name(const void *from, size_t n, mpe__number limit)                 \
    {                                                                                              \
        const T *p = from;                                                                         \
        U low = MIN < 0 ? (U)limit.i : 0, most = (U)((U)(limit.i - 1) + low), bits = 0;            \
        for (size_t i = 0; i < n; i++)                                                             \
            bits |= (U)((U)p[i] + low);                                                            \
        return bits <= most;                                                                       \
    }                                                                                              \
    WIDE static void scale_##name(void *to, mpe__number k, size_t n)                               \
    {                                                                                              \
        T *p = to;                                                                                 \
        W by = (W)k.i;                                                                             \
        for (size_t i = 0; i < n; i++)                                                             \
            p[i] = (T)((W)p[i] * by);                                                              \
    }                                                                                              \
    WIDE static void axpy_##name(void *to, mpe__number k, const void *from, size_t n)              \
    {                                                                                              \
        T *y = to;                                                                                 \
        const T *x = from;                                                                         \
        W by = (W)k.i;                                                                             \
        for (size_t i = 0; i < n; i++)                                                             \
            y[i] = (T)((W)y[i] + (W)x[i] * by);                                                    \
    }                                                                                              \
    WIDE static int fits_##name(const void *to, mpe__number k, const void *from, size_t n)         \
    {                                                                                              \
        const T *y = to, *x = from;                                                                \
        int bad = 0;                                                                               \
        if (sizeof(T) < 8 && k.i >= -(1 << 30) && k.i <= 1 << 30) {                                \
            for (size_t i = 0; i < n; i++) {                                                       \
                int64_t v = (y ? (int64_t)y[i] : 0) + k.i * (int64_t)x[i];                         \
                bad |= (int64_t)(T)v != v;                                                         \
            }                                                                                      \
            return !bad;                                                                           \
        }                                                                                          \
        for (size_t i = 0; i < n; i++) {                                                           \
            __int128 v = (y ? (__int128)y[i] : 0) + (__int128)k.i * x[i];                          \
            bad |= v < MIN || v > MAX;                                                             \
        }                                                                                          \
        return !bad;                                                                               \
    }

INTEGER_KERNELS(i8, int8_t, uint8_t, uint32_t, int64_t, INT8_MIN, INT8_MAX)
INTEGER_KERNELS(u8, uint8_t, uint8_t, uint32_t, uint64_t, 0, UINT8_MAX)
INTEGER_KERNELS(i16, int16_t, uint16_t, uint32_t, int64_t, INT16_MIN, INT16_MAX)
INTEGER_KERNELS(u16, uint16_t, uint16_t, uint32_t, uint64_t, 0, UINT16_MAX)
INTEGER_KERNELS(i32, int32_t, uint32_t, uint32_t, int64_t, INT32_MIN, INT32_MAX)
INTEGER_KERNELS(u32, uint32_t, uint32_t, uint32_t, uint64_t, 0, UINT32_MAX)
INTEGER_KERNELS(i64, int64_t, uint64_t, uint64_t, uint64_t, INT64_MIN, INT64_MAX)
INTEGER_KERNELS(u64, uint64_t, uint64_t, uint64_t, uint64_t, 0, UINT64_MAX)

/* ---- floats ---- */

static double
sum_of_lanes(double *s)
{
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int l = 0; l < half; l++)
            s[l] += s[l + half];
    return s[0];
}

#define FLOAT_KERNELS(name, T, U, MAX)                                                             \
    WIDE static mpe__number sum_##name(const void *from, size_t n)                                 \
    {                                                                                              \
        const T *p = from;                                                                         \
        double s[LANES] = {0};                                                                     \
        size_t i = 0;                                                                              \
        for (; i + LANES <= n; i += LANES)                                                         \
            for (int l = 0; l < LANES; l++)                                                        \
                s[l] += (double)p[i + (size_t)l];                                                  \
        for (int l = 0; i < n; i++, l++)                                                           \
            s[l] += (double)p[i];                                                                  \
        return (mpe__number){.d = sum_of_lanes(s)};                                                \
    }                                                                                              \
    WIDE static mpe__number dot_##name(const void *from, const void *with, size_t n)               \
    {                                                                                              \
        const T *p = from, *q = with;                                                              \
        double s[LANES] = {0};                                                                     \
        size_t i = 0;                                                                              \
        for (; i + LANES <= n; i += LANES)                                                         \
            for (int l = 0; l < LANES; l++)                                                        \
                s[l] += (double)p[i + (size_t)l] * (double)q[i + (size_t)l];                       \
        for (int l = 0; i < n; i++, l++)                                                           \
            s[l] += (double)p[i] * (double)q[i];                                                   \
        return (mpe__number){.d = sum_of_lanes(s)};                                                \
    }                                                                                              \
    BEST(least_##name, T, U, d, <, UNORDERED)                                                      \
    BEST(greatest_##name, T, U, d, >, UNORDERED)                                                   \
    WIDEST static int within_##name(const void *from, size_t n, mpe__number limit)                 \
    {                                                                                              \
        const U *p = from; /* sizes compare as the bits without the sign do */                     \
        T limit_t = (T)limit.d;                                                                    \
        U most, size, greatest = 0;                                                                \
        memcpy(&most, &limit_t, sizeof most);                                                      \
        for (size_t i = 0; i < n; i++) {                                                           \
            size = p[i] & (U)-1 >> 1;                                                              \
            greatest = size > greatest ? size : greatest;                                          \
        }                                                                                          \
        return greatest <= most;                                                                   \
    }                                                                                              \
    WIDE static int fits_##name(const void *to, mpe__number k, const void *from, size_t n)         \
    {                                                                                              \
        const T *y = to, *x = from;                                                                \
        int bad = 0;                                                                               \
        for (size_t i = 0; i < n; i++) {                                                           \
            double v = (y ? (double)y[i] : 0) + (double)x[i] * k.d;                                \
            bad |= fabs((double)(T)v) > MAX && fabs(v) <= DBL_MAX;                                 \
        }                                                                                          \
        return !bad;                                                                               \
    }

FLOAT_KERNELS(f32, float, uint32_t, (double)FLT_MAX)
FLOAT_KERNELS(f64, double, uint64_t, DBL_MAX)

WIDEST static void
scale_f64(void *to, mpe__number k, size_t n)
{
    double *p = to;
    for (size_t i = 0; i < n; i++)
        p[i] *= k.d;
}

WIDEST static void
axpy_f64(void *to, mpe__number k, const void *from, size_t n)
{
    double *y = to;
    const double *x = from;
    for (size_t i = 0; i < n; i++)
        y[i] += x[i] * k.d;
}

/* Floats are calculated as doubles, FEW at a time. From a loop over single elements a compiler makes
 * one that reads the widest vector of floats, and takes it apart to convert it, which takes more
 * time than the rest; the fence keeps it from that. */
#define FEW 4
#define EACH_FEW(n, result, to)                                                                    \
    for (; i + FEW <= (n); i += FEW) {                                                             \
        float few[FEW];                                                                            \
        for (size_t f = 0, l = i; f < FEW; f++, l++)                                               \
            few[f] = (float)(result);                                                              \
        memcpy((to) + i, few, sizeof few);                                                         \
        atomic_signal_fence(memory_order_seq_cst);                                                 \
    }

WIDEST static void
scale_exactly(float *p, float k, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] *= k;
}

WIDE static void
scale_f32(void *to, mpe__number k, size_t n)
{
    float *p = to;
    size_t i = 0;
    if ((double)(float)k.d == k.d) { /* the product is that of doubles, rounded once */
        scale_exactly(p, (float)k.d, n);
        return;
    }
    EACH_FEW(n, (double)p[l] * k.d, p)
    for (; i < n; i++)
        p[i] = (float)((double)p[i] * k.d);
}

WIDE static void
axpy_f32(void *to, mpe__number k, const void *from, size_t n)
{
    float *y = to;
    const float *x = from;
    size_t i = 0;
    EACH_FEW(n, (double)y[l] + (double)x[l] * k.d, y)
    for (; i < n; i++)
        y[i] = (float)((double)y[i] + (double)x[i] * k.d);
}

#define ROW(name, T, is_float, is_narrow, highest)                                                 \
    {                                                                                              \
        sizeof(T), is_float, is_narrow, highest, sum_##name, dot_##name, least_##name,             \
            greatest_##name, within_##name, axpy_##name, scale_##name, fits_##name                 \
    }

const struct mpe__kernels mpe__kernels[10] = {
    ROW(i8, int8_t, 0, 1, INT8_MAX),    ROW(u8, uint8_t, 0, 1, UINT8_MAX),
    ROW(i16, int16_t, 0, 1, INT16_MAX), ROW(u16, uint16_t, 0, 1, UINT16_MAX),
    ROW(i32, int32_t, 0, 1, INT32_MAX), ROW(u32, uint32_t, 0, 1, UINT32_MAX),
    ROW(i64, int64_t, 0, 1, INT64_MAX), ROW(u64, uint64_t, 0, 1, UINT64_MAX),
    ROW(f32, float, 1, 1, 0),           ROW(f64, double, 1, 0, 0),
};
