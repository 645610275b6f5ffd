/* SPDX-License-Identifier: MIT */
/* Intent locks: of two that sleep for one, the first is woken and killed at every point on its
 * way to the lock. The second gets the lock, though no other process reaps the dead. */
#include "core/ilock.h"
#include "testing/deaths.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define WAITERS 0x80000000u

static struct mpe_test_gate is_held, first_sleeps, may_leave;
static mpe__a64 *pids; /* of the two, in shared memory */

static void *
new_object(mpe_engine *e)
{
    char type;
    uint64_t length;
    mpe_test_forget(e);
    REQUIRE_OK(mpe_array_create(e, 'q', 2, 0, &mpe_test_it));
    pids = mpe_array_data(e, mpe_test_it, &type, &length);
    return mpe_test_it;
}

static void
lock(mpe_engine *e)
{
    mpe__ilock(e, &mpe_test_it->ilock, mpe__index_of(e, mpe_test_it));
}

/* 'S' while it sleeps, 'Z' when it is dead. */
static char
state_of(uint64_t pid)
{
    char path[64], state = 'Z';
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "r");
    if (!f)
        return state;
    if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
        state = 'Z'; /* it has just exited */
    fclose(f);
    return state;
}

/* Until it sleeps for the lock, or is dead. */
static void
wait_until_asleep(int which)
{
    char state = 'R';
    while (state != 'Z' && (state != 'S' || !(mpe__load32(&mpe_test_it->ilock) & WAITERS))) {
        sched_yield();
        uint64_t pid = mpe__load64(&pids[which]);
        state = pid ? state_of(pid) : 'R';
    }
}

static void
hold_until_both_sleep(mpe_engine *e)
{
    lock(e);
    mpe_test_gate_open(is_held);
    wait_until_asleep(0);
    mpe_test_gate_open(first_sleeps);
    wait_until_asleep(1);
}

static void
hold_and_release(mpe_engine *e, void *arg)
{
    (void)arg;
    hold_until_both_sleep(e);
    mpe__iunlock(e, &mpe_test_it->ilock);
    mpe_test_gate_wait(may_leave);
}

static void
hold_and_die(mpe_engine *e, void *arg)
{
    (void)arg;
    hold_until_both_sleep(e);
    kill(getpid(), SIGKILL);
}

static void
take_and_release(mpe_engine *e, void *arg)
{
    (void)arg;
    lock(e);
    mpe__iunlock(e, &mpe_test_it->ilock);
}

static void
be_first(mpe_engine *e, void *arg)
{
    (void)e, (void)arg;
    mpe_test_gate_wait(is_held);
    mpe__store64(&pids[0], (uint64_t)getpid());
}

static void
be_second(mpe_engine *e, void *arg)
{
    mpe_test_gate_wait(first_sleeps);
    mpe__store64(&pids[1], (uint64_t)getpid());
    take_and_release(e, arg);
}

static void
expect_end(mpe_engine *e, mpe_process *p)
{
    int code = -1;
    if (!EXPECT_OK(mpe_process_join(e, p, mpe_now() + 5 * MPE_NS_PER_S, &code))) {
        printf("      the second sleeps on after a death before %s\n", mpe_test_death());
        mpe_test_kill(p);
        mpe_process_join(e, p, MPE_FOREVER, &code);
    }
    mpe_process_free(e, p);
}

static void
kill_the_first_everywhere(mpe_test_body *hold)
{
    mpe_engine *e = mpe_test_engine(0);
    bool has_ended = false;
    is_held = mpe_test_gate_new();
    first_sleeps = mpe_test_gate_new();
    may_leave = mpe_test_gate_new();
    for (long point = 1; !has_ended; point = mpe_test_next_point(point)) {
        new_object(e);
        mpe_process *holder = mpe_test_start(e, hold, NULL);
        mpe_process *second = mpe_test_start(e, be_second, NULL);
        has_ended = mpe_test_kill_at(e, be_first, take_and_release, NULL, point);
        expect_end(e, second);
        if (hold == hold_and_release)
            mpe_test_gate_open(may_leave);
        mpe_test_join(e, holder);
        mpe_test_reap(e);
        take_and_release(e, NULL);
    }
    mpe_test_forget(e);
    mpe_close(e);
}

TEST_LIMIT(a_process_woken_for_a_lock_that_dies_hands_the_wake_up_on, 60)
{
    kill_the_first_everywhere(hold_and_release);
}

TEST_LIMIT(a_process_woken_to_repair_a_lock_passes_that_on_when_it_dies, 60)
{
    kill_the_first_everywhere(hold_and_die);
}
