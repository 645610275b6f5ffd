/* SPDX-License-Identifier: MIT */
/* Every call of a rate limiter, killed at every point: no place of the dead stays in the line, what
 * is let through does not exceed the rate, and no waiter sleeps on. */
#include "testing/deaths.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

#define NEVER 1e-6 /* tokens per second: none comes while a test runs */

static void *
ten_tokens(mpe_engine *e)
{
    mpe_test_forget(e);
    REQUIRE_OK(mpe_limiter_create(e, NEVER, 10, &mpe_test_it));
    return mpe_test_it;
}

static double
tokens(mpe_engine *e, mpe_object *o)
{
    mpe_limiter_state state = {0};
    mpe_limiter_state_get(e, o, &state);
    return state.tokens;
}

/* All in one: takes two, stands in line twice for what is never there, leaves it. */
static void
use(mpe_engine *e, void *arg)
{
    mpe_limiter_wait *large = NULL, *small = NULL;
    mpe_limiter_try(e, arg, 2);
    mpe_limiter_acquire(e, arg, 9, &large);
    mpe_limiter_acquire(e, arg, 1, &small);
    mpe_limiter_leave(e, arg, &large);
    mpe_limiter_acquire(e, arg, 1, &small);
}

static void
check_line(mpe_engine *e, void *arg, bool has_ended)
{
    mpe_test_reap(e);
    double left = tokens(e, arg);
    EXPECT(left > 6.999 && left < 10.001);
    EXPECT(!has_ended || left < 7.001);
    EXPECT_OK(mpe_limiter_try(e, arg, 6.9));
}

TEST_LIMIT(a_line_forgets_the_dead, 60)
{
    mpe_test_deaths_everywhere((struct mpe_test_deaths){ten_tokens, NULL, use, check_line});
    mpe_test_deaths_of_reapers((struct mpe_test_deaths){ten_tokens, NULL, use, check_line});
}

static void
stand_in_line(mpe_engine *e, void *arg)
{
    mpe_limiter_wait *wait = NULL;
    EXPECT_EQ(mpe_limiter_acquire(e, arg, 10, &wait), MPE_EAGAIN);
}

/* Returns with its place in the line. */
static void
wait_for_ten(mpe_engine *e, void *arg)
{
    (void)e, (void)arg;
    mpe_limiter_wait *wait = NULL;
    mpe_limiter_acquire(e, arg, 10, &wait);
}

static void *
nine_tokens(mpe_engine *e)
{
    ten_tokens(e);
    EXPECT_OK(mpe_limiter_try(e, mpe_test_it, 1));
    return mpe_test_it;
}

static void
check_free(mpe_engine *e, void *arg, bool has_ended)
{
    (void)has_ended;
    mpe_test_reap(e);
    EXPECT_OK(mpe_limiter_try(e, arg, 8.9));
}

TEST_LIMIT(a_head_that_is_killed_is_no_longer_waited_for, 60)
{
    mpe_test_deaths_everywhere(
        (struct mpe_test_deaths){nine_tokens, NULL, wait_for_ten, check_free});
    mpe_test_deaths_of_reapers(
        (struct mpe_test_deaths){nine_tokens, stand_in_line, wait_for_ten, check_free});
}

static void *
no_tokens(mpe_engine *e)
{
    ten_tokens(e);
    EXPECT_OK(mpe_limiter_try(e, mpe_test_it, 9.999999));
    return mpe_test_it;
}

static void
wait_for_one(mpe_engine *e, void *arg)
{
    EXPECT_OK(mpe_limiter_take(e, arg, 1, MPE_FOREVER));
}

static void
put_one_back(mpe_engine *e, void *arg)
{
    EXPECT_OK(mpe_limiter_put_back(e, arg, 1));
}

static bool
is_due(mpe_engine *e, void *arg)
{
    return tokens(e, arg) > 0.999;
}

static void
check_taken(mpe_engine *e, void *arg, bool has_ended)
{
    (void)has_ended;
    mpe_test_reap(e);
    EXPECT(tokens(e, arg) < 1.001);
}

TEST_LIMIT(a_waiter_gets_its_tokens_though_the_process_that_grants_them_dies, 60)
{
    mpe_test_deaths_beside_a_waiter((struct mpe_test_wait){
        {no_tokens, NULL, put_one_back, check_taken}, wait_for_one, is_due, put_one_back});
}
