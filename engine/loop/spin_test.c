/* SPDX-License-Identifier: MIT */
/* Spinning: for a wake-up from another processor, without getting in its way. */
#include "loop/loop.h"

#include "os/os.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"
#include "testing/queues.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

/* Pins this thread to its processor; returns its number. */
static uint32_t
stay_here(void)
{
    cpu_set_t set;
    uint32_t here = mpe__processor();
    CPU_ZERO(&set);
    CPU_SET(here, &set);
    REQUIRE(sched_setaffinity(0, sizeof set, &set) == 0);
    return mpe__processor();
}

TEST(a_process_spins_unless_the_one_that_rings_needs_its_processor)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q = mpe_test_new_queue(e, 0, 0);
    uint32_t here = stay_here();
    mpe_test_put_number(e, q, 1);
    e->cpus = 2;
    EXPECT_EQ(mpe_spin_for(e, q, MPE_EVENT_READY), 1);
    mpe__store32(&e->self->rung_on, here + 1);
    EXPECT_EQ(mpe_spin_for(e, q, MPE_EVENT_READY), 0);
    mpe__store32(&e->self->rung_on, here + 2);
    EXPECT_EQ(mpe_spin_for(e, q, MPE_EVENT_READY), 1);
    e->cpus = 1;
    EXPECT_EQ(mpe_spin_for(e, q, MPE_EVENT_READY), 0);
    mpe_drop(e, q);
    mpe_close(e);
}

static void
ring_parent(mpe_engine *e, void *arg)
{
    uint32_t slot = *(uint32_t *)arg, here = stay_here();
    mpe__ring(e, slot, 1);
    mpe_close(e);
    _exit((int)here % 128);
}

TEST(a_ring_records_its_processor)
{
    mpe_engine *e = mpe_test_engine(0);
    EXPECT_EQ(mpe__load32(&e->self->rung_on), 0);
    uint32_t slot = e->slot; /* the engine of the child has its own */
    int here = mpe_test_join(e, mpe_test_start(e, ring_parent, &slot));
    EXPECT_EQ((mpe__load32(&e->self->rung_on) - 1) % 128, here);
    mpe_close(e);
}

TEST(a_process_that_rings_itself_records_no_processor)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe__ring(e, e->slot, 1);
    EXPECT_EQ(mpe__load32(&e->self->rung_on), 0);
    mpe_close(e);
}

/* ---- two on one processor ---- */

struct table {
    mpe_object *there, *back;
};

static void
answer(mpe_engine *e, void *arg)
{
    struct table *t = arg;
    mpe_message m;
    e->cpus = 2;
    stay_here();
    for (int i = 0; i < 2000; i++) {
        REQUIRE_OK(mpe_test_get(e, t->there, &m));
        mpe_message_free(e, &m);
        REQUIRE_OK(mpe_test_put(e, t->back, "x", 1));
    }
}

/* They answer each other without spinning in between: each failed spin costs the score a point. */
TEST(two_on_one_processor_do_not_spin)
{
    mpe_engine *e = mpe_test_engine(0);
    struct table t = {mpe_test_new_queue(e, 0, 0), mpe_test_new_queue(e, 0, 0)};
    mpe_message m;
    e->cpus = 2;
    stay_here();
    mpe_process *p = mpe_test_start(e, answer, &t); /* on its parent's processor */
    uint32_t lowest = MPE__SPIN_SCORE_MAX;
    for (int i = 0; i < 2000; i++) {
        REQUIRE_OK(mpe_test_put(e, t.there, "x", 1));
        REQUIRE_OK(mpe_test_get(e, t.back, &m));
        mpe_message_free(e, &m);
        if (e->loop->spin_score[0] < lowest)
            lowest = e->loop->spin_score[0];
    }
    EXPECT(lowest >= MPE__SPIN_SCORE_MAX - 2); /* the first ones */
    EXPECT_EQ(mpe_test_join(e, p), 0);
    mpe_close(e);
}

/* ---- beside descriptors ---- */

/* Sleeps while nothing comes. */
static void
sleep_for_nothing(mpe_engine *e, int fd, uint64_t ms)
{
    struct mpe_test_waiter w = mpe_test_waiter_new();
    uint64_t deadline = mpe_now() + ms * 1000000;
    if (fd < 0)
        REQUIRE_OK(mpe_wait_timer(e, &w.w, deadline));
    else
        REQUIRE_OK(mpe_wait_fd(e, &w.w, fd, MPE_READABLE, deadline));
    EXPECT_OK(mpe_run_until(e, &w.fired));
    EXPECT_EQ(w.status, MPE_ETIMEDOUT);
    if (fd >= 0)
        mpe_fd_waiter_gone(e, fd);
}

TEST(waits_for_an_answer_and_for_descriptors_are_told_apart)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q = mpe_test_new_queue(e, 0, 0);
    struct mpe_test_waiter never = mpe_test_waiter_new();
    const uint32_t *scores = e->loop->spin_score;
    int fd[2];
    REQUIRE(pipe2(fd, O_NONBLOCK) == 0);
    e->cpus = 2;
    REQUIRE_OK(mpe_wait_object(e, &never.w, q, MPE_EVENT_READY, MPE_FOREVER));
    for (uint32_t i = 0; i < 2 * MPE__SPIN_SCORE_MAX; i++)
        sleep_for_nothing(e, fd[0], 1);
    EXPECT(scores[0] < MPE__SPIN_SCORE_MAX / 2); /* hardly one of these spins has paid */
    EXPECT_EQ(scores[1], MPE__SPIN_SCORE_MAX);
    mpe__ring(e, e->slot + 1, 1);
    sleep_for_nothing(e, fd[0], 50);
    EXPECT_EQ(scores[1], MPE__SPIN_SCORE_MAX - 1);
    sleep_for_nothing(e, fd[0], 50); /* that was the answer's turn */
    EXPECT_EQ(scores[1], MPE__SPIN_SCORE_MAX - 1);
    atomic_store(&e->slots[e->slot + 1].bell, 0);
    mpe__ring(e, e->slot + 1, 1);
    sleep_for_nothing(e, -1, 50); /* without a descriptor there is one score */
    EXPECT_EQ(scores[1], MPE__SPIN_SCORE_MAX - 1);
    mpe_close(e);
}
