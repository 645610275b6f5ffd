/* SPDX-License-Identifier: MIT */
/* The finder of a deadlock of all processes may be killed at any point: either the deadlock is
 * found or it is not, and the others are woken in both cases. */
#include "loop/loop.h"
#include "core/slot.h"
#include "testing/deaths.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

#define ROUND 7u
#define SAID(round) (((round) << 1) + 2)

static mpe_object *queue;
static uint64_t used_before;

/* As if this process had slept, and had answered. */
static void *
all_but_one_have_answered(mpe_engine *e)
{
    atomic_store(&e->self->bell, 0);
    mpe__store32(&e->header->deadlock, 0);
    mpe__store32(&e->header->quiet_round, ROUND);
    atomic_store(&e->self->quiet, SAID(ROUND) | 1);
    return NULL;
}

static void
never(mpe_engine *e, mpe_waiter *w, int status)
{
    (void)e, (void)w, (void)status;
}

static void
find_it(mpe_engine *e, void *arg)
{
    mpe_waiter w = {.fire = never};
    (void)arg;
    if (mpe_wait_object(e, &w, queue, MPE_EVENT_READY, MPE_FOREVER) != MPE_OK)
        return;
    e->loop->quiet = e->loop->still_since = SAID(ROUND - 1);
    mpe__quiet_begin(e, MPE_FOREVER);
}

static void
check_found(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg;
    uint32_t word = mpe__load32(&e->header->deadlock);
    EXPECT(word == 0 || word == (SAID(ROUND) | 1));
    EXPECT(!has_ended || word != 0);
    EXPECT_EQ(mpe_reap_dead(e), 1);
    EXPECT(atomic_load(&e->self->bell) & MPE__BROADCAST);
    mpe_test_check(e);
    mpe_test_sweep(e);
    EXPECT_EQ(mpe_test_used(e), used_before);
}

TEST_LIMIT(a_finder_may_die_at_any_instant, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    const struct mpe_test_deaths d = {all_but_one_have_answered, NULL, find_it, check_found};
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &queue));
    mpe_find_deadlocks(e, 1);
    used_before = mpe_test_used(e);
    mpe_test_kill_everywhere(e, &d);
    atomic_store(&e->self->quiet, 0);
    mpe_close(e);
}
