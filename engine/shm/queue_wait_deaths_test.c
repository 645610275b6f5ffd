/* SPDX-License-Identifier: MIT */
/* Calls on a queue, killed at every point while somebody waits for what they bring, and those who
 * wait killed on their way: nobody sleeps on beside an item, room or an end that is there. */
#include "shm/object.h"
#include "shm/queue.h"
#include "testing/deaths.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"
#include "testing/queues.h"

/* ---- beside somebody who waits ---- */

static void
wait_for_item(mpe_engine *e, void *arg)
{
    mpe_message m;
    int rc = mpe_test_get(e, arg, &m);
    if (rc == MPE_OK)
        mpe_message_free(e, &m);
    EXPECT(rc == MPE_OK || rc == MPE_ECLOSED);
}

static bool
has_been_put(mpe_engine *e, void *arg)
{
    uint32_t put_seq, get_seq;
    mpe_queue_seqs(e, arg, &put_seq, &get_seq);
    return put_seq == 1;
}

static void
check_empty(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg, (void)has_ended;
    EXPECT_EQ(mpe_test_drain(e, 0, 0), 0);
    mpe_test_check_queue(e, 0);
}

TEST_LIMIT(a_put_wakes_the_getter_though_the_putter_dies, 60)
{
    mpe_test_deaths_beside_a_waiter(
        (struct mpe_test_wait){{mpe_test_empty_queue, NULL, mpe_test_put_small, check_empty},
                               wait_for_item,
                               has_been_put,
                               mpe_test_put_small});
    mpe_test_deaths_beside_a_waiter(
        (struct mpe_test_wait){{mpe_test_empty_queue, NULL, mpe_test_put_large, check_empty},
                               wait_for_item,
                               has_been_put,
                               mpe_test_put_large});
}

static void *
full_queue(mpe_engine *e)
{
    return mpe_test_queue_of(e, 1, 0, 1, MPE_TEST_LARGE);
}

static void
wait_for_space(mpe_engine *e, void *arg)
{
    static const uint8_t item[MPE_TEST_SMALL] = {1};
    EXPECT_OK(mpe_test_put(e, arg, item, sizeof item));
}

static bool
has_been_got(mpe_engine *e, void *arg)
{
    uint32_t put_seq, get_seq;
    mpe_queue_seqs(e, arg, &put_seq, &get_seq);
    return get_seq == 1;
}

static void
check_one_small(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg, (void)has_ended;
    EXPECT_EQ(mpe_test_drain(e, 1, MPE_TEST_SMALL), 1);
    mpe_test_check_queue(e, 0);
}

TEST_LIMIT(a_get_wakes_the_putter_though_the_getter_dies, 60)
{
    mpe_test_deaths_beside_a_waiter(
        (struct mpe_test_wait){{full_queue, NULL, mpe_test_get_one, check_one_small},
                               wait_for_space,
                               has_been_got,
                               mpe_test_get_one});
}

static void
close_queue(mpe_engine *e, void *arg)
{
    mpe_queue_close(e, arg);
}

static bool
is_closed(mpe_engine *e, void *arg)
{
    return mpe_queue_is_closed(e, arg);
}

static void
check_closed(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg, (void)has_ended;
    EXPECT(mpe_queue_is_closed(e, mpe_test_it));
    EXPECT_EQ(mpe_queue_get(e, mpe_test_it, &(mpe_message){0}), MPE_ECLOSED);
}

TEST_LIMIT(a_close_wakes_the_getter_though_the_closer_dies, 60)
{
    mpe_test_deaths_beside_a_waiter(
        (struct mpe_test_wait){{mpe_test_empty_queue, NULL, close_queue, check_closed},
                               wait_for_item,
                               is_closed,
                               close_queue});
}

static void *
one_to_be_done(mpe_engine *e)
{
    return mpe_test_queue_of(e, 0, MPE_QUEUE_JOINABLE, 1, MPE_TEST_SMALL);
}

static int
try_join(mpe_engine *e, mpe_object *queue, void *ud)
{
    (void)ud;
    return mpe_queue_join(e, queue);
}

static void
wait_for_join(mpe_engine *e, void *arg)
{
    EXPECT_OK(mpe_await(e, arg, MPE_EVENT_DONE, MPE_FOREVER, try_join, NULL));
}

static bool
is_all_done(mpe_engine *e, void *arg)
{
    return mpe_queue_join(e, arg) == MPE_OK;
}

