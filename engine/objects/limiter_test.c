/* SPDX-License-Identifier: MIT */
/* Rate limiters: the bucket, the line, and what a waiter that does not look costs the others. */
#include "base/defs.h"
#include "mpengine_core.h"

#include "testing/deaths.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <math.h>

#define NEVER 1e-6 /* tokens per second: none comes while a test runs */

static mpe_object *
new_limiter(mpe_engine *e, double rate, double burst)
{
    mpe_object *o;
    REQUIRE_OK(mpe_limiter_create(e, rate, burst, &o));
    return o;
}

static double
tokens(mpe_engine *e, mpe_object *o)
{
    mpe_limiter_state state = {0};
    mpe_limiter_state_get(e, o, &state);
    return state.tokens;
}

TEST(a_bucket_is_full_at_first_and_gives_what_it_has)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = new_limiter(e, NEVER, 5);
    EXPECT(tokens(e, o) > 4.999);
    EXPECT_OK(mpe_limiter_try(e, o, 3));
    EXPECT_EQ(mpe_limiter_try(e, o, 3), MPE_EAGAIN);
    EXPECT_OK(mpe_limiter_try(e, o, 1.5));
    EXPECT(fabs(tokens(e, o) - 0.5) < 0.001);
    EXPECT_OK(mpe_limiter_put_back(e, o, 4.5));
    EXPECT_OK(mpe_limiter_put_back(e, o, 4.5));
    EXPECT(tokens(e, o) < 5.001);
    EXPECT_OK(mpe_limiter_try(e, o, 4.9));
    mpe_close(e);
}

TEST(burst_is_the_larger_of_one_and_the_rate_unless_it_is_given)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_limiter_state state;
    mpe_limiter_state_get(e, new_limiter(e, 0.5, 0), &state);
    EXPECT(state.rate == 0.5 && state.burst == 1);
    mpe_limiter_state_get(e, new_limiter(e, 2.5, 0), &state);
    EXPECT(state.rate == 2.5 && state.burst == 2.5);
    mpe_close(e);
}

TEST(settings_and_numbers_of_tokens_that_make_no_sense_are_refused)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = new_limiter(e, 1, 2);
    mpe_limiter_wait *wait = NULL;
    double wrong[] = {-1, NAN, -INFINITY};
    for (size_t i = 0; i < MPE__COUNTOF(wrong); i++) {
        EXPECT_EQ(mpe_limiter_create(e, wrong[i], 1, &o), MPE_EINVAL);
        EXPECT_EQ(mpe_limiter_create(e, 1, wrong[i], &o), MPE_EINVAL);
        EXPECT_EQ(mpe_limiter_try(e, o, wrong[i]), MPE_EINVAL);
        EXPECT_EQ(mpe_limiter_acquire(e, o, wrong[i], &wait), MPE_EINVAL);
    }
    EXPECT_EQ(mpe_limiter_create(e, 0, 1, &o), MPE_EINVAL);
    EXPECT_EQ(mpe_limiter_create(e, 1e10, 1, &o), MPE_ERANGE);
    EXPECT_EQ(mpe_limiter_create(e, 1, INFINITY, &o), MPE_ERANGE);
    EXPECT_EQ(mpe_limiter_create(e, 1, 1, NULL), MPE_EINVAL);
    EXPECT_EQ(mpe_limiter_try(e, o, 0), MPE_EINVAL);
    EXPECT_EQ(mpe_limiter_try(e, o, 2.01), MPE_ERANGE);
    EXPECT_EQ(mpe_limiter_take(e, o, INFINITY, MPE_FOREVER), MPE_ERANGE);
    EXPECT_EQ(mpe_limiter_put_back(e, o, 3), MPE_ERANGE);
    EXPECT_EQ(mpe_limiter_leave(e, o, &wait), MPE_EINVAL);
    mpe_close(e);
}

TEST(a_wait_lasts_as_long_as_the_tokens_take_to_come)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = new_limiter(e, 200, 1);
    uint64_t began = mpe_now();
    for (int i = 0; i < 21; i++)
        EXPECT_OK(mpe_limiter_take(e, o, 1, MPE_FOREVER));
    uint64_t took = mpe_now() - began;
    EXPECT(took > MPE_NS_PER_S / 10 - 1000);
    EXPECT_EQ(mpe_limiter_take(e, o, 1, MPE_NOW), MPE_EAGAIN);
    o = new_limiter(e, NEVER, 1);
    EXPECT_OK(mpe_limiter_take(e, o, 1, MPE_FOREVER));
    EXPECT_EQ(mpe_limiter_take(e, o, 1, mpe_now() + 1000), MPE_ETIMEDOUT);
    EXPECT_EQ(mpe_limiter_take(e, o, 0, MPE_FOREVER), MPE_EINVAL);
    mpe_test_check(e);
    mpe_close(e);
}

TEST(what_is_there_is_not_taken_past_a_waiter)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = new_limiter(e, NEVER, 5);
    mpe_limiter_wait *first = NULL, *second = NULL;
    EXPECT_OK(mpe_limiter_try(e, o, 3));
    EXPECT_EQ(mpe_limiter_acquire(e, o, 4, &first), MPE_EAGAIN);
    EXPECT_EQ(mpe_limiter_try(e, o, 1), MPE_EAGAIN);
    EXPECT_EQ(mpe_limiter_acquire(e, o, 1, &second), MPE_EAGAIN);
    EXPECT_EQ(mpe_limiter_leave(e, o, &first), MPE_ETIMEDOUT);
    EXPECT(!first);
    EXPECT_OK(mpe_limiter_acquire(e, o, 1, &second));
    EXPECT(!second);
    EXPECT_EQ(mpe_limiter_leave(e, o, &second), MPE_EINVAL);
    EXPECT_OK(mpe_limiter_try(e, o, 0.9));
    mpe_close(e);
}

