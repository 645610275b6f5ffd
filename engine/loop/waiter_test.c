/* SPDX-License-Identifier: MIT */
/* Waiters of one process: the order in which they are served, and that no turn is lost. */
#include "loop/loop.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

static void
put_one(mpe_engine *e, mpe_object *q)
{
    mpe_bytes part = {"x", 1};
    REQUIRE_OK(mpe_queue_put(e, q, &part, 1, 0));
}

static void
take_one(mpe_engine *e, mpe_object *q)
{
    mpe_message m;
    REQUIRE_OK(mpe_queue_get(e, q, &m));
    mpe_message_free(e, &m);
}

TEST(waiters_of_one_process_are_served_in_their_order)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q;
    struct mpe_test_waiter w[3];
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &q));
    for (int i = 0; i < 3; i++) {
        w[i] = mpe_test_waiter_new();
        REQUIRE_OK(mpe_wait_object(e, &w[i].w, q, MPE_EVENT_READY, MPE_FOREVER));
    }
    for (int i = 0; i < 3; i++)
        put_one(e, q);
    for (int i = 0; i < 3; i++) {
        EXPECT_OK(mpe_run_until(e, &w[i].fired));
        for (int k = i + 1; k < 3; k++)
            EXPECT_EQ(w[k].fired, 0);
        take_one(e, q);
        mpe_wait_done(e, &w[i].w);
    }
    EXPECT_EQ(e->loop->entries, 0);
    mpe_close(e);
}

TEST(a_waiter_that_found_nothing_keeps_its_turn)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q;
    struct mpe_test_waiter a = mpe_test_waiter_new(), b = mpe_test_waiter_new();
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &q));
    REQUIRE_OK(mpe_wait_object(e, &a.w, q, MPE_EVENT_READY, MPE_FOREVER));
    REQUIRE_OK(mpe_wait_object(e, &b.w, q, MPE_EVENT_READY, MPE_FOREVER));
    put_one(e, q);
    EXPECT_OK(mpe_run_until(e, &a.fired));
    take_one(e, q); /* another process was faster */
    a.fired = 0;
    REQUIRE_OK(mpe_wait_object(e, &a.w, q, MPE_EVENT_READY, MPE_FOREVER));
    put_one(e, q);
    EXPECT_OK(mpe_run_until(e, &a.fired));
    EXPECT_EQ(b.fired, 0);
    mpe_wait_done(e, &a.w);
    mpe_wait_stop(e, &b.w);
    mpe_close(e);
}

TEST(a_waiter_that_is_stopped_passes_its_turn_on)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q;
    struct mpe_test_waiter a = mpe_test_waiter_new(), b = mpe_test_waiter_new();
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &q));
    for (int how = 0; how < 3; how++) {
        a = mpe_test_waiter_new(), b = mpe_test_waiter_new();
        REQUIRE_OK(
            mpe_wait_object(e, &a.w, q, MPE_EVENT_READY, how == 2 ? mpe_now() : MPE_FOREVER));
        REQUIRE_OK(mpe_wait_object(e, &b.w, q, MPE_EVENT_READY, MPE_FOREVER));
        put_one(e, q);
        if (how == 1)
            EXPECT_OK(mpe_run_until(e, &a.fired)); /* stopped after it was fired */
        if (how == 2)
            mpe__expire_timers(e); /* before the bell is looked at */
        else
            mpe_wait_stop(e, &a.w);
        EXPECT_OK(mpe_run_until(e, &b.fired));
        EXPECT_EQ(b.status, MPE_OK);
        take_one(e, q);
        mpe_wait_done(e, &b.w);
        mpe_wait_stop(e, &a.w);
        EXPECT_EQ(e->loop->entries, 0);
    }
    mpe_close(e);
}

/* The first is fired for one item. Two more arrive before it files itself again, so no bit is
 * set for them; it takes one at once. The other must reach the second. */
