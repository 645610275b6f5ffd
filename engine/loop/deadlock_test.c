/* SPDX-License-Identifier: MIT */
/* Deadlocks of all processes: which process finds them, and which states are not deadlocks. */
#include "loop/loop.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <signal.h>
#include <unistd.h>

static mpe_object *queues[4];

static int
get_forever(mpe_engine *e, int i)
{
    mpe_message m;
    int rc = mpe_test_get(e, queues[i], &m);
    if (rc == MPE_OK)
        mpe_message_free(e, &m);
    return rc;
}

static mpe_engine *
open_with_queues(void)
{
    mpe_engine *e = mpe_test_engine(0);
    for (size_t i = 0; i < MPE__COUNTOF(queues); i++)
        REQUIRE_OK(mpe_queue_create(e, 0, 0, &queues[i]));
    mpe_find_deadlocks(e, 1);
    return e;
}

static void
get_nothing(mpe_engine *e, void *arg)
{
    mpe_deadlock d;
    mpe_object *o;
    EXPECT_EQ(get_forever(e, *(int *)arg), MPE_EDEADLK);
    EXPECT_OK(mpe_deadlock_get(e, &d));
    EXPECT_EQ(d.processes, 3);
    EXPECT_EQ(d.teller, 0);
    EXPECT_OK(mpe_hold(e, d.queue, &o));
    mpe_test_put(e, o, "x", 1);
}

TEST(ends_the_waits_of_all_of_them_which_report_to_the_first)
{
    mpe_test_needs_deaths();
    mpe_engine *e = open_with_queues();
    for (int round = 0; round < 20; round++) {
        mpe_deadlock d;
        mpe_object *o;
        mpe_message m;
        mpe_process *p[2];
        for (int i = 0; i < 2; i++)
            p[i] = mpe_test_start(e, get_nothing, &i);
        EXPECT_EQ(get_forever(e, 3), MPE_EDEADLK);
        REQUIRE_OK(mpe_deadlock_get(e, &d));
        REQUIRE_OK(mpe_hold(e, d.queue, &o));
        for (int i = 0; i < 2; i++) {
            REQUIRE_OK(mpe_test_get(e, o, &m));
            mpe_message_free(e, &m);
        }
        mpe_drop(e, o);
        for (int i = 0; i < 2; i++)
            EXPECT_EQ(mpe_test_join(e, p[i]), 0);
    }
    EXPECT_EQ(mpe_run_until(e, &(int){0}), MPE_EDEADLK);
    EXPECT_EQ(mpe_deadlock_get(e, &(mpe_deadlock){0}), MPE_ENOENT);
    mpe_test_check(e);
    mpe_close(e);
}

static void
get_in_vain(mpe_engine *e, void *arg)
{
    (void)arg;
    EXPECT_EQ(get_forever(e, 0), MPE_EDEADLK);
    EXPECT_OK(get_forever(e, 2)); /* its parent got the deadlock, and does not see its exit
                                   * instead */
}

/* Waits on the loop, forever, and again after each deadlock; returns how many deadlocks there
 * were. */
static int
wait_for_end(mpe_engine *e, mpe_process *p, int *code)
{
    struct mpe_test_waiter end = mpe_test_waiter_new();
    int rc, deadlocks = 0;
    REQUIRE_OK(mpe_process_wait(e, p, &end.w, MPE_FOREVER));
    while ((rc = mpe_run_until(e, &end.fired)) == MPE_EDEADLK) {
        deadlocks++;
        REQUIRE_OK(mpe_test_put(e, queues[2], "told", 4));
    }
    EXPECT_OK(rc);
    EXPECT_OK(mpe_process_poll(e, p, code));
    mpe_process_free(e, p);
    return deadlocks;
}

TEST(counts_a_wait_for_the_end_of_a_child)
{
    mpe_engine *e = open_with_queues();
    int code;
    EXPECT_EQ(wait_for_end(e, mpe_test_start(e, get_in_vain, NULL), &code), 1);
    EXPECT_EQ(code, 0);
    mpe_close(e);
}

static void
never(mpe_engine *e, mpe_waiter *w, int status)
{
    (void)e, (void)w, (void)status;
}

/* Goes to sleep in round 8, with this as the first mark since it did something; a deadlock was
 * found by the answers to round 7. */
static int
sleep_after(uint32_t first_said)
{
    mpe_engine *e = open_with_queues();
    mpe_waiter w = {.fire = never};
    REQUIRE_OK(mpe_wait_object(e, &w, queues[0], MPE_EVENT_READY, MPE_FOREVER));
    mpe__store32(&e->header->quiet_round, 8);
    mpe__store32(&e->header->deadlock, (7 << 1) + 3);
    e->loop->quiet = (8 << 1) + 3;
    e->loop->still_since = first_said;
    atomic_store(&e->self->bell, MPE__BROADCAST); /* so it does not find one itself */
    int told = mpe__quiet_begin(e, MPE_FOREVER);
    EXPECT_EQ(mpe_deadlock_get(e, &(mpe_deadlock){0}), told ? MPE_OK : MPE_ENOENT);
    mpe_wait_stop(e, &w);
    mpe_close(e);
    return told;
}

TEST(is_reported_to_a_process_that_woke_for_nothing_meanwhile)
{
    EXPECT_EQ(sleep_after((5 << 1) + 2), 1);
    EXPECT_EQ(sleep_after((7 << 1) + 2), 1);
}

TEST(is_not_reported_to_a_process_that_has_done_something_since)
{
    EXPECT_EQ(sleep_after((8 << 1) + 2), 0);
}

static void
leave(mpe_engine *e, void *arg)
{
    (void)arg;
    mpe_test_get(e, queues[0], &(mpe_message){0});
    mpe_leave(e);
    usleep(20000); /* its parent waits for an exit that is still to come */
    _exit(0);
}

static void
idle(mpe_engine *e, void *arg)
{
    (void)arg;
    get_forever(e, 1);
}

TEST(the_end_of_a_process_that_has_left_is_no_deadlock)
{
    mpe_engine *e = open_with_queues();
    mpe_process *idler = mpe_test_start(e, idle, NULL);
    for (int i = 0; i < 10; i++) {
        mpe_process *p = mpe_test_start(e, leave, NULL);
        int code;
        REQUIRE_OK(mpe_test_put(e, queues[0], "x", 1));
        EXPECT_EQ(wait_for_end(e, p, &code), 0);
    }
    mpe_test_put(e, queues[1], "x", 1);
    EXPECT_EQ(mpe_test_join(e, idler), 0);
    mpe_close(e);
}

TEST(a_death_in_progress_is_no_deadlock)
{
    mpe_engine *e = open_with_queues();
    mpe_process *idler = mpe_test_start(e, idle, NULL);
    for (int i = 0; i < 50; i++) {
        mpe_process *p = mpe_test_start(e, idle, NULL);
        mpe_slot_info info = {0};
        int code;
        while (info.sleeping == 0)
            mpe_slot_get(e, 2, &info);
        REQUIRE(kill(mpe_process_pid(p), SIGKILL) == 0);
        EXPECT_EQ(wait_for_end(e, p, &code), 0);
        EXPECT_EQ(code, -SIGKILL);
    }
    mpe_test_put(e, queues[1], "x", 1);
    EXPECT_EQ(mpe_test_join(e, idler), 0);
    mpe_close(e);
}
