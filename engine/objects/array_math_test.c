/* SPDX-License-Identifier: MIT */
/* The calculations beside plain loops: every type, lengths around those that the kernels treat
 * apart, elements around what fits. */
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef union number {
    int64_t i;
    double d;
} number;

static const char types[] = "bBhHiIlLqQfd";
static const uint64_t lengths[] = {1, 31, 32, 33, 127, 128, 129, 1025, 8191, 8192, 8193, 20000};
enum { LENGTHS = sizeof lengths / sizeof *lengths };

static int
is_float(char type)
{
    return type == 'f' || type == 'd';
}

static uint64_t
random_bits(void)
{
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

/* ---- elements as the widest number of their kind ---- */

static __int128
integer_at(const void *p, char type, uint64_t i)
{
    size_t size = mpe_type_size(type);
    uint64_t bits = 0;
    memcpy(&bits, (const uint8_t *)p + i * size, size);
    int unused = 64 - 8 * (int)size;
    return type < 'a' ? (__int128)bits : (__int128)((int64_t)(bits << unused) >> unused);
}

static double
float_at(const void *p, char type, uint64_t i)
{
    return type == 'f' ? (double)((const float *)p)[i] : ((const double *)p)[i];
}

/* Stores a number; 0 when it does not fit. */
static int
put_integer(void *p, char type, uint64_t i, __int128 v)
{
    size_t size = mpe_type_size(type);
    memcpy((uint8_t *)p + i * size, &v, size);
    return integer_at(p, type, i) == v;
}

static int
put_float(void *p, char type, uint64_t i, double v)
{
    if (type == 'f')
        ((float *)p)[i] = (float)v;
    else
        ((double *)p)[i] = v;
    return !isinf(float_at(p, type, i)) || isinf(v);
}

/* y + by * x, or x * by: 0 when a result does not fit. */
static int
plain_change(void *y, char type, number by, const void *x, uint64_t n, int is_sum)
{
    int fits = 1;
    for (uint64_t i = 0; i < n; i++)
        if (is_float(type))
            fits &= put_float(y, type, i,
                              (is_sum ? float_at(y, type, i) : 0) + float_at(x, type, i) * by.d);
        else
            fits &= put_integer(
                y, type, i, (is_sum ? integer_at(y, type, i) : 0) + integer_at(x, type, i) * by.i);
    return fits;
}

/* ---- arrays ---- */

static mpe_object *
array_of(mpe_engine *e, char type, uint64_t n, uint8_t **data)
{
    mpe_object *o;
    REQUIRE_OK(mpe_array_create(e, type, n, MPE_ARRAY_RAW, &o));
    *data = mpe_array_data(e, o, NULL, NULL);
    return o;
}

/* The first element of an array, or of a view whose elements lie one after the other. */
static uint8_t *
data_of(mpe_engine *e, mpe_object *o)
{
    mpe_elements s;
    REQUIRE_OK(mpe_array_elements(e, o, &s));
    return s.first;
}

/* Random elements of up to so many bits. */
static void
fill(uint8_t *p, char type, uint64_t n, int bits)
{
    for (uint64_t i = 0; i < n; i++) {
        int64_t v = (int64_t)random_bits() >> (64 - bits);
        if (is_float(type))
            put_float(p, type, i, ldexp((double)v, bits > 32 ? 66 : 0));
        else
            put_integer(p, type, i,
                        type < 'a' ? (__int128)((uint64_t)v << (64 - bits) >> (64 - bits)) : v);
    }
}

static int
is_same(const uint8_t *p, const uint8_t *q, char type, uint64_t n)
{
    for (uint64_t i = 0; is_float(type) && i < n; i++)
        if (isnan(float_at(p, type, i)) != isnan(float_at(q, type, i)) ||
            (!isnan(float_at(p, type, i)) && float_at(p, type, i) != float_at(q, type, i)))
            return 0;
    return is_float(type) || memcmp(p, q, n * mpe_type_size(type)) == 0;
}

/* One call of scale or axpy beside the loop. x is y for scale. */
static int
check_change(mpe_engine *e, mpe_object *y, mpe_object *x, char type, uint64_t n, number by)
{
    uint8_t *to = data_of(e, y), *from = data_of(e, x);
    size_t bytes = n * mpe_type_size(type);
    uint8_t *want = malloc(bytes), *before = malloc(bytes);
    memcpy(want, to, bytes);
    memcpy(before, to, bytes);
    int fits = plain_change(want, type, by, y == x ? before : from, n, y != x);
    int rc = y == x ? mpe_array_scale(e, y, &by) : mpe_array_axpy(e, y, &by, x);
    EXPECT_EQ(rc, fits ? MPE_OK : MPE_ERANGE);
    int ok = is_same(to, fits ? want : before, type, n);
    memcpy(to, before, bytes);
    free(want);
    free(before);
    return ok;
}

static void
check_changes(mpe_engine *e, char type, uint64_t n, int bits)
{
    static const int64_t integers[] = {0, 1, -1, 2, 3, -7, 100, 1 << 20, -(1ll << 31), INT64_MAX};
    static const double floats[] = {0, 1, -1, 0.5, 3, 0.1, -1.1, 1e30, 1e-40, 1e300};
    uint8_t *p, *q;
    mpe_object *y = array_of(e, type, n, &p), *x = array_of(e, type, n, &q);
    fill(p, type, n, bits);
    fill(q, type, n, bits);
    for (int k = 0; k < 10; k++) {
        number by = {.i = integers[k]};
        if (is_float(type))
            by.d = floats[k];
        if (!EXPECT(check_change(e, y, y, type, n, by)) ||
            !EXPECT(check_change(e, y, x, type, n, by)))
            mpe_test_fail(__FILE__, __LINE__, "'%c' %d %d bits, factor %d", type, (int)n, bits, k);
    }
    mpe_drop(e, y);
    mpe_drop(e, x);
}

TEST_LIMIT(scale_and_axpy_are_those_of_a_loop, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    for (const char *t = types; *t; t++)
        for (int l = 0; l < LENGTHS; l++)
            for (int bits = 3; bits <= 64; bits += 61 / 4)
                if (bits <= 8 * (int)mpe_type_size(*t) || is_float(*t))
                    check_changes(e, *t, lengths[l], bits);
    mpe_close(e);
}

/* The greatest element whose product fits, then the next one, at several places. */
TEST(scale_fits_up_to_the_last_value)
{
    mpe_engine *e = mpe_test_engine(0);
    static const int64_t factors[] = {2, 3, 5, -1, -2, -3, -100};
    for (const char *t = "bBhHiIlLqQ"; *t; t++)
        for (int k = 0; k < 7; k++) {
            uint8_t *p;
            mpe_object *o = array_of(e, *t, 2000, &p);
            int bits = 8 * (int)mpe_type_size(*t);
            __int128 low = *t < 'a' ? 0 : -((__int128)1 << (bits - 1));
            __int128 high = ((__int128)1 << (*t < 'a' ? bits : bits - 1)) - 1;
            number by = {.i = factors[k]};
            __int128 most[2] = {high / by.i, low / by.i};
            for (int end = 0; end < 2; end++)
                for (int beyond = -1; beyond <= 1; beyond++) {
                    put_integer(p, *t, 1999 - 700 * (uint64_t)end, most[end] + beyond);
                    EXPECT(check_change(e, o, o, *t, 2000, by));
                    put_integer(p, *t, 1999 - 700 * (uint64_t)end, 0);
                }
            mpe_drop(e, o);
        }
    mpe_close(e);
}

/* Elements around all powers of two, of y and of x. */
TEST(axpy_fits_up_to_the_last_value)
{
    mpe_engine *e = mpe_test_engine(0);
    static const int64_t factors[] = {1, 2, 3, 7, -1, -3, -5};
    for (const char *t = "bBhHiIqQ"; *t; t++) {
        uint8_t *p, *q;
        mpe_object *y = array_of(e, *t, 40, &p), *x = array_of(e, *t, 40, &q);
        int bits = 8 * (int)mpe_type_size(*t) - (*t > 'a');
        for (int k = 0; k < 7; k++)
            for (int i = 0; i < 4 * bits * bits; i++) {
                __int128 a = ((__int128)1 << (i / 4 % bits)) - 1;
                __int128 b = ((__int128)1 << (i / 4 / bits)) - 1;
                put_integer(q, *t, 33, i & 1 && *t > 'a' ? -a - 1 : a);
                put_integer(p, *t, 33, i & 2 && *t > 'a' ? -b - 1 : b);
                EXPECT(check_change(e, y, x, *t, 40, (number){.i = factors[k]}));
            }
        mpe_drop(e, y);
        mpe_drop(e, x);
    }
    mpe_close(e);
}

TEST(floats_fit_up_to_the_last_value)
{
    mpe_engine *e = mpe_test_engine(0);
    uint8_t *p, *q;
    mpe_object *x = array_of(e, 'f', 200, &p), *y = array_of(e, 'f', 200, &q);
    for (int k = 0; k < 3000; k++) {
        number by = {.d = k < 8 ? ldexp(1, k - 4) : ldexp((double)random_bits(), -k % 70)};
        float most = (float)((double)FLT_MAX / by.d);
        float near[5] = {nextafterf(most, 0), most, nextafterf(most, INFINITY), INFINITY, NAN};
        for (int i = 0; i < 5; i++) {
            ((float *)p)[130] = near[i];
            ((float *)q)[130] = k % 2 ? 1e31f : -1e31f;
            EXPECT(check_change(e, x, x, 'f', 200, by));
            EXPECT(check_change(e, y, x, 'f', 200, by));
        }
    }
    mpe_close(e);
}

/* ---- the least, the greatest, sums ---- */

static void
check_best(mpe_engine *e, mpe_object *o, char type, uint64_t n)
{
    const uint8_t *p = data_of(e, o);
    number least, greatest, sum;
    __int128 low = 0, high = 0, total = 0;
    double d_low = INFINITY, d_high = -INFINITY, d_total = 0;
    for (uint64_t i = 0; i < n; i++) {
        __int128 v = is_float(type) ? 0 : integer_at(p, type, i);
        double d = is_float(type) ? float_at(p, type, i) : 0;
        low = i == 0 || v < low ? v : low;
        high = i == 0 || v > high ? v : high;
        total += v;
        d_low = fmin(d_low, d);
        d_high = fmax(d_high, d);
        d_total += d;
    }
    EXPECT_OK(mpe_array_least(e, o, &least));
    EXPECT_OK(mpe_array_greatest(e, o, &greatest));
    EXPECT_OK(mpe_array_sum(e, o, &sum));
    if (is_float(type)) {
        EXPECT(least.d == d_low && greatest.d == d_high);
        EXPECT(fabs(sum.d - d_total) <= 1e-9 * fmax(fabs(d_low), fabs(d_high)) * (double)n);
    } else {
        EXPECT_EQ(least.i, (int64_t)low);
        EXPECT_EQ(greatest.i, (int64_t)high);
        EXPECT_EQ(sum.i, (int64_t)total);
    }
}

TEST(least_greatest_and_sum_are_those_of_a_loop)
{
    mpe_engine *e = mpe_test_engine(0);
    for (const char *t = types; *t; t++)
        for (int l = 0; l < LENGTHS; l++) {
            uint8_t *p;
            mpe_object *o = array_of(e, *t, lengths[l], &p);
            int bits = 8 * (int)mpe_type_size(*t);
            for (int b = 3; b <= bits; b += bits - 3) {
                fill(p, *t, lengths[l], b);
                check_best(e, o, *t, lengths[l]);
            }
            mpe_drop(e, o);
        }
    mpe_close(e);
}

TEST(one_nan_is_seen_at_every_place)
{
    mpe_engine *e = mpe_test_engine(0);
    for (const char *t = "fd"; *t; t++) {
        uint8_t *p;
        number got;
        mpe_object *o = array_of(e, *t, 300, &p);
        fill(p, *t, 300, 20);
        for (uint64_t i = 0; i < 300; i++) {
            double was = float_at(p, *t, i);
            put_float(p, *t, i, i % 2 ? (double)NAN : -(double)NAN);
            EXPECT_OK(mpe_array_least(e, o, &got));
            EXPECT(isnan(got.d));
            EXPECT_OK(mpe_array_greatest(e, o, &got));
            EXPECT(isnan(got.d));
            put_float(p, *t, i, was);
        }
        EXPECT_OK(mpe_array_least(e, o, &got));
        EXPECT(!isnan(got.d));
        mpe_drop(e, o);
    }
    mpe_close(e);
}

/* ---- where the elements lie ---- */

/* A part of an array, beside loops; the elements around it stay. */
static void
check_part(mpe_engine *e, mpe_object *whole, char type, uint64_t first, uint64_t n)
{
    size_t size = mpe_type_size(type);
    uint8_t *p = data_of(e, whole), ends[2];
    mpe_object *v;
    REQUIRE_OK(mpe_array_view(e, whole, &(mpe_part){.first = first, .length = n, .step = 1}, &v));
    ends[0] = p[first * size - 1];
    ends[1] = p[(first + n) * size];
    check_best(e, v, type, n);
    number by = {.i = 3};
    if (is_float(type))
        by.d = 1.1;
    if (!EXPECT(check_change(e, v, v, type, n, by)))
        mpe_test_fail(__FILE__, __LINE__, "'%c' %d from %d", type, (int)n, (int)first);
    EXPECT(check_change(e, v, v, type, n, is_float(type) ? (number){.d = 1e300} : by));
    EXPECT(p[first * size - 1] == ends[0] && p[(first + n) * size] == ends[1]);
    mpe_drop(e, v);
}

TEST(elements_may_lie_anywhere_in_a_cache_line)
{
    mpe_engine *e = mpe_test_engine(0);
    static const uint64_t sizes[] = {1, 2, 63, 64, 65, 130, 8192, 8256};
    for (const char *t = types; *t; t++) {
        uint8_t *p;
        mpe_object *o = array_of(e, *t, 8400, &p);
        fill(p, *t, 8400, 8 * (int)mpe_type_size(*t) - 2);
        for (uint64_t first = 1; first <= 65; first += 1 + first / 9)
            for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
                check_part(e, o, *t, first, sizes[k]);
        mpe_drop(e, o);
    }
    mpe_close(e);
}