TEST(a_waiter_that_succeeds_at_once_checks_for_those_behind_it)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q;
    struct mpe_test_waiter a = mpe_test_waiter_new(), b = mpe_test_waiter_new();
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &q));
    REQUIRE_OK(mpe_wait_object(e, &a.w, q, MPE_EVENT_READY, MPE_FOREVER));
    REQUIRE_OK(mpe_wait_object(e, &b.w, q, MPE_EVENT_READY, MPE_FOREVER));
    put_one(e, q);
    EXPECT_OK(mpe_run_until(e, &a.fired));
    take_one(e, q);
    put_one(e, q);
    put_one(e, q);
    REQUIRE_OK(mpe_wait_object(e, &a.w, q, MPE_EVENT_READY, MPE_FOREVER));
    take_one(e, q);
    mpe_wait_stop(e, &a.w);
    EXPECT_OK(mpe_run_until(e, &b.fired));
    mpe_wait_done(e, &b.w);
    mpe_close(e);
}

TEST(an_event_fires_all_waiters)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o;
    struct mpe_test_waiter w[5];
    REQUIRE_OK(mpe_event_create(e, &o));
    for (int i = 0; i < 5; i++) {
        w[i] = mpe_test_waiter_new();
        REQUIRE_OK(mpe_wait_object(e, &w[i].w, o, MPE_EVENT_READY, MPE_FOREVER));
    }
    mpe_event_set(e, o);
    mpe_event_clear(e, o);
    for (int i = 0; i < 5; i++) {
        EXPECT_OK(mpe_run_until(e, &w[i].fired));
        mpe_wait_done(e, &w[i].w);
    }
    mpe_close(e);
}

static void
stop_the_other(mpe_engine *e, mpe_waiter *w, int status)
{
    (void)status;
    ((struct mpe_test_waiter *)w)->fired++;
    mpe_wait_stop(e, (mpe_waiter *)((struct mpe_test_waiter *)w)->at);
    mpe_wait_done(e, w);
}

TEST(a_waiter_may_stop_others_while_it_is_fired)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *a, *b;
    struct mpe_test_waiter w[2] = {mpe_test_waiter_new(), mpe_test_waiter_new()};
    REQUIRE_OK(mpe_event_create(e, &a));
    for (uint32_t i = 1; i < MPE__BUCKETS; i++)
        REQUIRE_OK(mpe_event_create(e, &b));
    REQUIRE_OK(mpe_event_create(e, &b)); /* in the same bucket as a */
    for (int i = 0; i < 2; i++) {
        w[i].w.fire = stop_the_other;
        w[i].at = (uint64_t)(uintptr_t)&w[!i].w;
        REQUIRE_OK(mpe_wait_object(e, &w[i].w, i ? a : b, MPE_EVENT_READY, MPE_FOREVER));
    }
    mpe_event_set(e, a);
    mpe_event_set(e, b);
    mpe_poll(e);
    EXPECT_EQ(w[0].fired + w[1].fired, 1);
    EXPECT_EQ(e->loop->entries, 0);
    mpe_close(e);
}

TEST(a_waitlist_is_woken_in_order)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_waitlist list = {0};
    struct mpe_test_waiter w[3];
    for (int i = 0; i < 3; i++) {
        w[i] = mpe_test_waiter_new();
        REQUIRE_OK(mpe_wait_list(e, &w[i].w, &list, i == 2 ? mpe_now() : MPE_FOREVER));
    }
    EXPECT_OK(mpe_run_until(e, &w[2].fired));
    EXPECT_EQ(w[2].status, MPE_ETIMEDOUT);
    EXPECT_EQ(mpe_waitlist_wake(e, &list, 1), 1);
    EXPECT_EQ(w[0].fired, 1);
    EXPECT_EQ(w[1].fired, 0);
    EXPECT_EQ(mpe_waitlist_wake(e, &list, 9), 1);
    EXPECT(list.head == NULL && list.tail == NULL);
    mpe_close(e);
}

/* The kind says what can be waited for. */
TEST(an_event_that_the_kind_does_not_have_cannot_be_waited_for)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q = NULL, *event = mpe_test_event(e);
    struct mpe_test_waiter w = mpe_test_waiter_new();
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &q));
    EXPECT_EQ(mpe_wait_object(e, &w.w, event, MPE_EVENT_DONE, MPE_FOREVER), MPE_EINVAL);
    EXPECT_EQ(mpe_wait_object(e, &w.w, q, MPE_EVENTS, MPE_FOREVER), MPE_EINVAL);
    EXPECT_EQ(mpe_wait_object(e, &w.w, q, -1, MPE_FOREVER), MPE_EINVAL);
    EXPECT_EQ(e->loop->entries, 0);
    mpe_drop(e, q);
    mpe_drop(e, event);
    mpe_close(e);
}
