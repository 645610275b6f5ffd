/* SPDX-License-Identifier: MIT */
/* A process that runs without sleeping notices the deaths of others, in each way of running the
 * loop. */
#include "loop/loop.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

static struct mpe_test_gate is_ready;

static void
hold_lock(mpe_engine *e, void *lock)
{
    REQUIRE_OK(mpe_lock_acquire(e, lock, 1));
    mpe_test_gate_open(is_ready);
    mpe_test_gate_wait(mpe_test_gate_new());
}

static mpe_object *
lock_of_a_dead_owner(mpe_engine *e)
{
    mpe_object *lock;
    REQUIRE_OK(mpe_lock_create(e, 0, &lock));
    is_ready = mpe_test_gate_new();
    mpe_process *owner = mpe_test_start(e, hold_lock, lock);
    mpe_test_gate_wait(is_ready);
    mpe_test_kill(owner);
    EXPECT_EQ(mpe_lock_acquire(e, lock, 1), MPE_EAGAIN);
    return lock;
}

static void
expect_noticed(void (*go)(mpe_engine *e, mpe_object *lock))
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *lock = lock_of_a_dead_owner(e);
    int rc = MPE_EAGAIN;
    for (int i = 0; i < 20 && rc == MPE_EAGAIN; i++) {
        go(e, lock);
        rc = mpe_lock_acquire(e, lock, 1);
    }
    EXPECT_EQ(rc, MPE_OWNER_DIED);
    mpe_test_check(e);
    mpe_close(e);
}

static void
notice(mpe_engine *e, mpe_object *lock)
{
    (void)lock;
    mpe_notice_deaths(e);
}

static void
poll_loop(mpe_engine *e, mpe_object *lock)
{
    (void)lock;
    mpe_poll(e);
}

static void
go_round(mpe_engine *e, mpe_object *lock)
{
    (void)lock;
    EXPECT_OK(mpe_go_round(e));
}

static int
fail(mpe_engine *e, mpe_object *o, void *ud)
{
    (void)e, (void)o, (void)ud;
    return MPE_EAGAIN;
}

static void
await_now(mpe_engine *e, mpe_object *lock)
{
    EXPECT_EQ(mpe_await(e, lock, MPE_EVENT_READY, MPE_NOW, fail, NULL), MPE_ETIMEDOUT);
}

static void
sleep_shortly(mpe_engine *e, mpe_object *lock)
{
    struct mpe_test_waiter w = mpe_test_waiter_new();
    (void)lock;
    EXPECT_OK(mpe_wait_timer(e, &w.w, mpe_now() + 1000));
    EXPECT_OK(mpe_run_until(e, &w.fired));
}

TEST(a_death_is_noticed_when_the_process_looks)
{
    expect_noticed(notice);
}

TEST(a_death_is_noticed_by_polling_the_loop)
{
    expect_noticed(poll_loop);
}

TEST(a_death_is_noticed_by_going_round)
{
    expect_noticed(go_round);
}

TEST(a_death_is_noticed_by_waits_that_may_not_wait)
{
    expect_noticed(await_now);
}

TEST(a_death_is_noticed_between_short_sleeps_for_a_time)
{
    expect_noticed(sleep_shortly);
}

static void
stay(mpe_engine *e, void *pipe)
{
    mpe_pipe_use(e, pipe, 1);
    mpe_test_gate_open(is_ready);
    mpe_test_gate_wait(mpe_test_gate_new());
}

TEST(a_pipe_whose_reader_has_died_is_closed)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *pipe, *queue;
    REQUIRE_OK(mpe_pipe_create(e, 1, &pipe));
    is_ready = mpe_test_gate_new();
    mpe_process *reader = mpe_test_start(e, stay, pipe);
    mpe_test_gate_wait(is_ready);
    mpe_pipe_close(e, pipe, 1);
    REQUIRE_OK(mpe_hold(e, mpe_pipe_queue(e, pipe, 0), &queue));
    mpe_test_kill(reader);
    mpe_notice_deaths(e);
    EXPECT(mpe_queue_is_closed(e, queue));
    mpe_drop(e, queue);
    mpe_drop(e, pipe);
    mpe_close(e);
}
