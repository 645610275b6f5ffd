/* SPDX-License-Identifier: MIT */
/* Fetches of a cache: a process is killed at every point of its part in a computation. Those that
 * wait have its result, or one of them computes; and nothing of the flight is left. */
#include "objects/cache_int.h"
#include "testing/deaths.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <string.h>

static mpe_cache_flight flight; /* of this process */
static uint64_t used;
static uint32_t objects;
static uint8_t large[5000];

static mpe_bytes
key(void)
{
    return mpe_test_bytes("key");
}

static mpe_bytes
value(void)
{
    return (mpe_bytes){large, sizeof large};
}

static int
fetch(mpe_engine *e, void *arg)
{
    mpe_buf b;
    mpe_buf_init(&b);
    int rc = mpe_cache_fetch(e, arg, key(), 1, 0, &b, &flight);
    mpe_buf_free(&b);
    return rc;
}

static int
fetch_again(mpe_engine *e, void *arg)
{
    mpe_buf b;
    mpe_buf_init(&b);
    int rc = mpe_cache_fetch_again(e, arg, &flight, &b);
    mpe_buf_free(&b);
    return rc;
}

static void
end(mpe_engine *e, void *arg)
{
    EXPECT_OK(mpe_cache_fetch_end(e, arg, &flight, value(), 0, 0));
}

static void
fail(mpe_engine *e, void *arg)
{
    EXPECT_OK(mpe_cache_fetch_fail(e, arg, &flight, mpe_test_bytes("an error"), 0));
}

static void
leave(mpe_engine *e, void *arg)
{
    mpe_cache_fetch_leave(e, arg, &flight);
}

static void *
new_cache(mpe_engine *e)
{
    mpe_test_forget(e);
    REQUIRE_OK(mpe_cache_create(e, 64 << 10, MPE_FOREVER, &mpe_test_it));
    used = mpe_test_used(e);
    objects = mpe_test_objects(e);
    return mpe_test_it;
}

/* This process computes. */
static void *
cache_with_a_flight(mpe_engine *e)
{
    new_cache(e);
    REQUIRE(fetch(e, mpe_test_it) == MPE_ENOENT);
    return mpe_test_it;
}

static struct mpe__flight *
the_flight(mpe_engine *e)
{
    return mpe__at(e, flight.at);
}

/* From now on this process computes, and not the one that began. */
static void
take_over(mpe_engine *e, void *arg)
{
    (void)arg;
    flight.slot = e->slot;
    mpe__store64(&the_flight(e)->owner, (uint64_t)(e->slot + 1) << 32 | flight.task);
}

/* Waits, and computes when it must. */
static void
wait_for_value(mpe_engine *e, void *arg)
{
    int rc = fetch(e, arg);
    while (rc == MPE_EAGAIN) {
        REQUIRE_OK(mpe_wait(e, flight.event, MPE_FOREVER));
        rc = fetch_again(e, arg);
    }
    EXPECT(rc == MPE_OK || rc == MPE_ENOENT || rc == MPE_ECANCELED);
    if (rc == MPE_ENOENT)
        end(e, arg);
}

static void
expect_no_flight(mpe_engine *e)
{
    struct mpe__cache *c = mpe__cache_body(e, mpe_test_it);
    for (uint32_t i = 0; i < c->shards; i++)
        EXPECT_EQ(mpe__load64(&c->all[i].flights), 0);
    mpe_sweep(e);
    EXPECT_EQ(mpe_test_used(e), used);
    EXPECT_EQ(mpe_test_objects(e), objects);
    mpe_test_check(e);
}

static int
value_size(mpe_engine *e)
{
    mpe_buf b;
    mpe_buf_init(&b);
    int rc = mpe_cache_get(e, mpe_test_it, key(), &b), size = rc == MPE_OK ? (int)b.len : -1;
    mpe_buf_free(&b);
    return size;
}

static void
check_value(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg, (void)has_ended;
    EXPECT_EQ(value_size(e), (int)sizeof large);
    expect_no_flight(e);
}

