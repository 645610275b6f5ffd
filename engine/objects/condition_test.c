/* SPDX-License-Identifier: MIT */
/* Conditions: a notification reaches as many waits as intended, only earlier ones, and outlives
 * the death of its receiver. */
#include "objects/condition.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

static mpe_object *
new_condition(mpe_engine *e)
{
    mpe_object *o;
    REQUIRE_OK(mpe_condition_create(e, 0, &o));
    return o;
}

TEST(notifies_the_waiters_and_no_later_one)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = new_condition(e);
    mpe_condition_notify(e, o, 5);
    uint32_t t[3];
    EXPECT_OK(mpe_condition_enlist(e, o, &t[0]));
    EXPECT_EQ(mpe_condition_notified(e, o, t[0]), MPE_EAGAIN);
    EXPECT_OK(mpe_condition_enlist(e, o, &t[1]));
    EXPECT_OK(mpe_condition_enlist(e, o, &t[2]));
    mpe_condition_notify(e, o, 2);
    EXPECT_OK(mpe_condition_notified(e, o, t[0]));
    EXPECT_OK(mpe_condition_notified(e, o, t[1]));
    EXPECT_EQ(mpe_condition_notified(e, o, t[2]), MPE_EAGAIN);
    mpe_condition_notify(e, o, UINT32_MAX);
    EXPECT_OK(mpe_condition_notified(e, o, t[2]));
    EXPECT_EQ(mpe_condition_notified(e, o, t[2]), MPE_EAGAIN);
    mpe_close(e);
}

TEST(a_wait_that_begins_later_takes_no_notification_of_another)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = new_condition(e);
    uint32_t first, second;
    for (int i = 0; i < 3; i++) {
        EXPECT_OK(mpe_condition_enlist(e, o, &first));
        mpe_condition_notify(e, o, 1);
        EXPECT_OK(mpe_condition_enlist(e, o, &second));
        EXPECT_EQ(mpe_condition_notified(e, o, second), MPE_EAGAIN);
        EXPECT_EQ(mpe_condition_leave(e, o, second), MPE_ETIMEDOUT);
        EXPECT_OK(mpe_condition_notified(e, o, first));
    }
    mpe_close(e);
}

TEST(counts_notifications_on_when_their_number_wraps)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = new_condition(e);
    struct mpe__condition *c = mpe__at(e, mpe__load64(&o->body));
    uint32_t t[2];
    mpe__store64(&c->counts[e->slot], ~0ull << 2 * MPE__CONDITION_BITS);
    for (int i = 0; i < 2; i++)
        EXPECT_OK(mpe_condition_enlist(e, o, &t[i]));
    mpe_condition_notify(e, o, 2);
    for (int i = 0; i < 2; i++)
        EXPECT_OK(mpe_condition_notified(e, o, t[i]));
    EXPECT_EQ(mpe__condition_counts(c, e->slot).waiting, 0);
    mpe__store64(&c->counts[e->slot], MPE__CONDITION_MAX);
    EXPECT_EQ(mpe_condition_enlist(e, o, &t[0]), MPE_ERANGE);
    mpe_close(e);
}

TEST(a_leaving_waiter_learns_whether_it_was_notified)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = new_condition(e);
    uint32_t t;
    EXPECT_OK(mpe_condition_enlist(e, o, &t));
    EXPECT_EQ(mpe_condition_leave(e, o, t), MPE_ETIMEDOUT);
    mpe_condition_notify(e, o, 1);
    EXPECT_OK(mpe_condition_enlist(e, o, &t));
    EXPECT_EQ(mpe_condition_notified(e, o, t), MPE_EAGAIN);
    mpe_condition_notify(e, o, 1);
    EXPECT_OK(mpe_condition_leave(e, o, t));
    EXPECT_EQ(mpe_condition_notified(e, o, t), MPE_EAGAIN);
    mpe_close(e);
}

TEST(works_with_its_own_lock_or_another)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *own = new_condition(e), *lock, *other, *out;
    REQUIRE_OK(mpe_lock_create(e, 0, &lock));
    REQUIRE_OK(mpe_condition_create(e, mpe_handle_of(e, lock), &other));
    EXPECT_EQ(mpe_condition_lock(e, own), mpe_lock_facet(e, own));
    EXPECT_EQ(mpe_condition_lock(e, other), mpe_handle_of(e, lock));
    EXPECT_EQ(mpe_condition_create(e, 12345, &out), MPE_ESTALE);
    mpe_close(e);
}

struct shared {
    mpe_object *condition, *queue;
    int waits;
};

static int
try_notified(mpe_engine *e, mpe_object *o, void *ud)
{
    return mpe_condition_notified(e, o, *(uint32_t *)ud);
}

/* Enlists, reports it, waits, reports it. */
static void
wait_and_say(mpe_engine *e, void *arg)
{
    struct shared *s = arg;
    uint32_t ticket;
    for (int i = 0; i < s->waits; i++) {
        REQUIRE_OK(mpe_condition_enlist(e, s->condition, &ticket));
        REQUIRE_OK(mpe_test_put(e, s->queue, "enlisted", 8));
        REQUIRE_OK(
            mpe_await(e, s->condition, MPE_EVENT_NOTIFIED, MPE_FOREVER, try_notified, &ticket));
        REQUIRE_OK(mpe_test_put(e, s->queue, "woken", 5));
    }
}

