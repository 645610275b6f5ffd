/* SPDX-License-Identifier: MIT */
/* The consumer being woken (queue_wake.c): killed at every point of its way, or served and
 * asleep elsewhere. No other consumer sleeps beside a message. */
#include "core/object.h"
#include "objects/queue.h"
#include "core/bell.h"
#include "testing/deaths.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"
#include "testing/queues.h"

/* ---- deaths ---- */

/* Two items are put while the victim waits: it is woken for the first of them, and until it
 * is awake no other is woken for the second. The putter leaves before it reports, so that the
 * victim is the only one that dies. */
static struct mpe_test_gate is_filed, is_named;
static mpe_process *putter;

static void
put_two(mpe_engine *e, void *arg)
{
    (void)arg;
    mpe_test_gate_wait(is_filed);
    for (int i = 0; i < 2; i++)
        mpe_test_put_item(e, i, MPE_TEST_SMALL);
    mpe_close(e);
    mpe_test_gate_open(is_named);
}

static void *
queue_to_be_put_to(mpe_engine *e)
{
    if (!putter) {
        is_filed = mpe_test_gate_new();
        is_named = mpe_test_gate_new();
    }
    mpe_test_empty_queue(e);
    putter = mpe_test_start(e, put_two, NULL);
    return mpe_test_it;
}

static void
wait_for_item(mpe_engine *e, void *arg)
{
    mpe_message m;
    EXPECT_OK(mpe_test_get(e, arg, &m));
    mpe_message_free(e, &m);
}

static struct mpe_test_waiter waiting;

static void
become_named(mpe_engine *e, void *arg)
{
    mpe_message m;
    waiting = mpe_test_waiter_new();
    EXPECT_EQ(mpe_queue_get(e, arg, &m), MPE_EAGAIN); /* the last to become idle is woken first */
    EXPECT_OK(mpe_wait_object(e, &waiting.w, arg, MPE_EVENT_READY, MPE_FOREVER));
    mpe__store32(&e->self->sleep, MPE__IN_FUTEX); /* as one that sleeps */
    mpe_test_gate_open(is_filed);
    mpe_test_gate_wait(is_named);
}

static void
come_and_get(mpe_engine *e, void *arg)
{
    (void)arg;
    mpe__store32(&e->self->sleep, MPE__AWAKE);
    mpe_poll(e);
    EXPECT_EQ(waiting.fired, 1);
    mpe_test_get_one(e, arg);
    mpe_wait_done(e, &waiting.w);
}

static void
come_and_leave(mpe_engine *e, void *arg)
{
    (void)arg;
    mpe__store32(&e->self->sleep, MPE__AWAKE);
    mpe_wait_stop(e, &waiting.w);
}

static void
check_rest(mpe_engine *e, int most, int least)
{
    struct mpe__queue *q = mpe__body(e, mpe_test_it);
    EXPECT_EQ(mpe_test_join(e, putter), 0);
    mpe_test_reap(e);
    EXPECT_EQ(mpe__load64(&q->waking), 0);
    int count = (int)mpe_queue_size(e, mpe_test_it);
    EXPECT(count <= most && count >= least);
    EXPECT_EQ(mpe_test_drain(e, 2 - count, MPE_TEST_SMALL), count);
    mpe_test_check_queue(e, 0);
}

/* The partner has got an item. */
static void
check_got(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg;
    check_rest(e, has_ended ? 0 : 1, 0);
}

static void
check_left(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg, (void)has_ended;
    check_rest(e, 1, 1);
}

static void
check_all_there(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg, (void)has_ended;
    check_rest(e, 2, 1);
}

TEST_LIMIT(a_consumer_that_dies_hands_its_wake_on, 60)
{
    mpe_test_deaths_beside_a_waiter((struct mpe_test_wait){
        {queue_to_be_put_to, become_named, come_and_get, check_got}, wait_for_item, NULL, NULL});
}

TEST_LIMIT(a_consumer_woken_as_it_leaves_hands_the_wake_on_when_it_dies, 60)
{
    mpe_test_deaths_beside_a_waiter((struct mpe_test_wait){
        {queue_to_be_put_to, become_named, come_and_leave, check_left}, wait_for_item, NULL, NULL});
}

TEST_LIMIT(no_dead_consumer_stays_named_though_reapers_die, 60)
{
    mpe_test_deaths_of_reapers(
        (struct mpe_test_deaths){queue_to_be_put_to, become_named, come_and_get, check_all_there});
}

/* The consumer was named by a process that died, and has left in the meantime: it would not
 * wake. */
static void
name_parent(mpe_engine *e, void *arg)
{
    struct mpe__queue *q = mpe__body(e, arg);
    mpe__store64(&q->waking, 1); /* the parent's slot */
}