static void
check_joined(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg, (void)has_ended;
    EXPECT_EQ(mpe_queue_task_done(e, mpe_test_it), MPE_EOVER);
    EXPECT_OK(mpe_queue_join(e, mpe_test_it));
    mpe_test_check_queue(e, 0);
}

static void
get_and_do(mpe_engine *e, void *arg)
{
    mpe_test_get_one(e, arg);
    mpe_queue_task_done(e, arg);
}

TEST_LIMIT(join_ends_though_the_one_who_took_the_last_task_dies, 60)
{
    mpe_test_deaths_beside_a_waiter((struct mpe_test_wait){
        {one_to_be_done, NULL, get_and_do, check_joined}, wait_for_join, is_all_done, get_and_do});
}

/* ---- the one that is called ---- */

/* Two items are put while the victim waits: it is called for the first of them, and as it is on its
 * way nobody else is for the second. */
static struct mpe_test_gate is_filed, is_called;
static mpe_process *putter;

static void
put_two(mpe_engine *e, void *arg)
{
    (void)arg;
    mpe_test_gate_wait(is_filed);
    for (int i = 0; i < 2; i++)
        mpe_test_put_item(e, i, MPE_TEST_SMALL);
    mpe_test_gate_open(is_called);
}

static void *
queue_to_be_put_to(mpe_engine *e)
{
    if (!putter) {
        is_filed = mpe_test_gate_new();
        is_called = mpe_test_gate_new();
    }
    mpe_test_empty_queue(e);
    putter = mpe_test_start(e, put_two, NULL);
    return mpe_test_it;
}

static struct mpe_test_waiter waiting;

static void
become_called(mpe_engine *e, void *arg)
{
    mpe_message m;
    waiting = mpe_test_waiter_new();
    EXPECT_EQ(mpe_queue_get(e, arg, &m), MPE_EAGAIN); /* the last to become idle is called first */
    EXPECT_OK(mpe_wait_object(e, &waiting.w, arg, MPE_EVENT_READY, MPE_FOREVER));
    mpe__store32(&e->self->sleep, MPE__IN_FUTEX); /* as one that sleeps */
    mpe_test_gate_open(is_filed);
    mpe_test_gate_wait(is_called);
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
    EXPECT_EQ((uint32_t)mpe__load64(&q->called), 0);
    int count = (int)mpe_queue_size(e, mpe_test_it);
    EXPECT(count <= most && count >= least);
    EXPECT_EQ(mpe_test_drain(e, 2 - count, MPE_TEST_SMALL), count);
    mpe_test_check_queue(e, 0);
}

/* The partner has got one. */
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

TEST_LIMIT(who_is_called_and_dies_hands_the_call_on, 60)
{
    mpe_test_deaths_beside_a_waiter((struct mpe_test_wait){
        {queue_to_be_put_to, become_called, come_and_get, check_got}, wait_for_item, NULL, NULL});
}

TEST_LIMIT(who_is_called_as_it_leaves_and_dies_hands_the_call_on, 60)
{
    mpe_test_deaths_beside_a_waiter(
        (struct mpe_test_wait){{queue_to_be_put_to, become_called, come_and_leave, check_left},
                               wait_for_item,
                               NULL,
                               NULL});
}

TEST_LIMIT(nobody_dead_stays_called_though_reapers_die, 60)
{
    mpe_test_deaths_of_reapers(
        (struct mpe_test_deaths){queue_to_be_put_to, become_called, come_and_get, check_all_there});
}

/* It was named by one that died, and has left meanwhile: it would not come. */
static void
name_called(mpe_engine *e, void *arg)
{
    struct mpe__queue *q = mpe__body(e, arg);
    mpe__store64(&q->called, (mpe__load64(&q->called) >> 32) << 32 | 1); /* the parent's slot */
}

static void
check_nobody_called(mpe_engine *e, void *arg, bool has_ended)
{
    struct mpe__queue *q = mpe__body(e, arg);
    (void)has_ended;
    mpe_test_reap(e);
    EXPECT_EQ((uint32_t)mpe__load64(&q->called), 0);
}

TEST_LIMIT(who_was_named_by_the_dead_does_not_stay_called, 60)
{
    mpe_test_deaths_of_reapers(
        (struct mpe_test_deaths){mpe_test_empty_queue, NULL, name_called, check_nobody_called});
}