static void
check_no_flight(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg, (void)has_ended;
    expect_no_flight(e);
}

TEST_LIMIT(a_waiter_computes_though_the_one_before_dies, 60)
{
    mpe_test_deaths_beside_a_waiter((struct mpe_test_wait){
        {cache_with_a_flight, take_over, end, check_value}, wait_for_value, NULL, NULL});
}

TEST_LIMIT(a_waiter_has_a_result_though_the_one_before_dies_failing, 60)
{
    mpe_test_deaths_beside_a_waiter((struct mpe_test_wait){
        {cache_with_a_flight, take_over, fail, check_no_flight}, wait_for_value, NULL, NULL});
}

TEST_LIMIT(a_waiter_computes_though_the_one_that_leaves_dies, 60)
{
    mpe_test_deaths_beside_a_waiter((struct mpe_test_wait){
        {cache_with_a_flight, take_over, leave, check_value}, wait_for_value, NULL, NULL});
}

/* The victim waits as well, and finds that nothing computes. */
static void
wait_and_orphan(mpe_engine *e, void *arg)
{
    EXPECT_EQ(fetch(e, arg), MPE_EAGAIN);
    mpe__store64(&the_flight(e)->owner, 0);
}

static void
compute_next(mpe_engine *e, void *arg)
{
    if (fetch_again(e, arg) == MPE_ENOENT)
        end(e, arg);
}

TEST_LIMIT(a_waiter_computes_though_the_next_one_dies, 60)
{
    mpe_test_deaths_beside_a_waiter(
        (struct mpe_test_wait){{cache_with_a_flight, wait_and_orphan, compute_next, check_value},
                               wait_for_value,
                               NULL,
                               NULL});
}

/* ---- alone ---- */

static void
begin_and_end(mpe_engine *e, void *arg)
{
    if (fetch(e, arg) == MPE_ENOENT)
        end(e, arg);
}

/* What was begun is over, and the next one begins anew. */
static void
check_begun(mpe_engine *e, void *arg, bool has_ended)
{
    mpe_test_reap(e);
    int rc = fetch(e, arg);
    EXPECT(rc == MPE_OK || (!has_ended && rc == MPE_ENOENT));
    if (rc == MPE_ENOENT)
        end(e, arg);
    check_value(e, arg, has_ended);
}

TEST_LIMIT(a_flight_ends_with_the_process_that_computes, 60)
{
    struct mpe_test_deaths d = {new_cache, NULL, begin_and_end, check_begun};
    mpe_test_deaths_everywhere(d);
    mpe_test_deaths_of_reapers(d);
}

static void
wait_and_leave(mpe_engine *e, void *arg)
{
    fetch(e, arg);
    leave(e, arg);
}

static void
check_left(mpe_engine *e, void *arg, bool has_ended)
{
    mpe_test_reap(e);
    end(e, arg);
    check_value(e, arg, has_ended);
}

TEST_LIMIT(a_flight_is_given_up_by_any_death_of_a_waiter, 60)
{
    struct mpe_test_deaths d = {cache_with_a_flight, NULL, wait_and_leave, check_left};
    mpe_test_deaths_everywhere(d);
    mpe_test_deaths_of_reapers(d);
}

static void
fetch_only(mpe_engine *e, void *arg)
{
    EXPECT_EQ(fetch(e, arg), MPE_ENOENT);
}

/* The reaper may be in the midst of a change of the shard. */
TEST_LIMIT(flights_of_a_locked_shard_are_settled_when_it_is_unlocked, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    new_cache(e);
    mpe_test_kill_at(e, NULL, fetch_only, mpe_test_it, 0);
    struct mpe__cache_view v = mpe__cache_view_of(mpe__cache_body(e, mpe_test_it), 0);
    mpe__ilock(e, &v.shard->lock, mpe__index_of(e, mpe_test_it));
    mpe_test_reap(e);
    EXPECT(mpe__load64(&v.shard->flights) != 0);
    mpe__cache_unlock(e, mpe_test_it, &v);
    expect_no_flight(e);
    mpe_close(e);
}
