/* SPDX-License-Identifier: MIT */
/* The loops over elements, in a form that a compiler turns into vector instructions: floats are
 * added in LANES sums at once, whose order is the same on every processor. A product is never
 * contracted with a sum (-ffp-contract=off), for the same reason.
 *
 * Integers are calculated as unsigned ones, which wrap around.
 */
#include "objects/array_kernels.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* A second version for processors with AVX2, chosen when the library is loaded. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) &&       \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif

#define LANES 16

/* ---- integers: T is the type, W an unsigned one that is not promoted ---- */

#define INTEGER_KERNELS(name, T, W, S, MIN, MAX)                                                   \
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
    WIDE static mpe__number least_##name(const void *from, size_t n)                               \
    {                                                                                              \
        const T *p = from;                                                                         \
        T m = p[0];                                                                                \
        for (size_t i = 0; i < n; i++)                                                             \
            m = p[i] < m ? p[i] : m;                                                               \
        return (mpe__number){.i = (int64_t)m};                                                     \
    }                                                                                              \
    WIDE static mpe__number greatest_##name(const void *from, size_t n)                            \
    {                                                                                              \
        const T *p = from;                                                                         \
        T m = p[0];                                                                                \
        for (size_t i = 0; i < n; i++)                                                             \
            m = p[i] > m ? p[i] : m;                                                               \
        return (mpe__number){.i = (int64_t)m};                                                     \
    }                                                                                              \
    WIDE static int within_##name(const void *from, size_t n, mpe__number low, mpe__number high)   \
    {                                                                                              \
        const T *p = from;                                                                         \
        T least = (T)low.i, most = (T)high.i, bad = 0;                                             \
        for (size_t i = 0; i < n; i++)                                                             \
            bad |= p[i] < least || p[i] > most ? (T)1 : (T)0;                                      \
        return !bad;                                                                               \
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

INTEGER_KERNELS(i8, int8_t, uint32_t, int64_t, INT8_MIN, INT8_MAX)
INTEGER_KERNELS(u8, uint8_t, uint32_t, uint64_t, 0, UINT8_MAX)
INTEGER_KERNELS(i16, int16_t, uint32_t, int64_t, INT16_MIN, INT16_MAX)
INTEGER_KERNELS(u16, uint16_t, uint32_t, uint64_t, 0, UINT16_MAX)
INTEGER_KERNELS(i32, int32_t, uint32_t, int64_t, INT32_MIN, INT32_MAX)
INTEGER_KERNELS(u32, uint32_t, uint32_t, uint64_t, 0, UINT32_MAX)
INTEGER_KERNELS(i64, int64_t, uint64_t, uint64_t, INT64_MIN, INT64_MAX)
INTEGER_KERNELS(u64, uint64_t, uint64_t, uint64_t, 0, UINT64_MAX)

/* ---- floats ---- */

static double
sum_of_lanes(double *s)
{
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int l = 0; l < half; l++)
            s[l] += s[l + half];
    return s[0];
}

/* U is an unsigned integer of the size of T. */
#define BEST(name, T, U, op)                                                                       \
    WIDE static mpe__number name(const void *from, size_t n)                                       \
    {                                                                                              \
        const T *p = from;                                                                         \
        T best[LANES];                                                                             \
        U nans = 0;                                                                                \
        size_t i = 0;                                                                              \
        for (int l = 0; l < LANES; l++)                                                            \
            best[l] = p[0];                                                                        \
        for (; i + LANES <= n; i += LANES)                                                         \
            for (int l = 0; l < LANES; l++)                                                        \
                best[l] = p[i + (size_t)l] op best[l] ? p[i + (size_t)l] : best[l];                \
        for (; i < n; i++)                                                                         \
            best[0] = p[i] op best[0] ? p[i] : best[0];                                            \
        for (i = 0; i < n; i++)                                                                    \
            nans |= p[i] != p[i] ? (U)-1 : 0;                                                      \
        for (int l = 1; l < LANES; l++)                                                            \
            best[0] = best[l] op best[0] ? best[l] : best[0];                                      \
        return (mpe__number){.d = nans ? (double)NAN : (double)best[0]};                           \
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
    BEST(least_##name, T, U, <)                                                                    \
    BEST(greatest_##name, T, U, >)                                                                 \
    WIDE static int within_##name(const void *from, size_t n, mpe__number low, mpe__number high)   \
    {                                                                                              \
        const T *p = from;                                                                         \
        T least = (T)low.d, most = (T)high.d;                                                      \
        U bad = 0;                                                                                 \
        for (size_t i = 0; i < n; i++)                                                             \
            bad |= (p[i] >= least) & (p[i] <= most) ? 0 : (U)-1;                                   \
        return !bad;                                                                               \
    }                                                                                              \
    WIDE static void scale_##name(void *to, mpe__number k, size_t n)                               \
    {                                                                                              \
        T *p = to;                                                                                 \
        for (size_t i = 0; i < n; i++)                                                             \
            p[i] = (T)((double)p[i] * k.d);                                                        \
    }                                                                                              \
    WIDE static void axpy_##name(void *to, mpe__number k, const void *from, size_t n)              \
    {                                                                                              \
        T *y = to;                                                                                 \
        const T *x = from;                                                                         \
        for (size_t i = 0; i < n; i++)                                                             \
            y[i] = (T)((double)y[i] + (double)x[i] * k.d);                                         \
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

#define ROW(name, T, is_float, is_narrow, lowest, highest)                                         \
    {                                                                                              \
        sizeof(T), is_float, is_narrow, lowest, highest, sum_##name, dot_##name, least_##name,     \
            greatest_##name, within_##name, axpy_##name, scale_##name, fits_##name                 \
    }

const struct mpe__kernels mpe__kernels[10] = {
    ROW(i8, int8_t, 0, 1, INT8_MIN, INT8_MAX),
    ROW(u8, uint8_t, 0, 1, 0, UINT8_MAX),
    ROW(i16, int16_t, 0, 1, INT16_MIN, INT16_MAX),
    ROW(u16, uint16_t, 0, 1, 0, UINT16_MAX),
    ROW(i32, int32_t, 0, 1, INT32_MIN, INT32_MAX),
    ROW(u32, uint32_t, 0, 1, 0, UINT32_MAX),
    ROW(i64, int64_t, 0, 1, INT64_MIN, INT64_MAX),
    ROW(u64, uint64_t, 0, 1, 0, UINT64_MAX),
    ROW(f32, float, 1, 1, 0, 0),
    ROW(f64, double, 1, 0, 0, 0),
};
