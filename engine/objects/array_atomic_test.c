/* SPDX-License-Identifier: MIT */
/* Atomic changes of one element. */
#include "testing/mpe_test.h"
#include "testing/procs.h"

TEST(add_gives_the_sum_and_refuses_one_that_does_not_fit)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *a, *text;
    signed char by = 100, now = 0;
    REQUIRE_OK(mpe_array_create(e, 'b', 2, 0, &a));
    REQUIRE_OK(mpe_array_create(e, 'c', 2, 0, &text));
    EXPECT_OK(mpe_array_add(e, a, 1, &by, &now));
    EXPECT_EQ(now, 100);
    now = 7;
    EXPECT_EQ(mpe_array_add(e, a, 1, &by, &now), MPE_ERANGE);
    EXPECT_EQ(now, 7);
    EXPECT_EQ(mpe_array_add(e, a, 2, &by, NULL), MPE_ERANGE);
    EXPECT_EQ(mpe_array_add(e, text, 0, &by, NULL), MPE_ETYPE);
    EXPECT_EQ(mpe_array_add(e, a, 0, NULL, NULL), MPE_EINVAL);
    EXPECT_EQ(mpe_array_add(NULL, a, 0, &by, NULL), MPE_EINVAL);
    by = -128;
    EXPECT_OK(mpe_array_add(e, a, 0, &by, &now));
    EXPECT_EQ(now, -128);
    EXPECT_EQ(mpe_array_add(e, a, 0, &by, &now), MPE_ERANGE);
    mpe_close(e);
}

TEST(add_knows_unsigned_numbers_and_floats)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q, *d;
    unsigned long long by = 1ull << 63, now;
    double half = 0.5, sum;
    REQUIRE_OK(mpe_array_create(e, 'Q', 1, MPE_ARRAY_RAW, &q));
    REQUIRE_OK(mpe_array_create(e, 'd', 1, MPE_ARRAY_VALUE, &d));
    EXPECT_OK(mpe_array_add(e, q, 0, &by, &now));
    EXPECT(now == by);
    EXPECT_EQ(mpe_array_add(e, q, 0, &by, NULL), MPE_ERANGE);
    EXPECT_OK(mpe_array_add(e, d, 0, &half, NULL));
    EXPECT_OK(mpe_array_add(e, d, 0, &half, &sum));
    EXPECT(sum == 1.0);
    mpe_close(e);
}

static void
count(mpe_engine *e, void *arg)
{
    for (int i = 0, one = 1; i < 20000; i++)
        EXPECT_OK(mpe_array_add(e, arg, 0, &one, NULL));
}

TEST(no_add_of_two_processes_is_lost)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *a;
    REQUIRE_OK(mpe_array_create(e, 'i', 1, 0, &a));
    mpe_process *p = mpe_test_start(e, count, a);
    count(e, a);
    EXPECT_EQ(mpe_test_join(e, p), 0);
    EXPECT_EQ(*(int *)mpe_array_data(e, a, NULL, NULL), 40000);
}

TEST(exchange_takes_the_expected_value_alone)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *a;
    short expected = 0, desired = -5, now = 1;
    REQUIRE_OK(mpe_array_create(e, 'h', 1, 0, &a));
    EXPECT_OK(mpe_array_exchange(e, a, 0, &expected, &desired, &now));
    EXPECT_EQ(now, -5);
    now = 1;
    EXPECT_EQ(mpe_array_exchange(e, a, 0, &expected, &desired, &now), MPE_EAGAIN);
    EXPECT_EQ(now, -5);
    EXPECT_EQ(mpe_array_exchange(e, a, 1, &expected, &desired, &now), MPE_ERANGE);
    EXPECT_EQ(mpe_array_exchange(e, a, 0, NULL, &desired, &now), MPE_EINVAL);
    mpe_close(e);
}
