/* SPDX-License-Identifier: MIT */
/* Events: set, clear, and the epoch by which no setting is missed. */
#include "mpengine_core.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

static mpe_object *
new_event(mpe_engine *e)
{
    mpe_object *o;
    REQUIRE_OK(mpe_event_create(e, &o));
    return o;
}

TEST(is_clear_at_first_and_set_until_cleared)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = new_event(e);
    uint64_t epoch = UINT64_MAX;
    EXPECT_EQ(mpe_event_is_set(e, o), 0);
    EXPECT_EQ(mpe_event_wait(e, o, &epoch), MPE_EAGAIN);
    mpe_event_set(e, o);
    mpe_event_set(e, o);
    EXPECT_EQ(mpe_event_is_set(e, o), 1);
    EXPECT_OK(mpe_event_wait(e, o, &epoch));
    mpe_event_clear(e, o);
    mpe_event_clear(e, o);
    EXPECT_EQ(mpe_event_is_set(e, o), 0);
    mpe_close(e);
}

TEST(waiters_of_a_set_return_although_it_is_cleared_at_once)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = new_event(e);
    uint64_t before = UINT64_MAX, after = UINT64_MAX;
    EXPECT_EQ(mpe_event_wait(e, o, &before), MPE_EAGAIN);
    mpe_event_set(e, o);
    mpe_event_clear(e, o);
    EXPECT_OK(mpe_event_wait(e, o, &before));
    EXPECT_EQ(mpe_event_wait(e, o, &after), MPE_EAGAIN);
    EXPECT_EQ(mpe_event_wait(e, o, &after), MPE_EAGAIN);
    mpe_close(e);
}

struct pulse {
    mpe_object *event, *waiting, *woken;
    struct mpe_test_gate next;
};

static int
try_event(mpe_engine *e, mpe_object *o, void *ud)
{
    return mpe_event_wait(e, o, ud);
}

/* Reports that it waits, waits for a pulse, reports that it returned. */
static void
wait_for_pulses(mpe_engine *e, void *arg)
{
    struct pulse *p = arg;
    for (int i = 0; i < 500; i++) {
        uint64_t epoch = UINT64_MAX;
        mpe_test_gate_wait(p->next);
        REQUIRE(mpe_event_wait(e, p->event, &epoch) == MPE_EAGAIN);
        REQUIRE_OK(mpe_test_put(e, p->waiting, "", 0));
        REQUIRE_OK(mpe_await(e, p->event, MPE_EVENT_READY, MPE_FOREVER, try_event, &epoch));
        REQUIRE_OK(mpe_test_put(e, p->woken, "", 0));
    }
}

static void
expect_three(mpe_engine *e, mpe_object *queue)
{
    mpe_message m;
    for (int i = 0; i < 3; i++)
        REQUIRE_OK(mpe_test_get(e, queue, &m));
}

TEST_LIMIT(a_pulse_wakes_every_waiter_of_every_process, 30)
{
    mpe_engine *e = mpe_test_engine(0);
    struct pulse c = {new_event(e), NULL, NULL, mpe_test_gate_new()};
    mpe_process *p[3];
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &c.waiting));
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &c.woken));
    for (int i = 0; i < 3; i++)
        p[i] = mpe_test_start(e, wait_for_pulses, &c);
    for (int round = 0; round < 500; round++) {
        for (int i = 0; i < 3; i++)
            mpe_test_gate_open(c.next);
        expect_three(e, c.waiting);
        mpe_event_set(e, c.event);
        mpe_event_clear(e, c.event);
        expect_three(e, c.woken);
    }
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(mpe_test_join(e, p[i]), 0);
    mpe_close(e);
}