/* Waits of all slots that have not ended. */
static uint32_t
waits_under_way(mpe_engine *e, mpe_object *o)
{
    struct mpe__condition *c = mpe__at(e, mpe__load64(&o->body));
    uint32_t sum = 0;
    for (uint32_t i = 0; i < MPE__SLOTS; i++)
        sum += mpe__condition_counts(c, i).waiting;
    return sum;
}

/* The size of the next message. */
static size_t
next_message(mpe_engine *e, mpe_object *queue)
{
    mpe_message m;
    REQUIRE_OK(mpe_test_get(e, queue, &m));
    return m.size;
}

TEST_LIMIT(one_notification_ends_one_wait, 30)
{
    mpe_engine *e = mpe_test_engine(0);
    struct shared s = {new_condition(e), NULL, 500};
    mpe_process *p[3];
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &s.queue));
    for (int i = 0; i < 3; i++)
        p[i] = mpe_test_start(e, wait_and_say, &s);
    for (int woken = 0; woken < 1500;) {
        if (next_message(e, s.queue) == 8)
            mpe_condition_notify(e, s.condition, 1);
        else
            woken++;
    }
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(mpe_test_join(e, p[i]), 0);
    EXPECT_EQ(waits_under_way(e, s.condition), 0);
    mpe_close(e);
}

TEST(notifying_one_leaves_the_others_waiting)
{
    mpe_engine *e = mpe_test_engine(0);
    struct shared s = {new_condition(e), NULL, 1};
    mpe_process *p[3];
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &s.queue));
    for (int i = 0; i < 3; i++)
        p[i] = mpe_test_start(e, wait_and_say, &s);
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(next_message(e, s.queue), 8);
    mpe_condition_notify(e, s.condition, 1);
    EXPECT_EQ(next_message(e, s.queue), 5);
    EXPECT_EQ(waits_under_way(e, s.condition), 2);
    mpe_condition_notify(e, s.condition, UINT32_MAX);
    EXPECT_EQ(next_message(e, s.queue), 5);
    EXPECT_EQ(next_message(e, s.queue), 5);
    EXPECT_EQ(waits_under_way(e, s.condition), 0);
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(mpe_test_join(e, p[i]), 0);
    mpe_close(e);
}

static void
enlist_and_stay(mpe_engine *e, void *arg)
{
    struct shared *s = arg;
    uint32_t ticket;
    REQUIRE_OK(mpe_condition_enlist(e, s->condition, &ticket));
    REQUIRE_OK(mpe_test_put(e, s->queue, "enlisted", 8));
    mpe_test_gate_wait(mpe_test_gate_new());
}

TEST(a_notification_of_the_dead_goes_to_another)
{
    mpe_engine *e = mpe_test_engine(0);
    struct shared s = {new_condition(e), NULL, 1};
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &s.queue));
    mpe_process *dead = mpe_test_start(e, enlist_and_stay, &s);
    EXPECT_EQ(next_message(e, s.queue), 8);
    mpe_condition_notify(e, s.condition, 1);
    mpe_process *p = mpe_test_start(e, wait_and_say, &s);
    EXPECT_EQ(next_message(e, s.queue), 8);
    mpe_test_kill(dead);
    EXPECT_EQ(next_message(e, s.queue), 5);
    EXPECT_EQ(mpe_test_join(e, dead), -9);
    EXPECT_EQ(mpe_test_join(e, p), 0);
    EXPECT_EQ(waits_under_way(e, s.condition), 0);
    mpe_close(e);
}

/* ---- several waits of one process ---- */

struct wait {
    mpe_waiter waiter;
    int fired;
};

static void
on_fire(mpe_engine *e, mpe_waiter *w, int status)
{
    (void)e;
    EXPECT_OK(status);
    ((struct wait *)w)->fired = 1;
}

/* Three waits of this process: after each that is woken the next must follow, although another
 * process waits too and is not notified. */
TEST(notifications_for_one_process_reach_its_waits_one_after_the_other)
{
    mpe_engine *e = mpe_test_engine(0);
    struct shared s = {new_condition(e), NULL, 1};
    struct wait w[3] = {0};
    uint32_t ticket[3];
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &s.queue));
    for (int i = 0; i < 3; i++) {
        w[i].waiter.fire = on_fire;
        REQUIRE_OK(mpe_condition_enlist(e, s.condition, &ticket[i]));
        REQUIRE_OK(mpe_wait_object(e, &w[i].waiter, s.condition, MPE_EVENT_NOTIFIED, MPE_FOREVER));
    }
    e->wake_from = 0;
    mpe_condition_notify(e, s.condition, 3);
    mpe_process *p = mpe_test_start(e, wait_and_say, &s); /* as a bystander */
    EXPECT_EQ(next_message(e, s.queue), 8);
    for (int i = 0; i < 3; i++) {
        EXPECT_OK(mpe_run_until(e, &w[i].fired));
        EXPECT_OK(mpe_condition_notified(e, s.condition, ticket[i]));
        mpe_wait_done(e, &w[i].waiter);
    }
    EXPECT_EQ(waits_under_way(e, s.condition), 1);
    mpe_condition_notify(e, s.condition, 1);
    EXPECT_EQ(mpe_test_join(e, p), 0);
    mpe_close(e);
}