TEST(a_waiter_that_leaves_when_its_tokens_are_there_has_them)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = new_limiter(e, NEVER, 2);
    mpe_limiter_wait *wait = NULL;
    EXPECT_OK(mpe_limiter_try(e, o, 2));
    EXPECT_EQ(mpe_limiter_acquire(e, o, 1, &wait), MPE_EAGAIN);
    EXPECT_OK(mpe_limiter_put_back(e, o, 1));
    EXPECT_OK(mpe_limiter_leave(e, o, &wait));
    EXPECT(tokens(e, o) < 0.001);
    mpe_close(e);
}

/* The twin is an engine of the same process that nothing runs. */
TEST(a_head_that_does_not_look_is_granted_its_tokens_and_the_line_moves_on)
{
    mpe_engine *e = mpe_test_engine(0), *twin = mpe_test_twin(e);
    mpe_object *o = new_limiter(e, 5, 1); /* slow: the head comes before the next token */
    mpe_limiter_wait *wait = NULL;
    uint64_t began = mpe_now();
    EXPECT_OK(mpe_limiter_take(e, o, 1, MPE_NOW));
    EXPECT_EQ(mpe_limiter_acquire(twin, o, 1, &wait), MPE_EAGAIN);
    EXPECT_OK(mpe_limiter_take(e, o, 1, MPE_FOREVER));
    EXPECT(mpe_now() - began >= MPE_NS_PER_S * 2 / 5);
    EXPECT_OK(mpe_limiter_acquire(twin, o, 1, &wait));
    mpe_test_twin_close(twin);
    mpe_close(e);
}

TEST(a_task_does_not_pass_the_others_of_its_process_while_the_first_has_a_grant)
{
    mpe_engine *e = mpe_test_engine(0), *twin = mpe_test_twin(e);
    mpe_object *o = new_limiter(e, NEVER, 5);
    mpe_limiter_wait *first = NULL, *second = NULL, *third = NULL;
    EXPECT_OK(mpe_limiter_try(e, o, 5));
    EXPECT_EQ(mpe_limiter_acquire(twin, o, 1, &first), MPE_EAGAIN);
    EXPECT_EQ(mpe_limiter_acquire(twin, o, 1, &second), MPE_EAGAIN);
    EXPECT_OK(mpe_limiter_put_back(e, o, 2));
    EXPECT_EQ(mpe_limiter_try(twin, o, 1), MPE_EAGAIN);
    EXPECT_EQ(mpe_limiter_acquire(twin, o, 1, &third), MPE_EAGAIN);
    EXPECT_EQ(mpe_limiter_acquire(twin, o, 1, &second), MPE_EAGAIN);
    EXPECT_OK(mpe_limiter_acquire(twin, o, 1, &first));
    EXPECT_OK(mpe_limiter_acquire(twin, o, 1, &second));
    EXPECT_EQ(mpe_limiter_leave(twin, o, &third), MPE_ETIMEDOUT);
    mpe_test_twin_close(twin);
    mpe_close(e);
}

static void
take_one(mpe_engine *e, void *arg)
{
    EXPECT_OK(mpe_limiter_take(e, arg, 1, MPE_FOREVER));
}

TEST(a_waiter_is_woken_when_the_one_before_it_leaves)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = new_limiter(e, NEVER, 5);
    mpe_limiter_wait *wait = NULL;
    EXPECT_OK(mpe_limiter_try(e, o, 4));
    EXPECT_EQ(mpe_limiter_acquire(e, o, 5, &wait), MPE_EAGAIN);
    mpe_process *p = mpe_test_start(e, take_one, o);
    mpe_test_wait_until_asleep(e, p);
    EXPECT_EQ(mpe_limiter_leave(e, o, &wait), MPE_ETIMEDOUT);
    mpe_test_expect_end(e, p, "a leave");
    mpe_close(e);
}

TEST(a_wait_is_over_sooner_when_the_one_before_it_leaves)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = new_limiter(e, 10, 1e6);
    mpe_limiter_wait *wait = NULL;
    EXPECT_OK(mpe_limiter_try(e, o, 1e6));
    EXPECT_EQ(mpe_limiter_acquire(e, o, 1e6, &wait), MPE_EAGAIN);
    mpe_process *p = mpe_test_start(e, take_one, o);
    mpe_test_wait_until_asleep(e, p);
    EXPECT_EQ(mpe_limiter_leave(e, o, &wait), MPE_ETIMEDOUT);
    mpe_test_expect_end(e, p, "a leave");
    mpe_close(e);
}

TEST(tokens_go_to_waiters_of_several_processes_in_the_order_of_their_arrival)
{
    mpe_engine *e = mpe_test_engine(0), *engines[3] = {e, mpe_test_twin(e), mpe_test_twin(e)};
    mpe_object *o = new_limiter(e, NEVER, 9);
    mpe_limiter_wait *waits[9] = {NULL};
    EXPECT_OK(mpe_limiter_try(e, o, 9));
    for (int i = 0; i < 9; i++)
        EXPECT_EQ(mpe_limiter_acquire(engines[i % 3], o, 1, &waits[i]), MPE_EAGAIN);
    for (int next = 0; next < 9; next++) {
        EXPECT_OK(mpe_limiter_put_back(e, o, 1));
        for (int i = 8; i >= next; i--)
            EXPECT_EQ(mpe_limiter_acquire(engines[i % 3], o, 1, &waits[i]),
                      i == next ? MPE_OK : MPE_EAGAIN);
    }
    mpe_test_twin_close(engines[1]);
    mpe_test_twin_close(engines[2]);
    mpe_close(e);
}
