/* SPDX-License-Identifier: MIT */
/* Calls on a queue, killed at every point while another process waits for their effect: it does
 * not sleep beside an existing item, room or end. */
#include "core/object.h"
#include "objects/queue.h"
#include "testing/deaths.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"
#include "testing/queues.h"

/* ---- beside a waiter ---- */

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

TEST_LIMIT(join_ends_though_the_taker_of_the_last_task_dies, 60)
{
    mpe_test_deaths_beside_a_waiter((struct mpe_test_wait){
        {one_to_be_done, NULL, get_and_do, check_joined}, wait_for_join, is_all_done, get_and_do});
}