static void
check_none_named(mpe_engine *e, void *arg, bool has_ended)
{
    struct mpe__queue *q = mpe__body(e, arg);
    (void)has_ended;
    mpe_test_reap(e);
    EXPECT_EQ(mpe__load64(&q->waking), 0);
}

TEST_LIMIT(a_consumer_named_by_the_dead_does_not_stay_so, 60)
{
    mpe_test_deaths_of_reapers(
        (struct mpe_test_deaths){mpe_test_empty_queue, NULL, name_parent, check_none_named});
}

/* ---- served and gone ---- */

/* A consumer of arg that sleeps until it gets one message. */
static mpe_process *
start_sleeper(mpe_engine *e, mpe_object *queue)
{
    mpe_process *p = mpe_test_start(e, wait_for_item, queue);
    mpe_test_wait_until_asleep(e, p);
    return p;
}

/* Like a sleeper; meanwhile others write and read only the bell. */
static void
seem_asleep(mpe_engine *e, int asleep)
{
    atomic_store(&e->self->sleep, asleep ? MPE__IN_FUTEX : MPE__AWAKE);
}

/* This process is woken, takes the message, and sleeps on another object of the same bell bit,
 * for which it is rung. The next message is for the sleeper. */
static void
be_served_and_go(mpe_engine *e, mpe_object *queue)
{
    struct mpe_test_waiter w = mpe_test_waiter_new();
    mpe_process *sleeper = start_sleeper(e, queue);
    EXPECT_EQ(mpe_queue_get(e, queue, &(mpe_message){0}), MPE_EAGAIN); /* the last to be idle */
    REQUIRE_OK(mpe_wait_object(e, &w.w, queue, MPE_EVENT_READY, MPE_FOREVER));
    seem_asleep(e, 1);
    mpe_test_put_number(e, queue, 1);
    seem_asleep(e, 0);
    EXPECT_OK(mpe_run_until(e, &w.fired));
    EXPECT_EQ(mpe_test_get_number(e, queue), 1);
    mpe_wait_done(e, &w.w);
    seem_asleep(e, 1);
    mpe__ring(e, e->slot, 1u << mpe__bucket(mpe__index_of(e, queue)));
    mpe_test_put_number(e, queue, 2);
    mpe_test_expect_end(e, sleeper, "the second message");
    seem_asleep(e, 0);
    mpe_poll(e);
}

static void
go_often(unsigned flags)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *queue = mpe_test_new_queue(e, 0, flags);
    for (int i = 0; i < 20; i++) /* a slow one does not show it: a name is relied on for 100 us */
        be_served_and_go(e, queue);
    mpe_drop(e, queue);
    mpe_close(e);
}

TEST(a_consumer_that_was_served_is_not_relied_on)
{
    go_often(0);
}

TEST(a_joinable_queue_clears_the_name_too)
{
    go_often(MPE_QUEUE_JOINABLE);
}

/* It waits, is the first to be woken, and does not check. */
TEST(a_consumer_that_runs_is_not_relied_on)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *queue = mpe_test_new_queue(e, 0, 0);
    struct mpe_test_waiter w = mpe_test_waiter_new();
    mpe_process *sleeper = start_sleeper(e, queue);
    EXPECT_EQ(mpe_queue_get(e, queue, &(mpe_message){0}), MPE_EAGAIN);
    REQUIRE_OK(mpe_wait_object(e, &w.w, queue, MPE_EVENT_READY, MPE_FOREVER));
    mpe_test_put_number(e, queue, 1);
    mpe_test_expect_end(e, sleeper, "the message");
    mpe_wait_stop(e, &w.w);
    mpe_drop(e, queue);
    mpe_close(e);
}

/* Two messages are there when it is awake: it wakes the next before it runs the waiter it was
 * woken for. */
TEST(a_consumer_that_is_awake_wakes_the_next_before_it_takes_a_message)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *queue = mpe_test_new_queue(e, 0, 0);
    struct mpe_test_waiter w = mpe_test_waiter_new();
    mpe_process *sleeper = start_sleeper(e, queue);
    EXPECT_EQ(mpe_queue_get(e, queue, &(mpe_message){0}), MPE_EAGAIN);
    REQUIRE_OK(mpe_wait_object(e, &w.w, queue, MPE_EVENT_READY, MPE_FOREVER));
    seem_asleep(e, 1);
    mpe_test_put_number(e, queue, 1);
    mpe_test_put_number(e, queue, 2);
    seem_asleep(e, 0);
    mpe_poll(e);
    EXPECT_EQ(w.fired, 1);
    mpe_test_expect_end(e, sleeper, "the wake of the next");
    EXPECT_EQ(mpe_test_get_number(e, queue), 2);
    mpe_wait_done(e, &w.w);
    mpe_drop(e, queue);
    mpe_close(e);
}
