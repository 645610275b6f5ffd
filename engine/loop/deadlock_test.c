/* SPDX-License-Identifier: MIT */
/* Deadlocks of all processes: which process finds them, and which states are not deadlocks. */
#include "loop/loop.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"
#include "core/slot.h"

#include <signal.h>
#include <sys/time.h>
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

/* ---- orphans ---- */

static uint64_t
process_of(mpe_engine *e)
{
    return (uint64_t)mpe__load32(&e->self->generation) << 32 | (e->slot + 1);
}

/* Waits as a process does whose starter has ended and whose signal is on the way: an alarm, here. */
static void
wait_as_orphan(mpe_engine *e, void *arg)
{
    const struct itimerval soon = {.it_value = {.tv_usec = 100000}};
    int is_alone = *(int *)arg, nothing = 0;
    mpe__store64(&e->self->bound, process_of(e) + (1ull << 32)); /* not this one, but a later one */
    REQUIRE(setitimer(ITIMER_REAL, &soon, NULL) == 0);
    _exit(is_alone ? mpe_run_until(e, &nothing) : get_forever(e, 0));
}

TEST(a_process_whose_end_is_on_its_way_is_in_no_deadlock)
{
    mpe_engine *e = open_with_queues();
    for (int is_alone = 0; is_alone < 2; is_alone++) {
        int code;
        mpe_process *p = mpe_test_start(e, wait_as_orphan, &is_alone);
        EXPECT_EQ(wait_for_end(e, p, &code), 0);
        EXPECT_EQ(code, -SIGALRM);
    }
    mpe_close(e);
}

struct bound_to {
    uint64_t first;
    unsigned flags;
};

static int
start_bound(mpe_engine *e, unsigned flags, void (*body)(mpe_engine *e, void *arg), void *arg)
{
    mpe_process *p;
    int is_child, code;
    REQUIRE_OK(mpe_process_fork(e, "bound", flags, (mpe_bytes){"", 0}, &p, &is_child));
    if (is_child) {
        body(e, arg);
        _exit(0);
    }
    EXPECT_EQ(wait_for_end(e, p, &code), 0);
    return code;
}

static void
look_at_bound(mpe_engine *e, void *arg)
{
    _exit(mpe__load64(&e->self->bound) == *(uint64_t *)arg && !mpe__is_orphan(e) ? 0 : 1);
}

static void
start_another(mpe_engine *e, void *arg)
{
    struct bound_to *g = arg;
    uint64_t own = process_of(e), wanted = g->flags == MPE_PROCESS_DAEMON ? own : g->first;
    _exit(start_bound(e, g->flags, look_at_bound, &wanted));
}

TEST(a_process_knows_whose_end_ends_it)
{
    mpe_engine *e = open_with_queues();
    uint64_t none = 0;
    struct bound_to g = {process_of(e), MPE_PROCESS_BOUND};
    EXPECT_EQ(start_bound(e, 0, look_at_bound, &none), 0);
    EXPECT_EQ(start_bound(e, MPE_PROCESS_DAEMON, look_at_bound, &g.first), 0);
    EXPECT_EQ(start_bound(e, MPE_PROCESS_BOUND, start_another, &g), 0);
    g.flags = MPE_PROCESS_DAEMON;
    EXPECT_EQ(start_bound(e, MPE_PROCESS_BOUND, start_another, &g), 0);
    mpe_close(e);
}
