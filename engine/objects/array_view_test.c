/* SPDX-License-Identifier: MIT */
/* Views of arrays, and the calculations, for a program in C. */
#include "testing/mpe_test.h"
#include "testing/procs.h"

static mpe_object *
numbers(mpe_engine *e, uint64_t n)
{
    char type;
    uint64_t length;
    mpe_object *o;
    REQUIRE_OK(mpe_array_create(e, 'q', n, 0, &o));
    int64_t *p = mpe_array_data(e, o, &type, &length);
    for (uint64_t i = 0; i < n; i++)
        p[i] = (int64_t)i;
    return o;
}

static mpe_object *
view_of(mpe_engine *e, mpe_object *o, uint64_t first, uint64_t length, int64_t step)
{
    mpe_object *v;
    REQUIRE_OK(
        mpe_array_view(e, o, &(mpe_part){.first = first, .length = length, .step = step}, &v));
    return v;
}

static void
add_one(mpe_engine *e, void *arg)
{
    int64_t one = 1;
    mpe_array_add(e, arg, 0, &one, NULL);
}

TEST(a_view_keeps_its_array_and_goes_with_it)
{
    mpe_test_needs_deaths();
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *a = numbers(e, 100), *v = view_of(e, a, 99, 50, -2), *w = view_of(e, v, 1, 3, 10);
    EXPECT_EQ(mpe_array_whole(e, w), mpe_handle_of(e, a));
    EXPECT(mpe_array_data(e, v, NULL, NULL) == NULL);
    mpe_drop(e, a);
    mpe_drop(e, v);
    mpe_sweep(e);
    EXPECT_EQ(mpe_test_join(e, mpe_test_start(e, add_one, w)), 0);
    mpe_elements s;
    EXPECT_OK(mpe_array_elements(e, w, &s));
    EXPECT_EQ(s.length, 3);
    EXPECT_EQ(s.step, -20);
    EXPECT_EQ(*(int64_t *)s.first, 98);
    EXPECT_EQ(((int64_t *)s.first)[2 * s.step], 57);
    mpe_drop(e, w);
    mpe_sweep(e);
    EXPECT_EQ(mpe_test_used(e), 0);
    mpe_close(e);
}

TEST(a_view_is_inside_its_array)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *a = numbers(e, 10), *v = NULL;
    static const mpe_part outside[] = {
        {10, 1, 1, 0},        {0, 11, 1, 0},        {11, 0, 1, 0},
        {0, 2, -1, 0},        {5, 2, 5, 0},         {1, UINT64_MAX, 1, 0},
        {0, 2, INT64_MIN, 0}, {9, 3, INT64_MAX, 0}, {UINT64_MAX, 1, 1, 0},
    };
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++)
        EXPECT_EQ(mpe_array_view(e, a, &outside[i], &v), MPE_ERANGE);
    EXPECT_EQ(mpe_array_view(e, a, &(mpe_part){.length = 1}, &v), MPE_EINVAL);
    EXPECT_EQ(mpe_array_view(e, a, &(mpe_part){.length = 10, .step = 1, .columns = 3}, &v),
              MPE_EINVAL);
    EXPECT(v == NULL);
    mpe_drop(e, view_of(e, a, 10, 0, 1));
    mpe_drop(e, view_of(e, a, 9, 1, INT64_MIN));
    mpe_close(e);
}

TEST(calculations_refuse_what_does_not_match)
{
    mpe_engine *e = mpe_test_engine(0);
    int64_t n = 2, got = -1;
    mpe_object *a = numbers(e, 10), *few = numbers(e, 9), *text, *other, *none = numbers(e, 0);
    REQUIRE_OK(mpe_array_create(e, 'c', 10, 0, &text));
    REQUIRE_OK(mpe_matrix_create(e, 'Q', 5, 2, MPE_ARRAY_RAW, &other));
    EXPECT_EQ(mpe_matrix_create(e, 'Q', 5, 0, 0, &other), MPE_EINVAL);
    EXPECT_EQ(mpe_matrix_create(e, 'Q', UINT64_MAX, 3, 0, &other), MPE_EARENA);
    EXPECT_EQ(mpe_array_sum(e, text, &got), MPE_ETYPE);
    EXPECT_EQ(mpe_array_least(e, none, &got), MPE_ERANGE);
    EXPECT_EQ(mpe_array_dot(e, a, few, &got), MPE_EINVAL);
    EXPECT_EQ(mpe_array_dot(e, a, other, &got), MPE_ETYPE);
    EXPECT_EQ(mpe_array_axpy(e, a, &n, few), MPE_EINVAL);
    EXPECT_EQ(mpe_array_scale(e, a, NULL), MPE_EINVAL);
    EXPECT_EQ(got, -1);
    EXPECT_OK(mpe_array_dot(e, a, a, &got));
    EXPECT_EQ(got, 285);
    n = INT64_MAX;
    EXPECT_EQ(mpe_array_scale(e, a, &n), MPE_ERANGE);
    EXPECT_OK(mpe_array_sum(e, a, &got));
    EXPECT_EQ(got, 45);
    EXPECT_OK(mpe_array_greatest(e, a, &got));
    EXPECT_EQ(got, 9);
    mpe_close(e);
}
