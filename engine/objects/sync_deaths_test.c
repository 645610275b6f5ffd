/* SPDX-License-Identifier: MIT */
/* Every call that locks, counts, sets or notifies, killed at every point: locks of the dead are
 * free and report it, promised wake-ups are kept, and no waiter sleeps on. */
#include "objects/barrier.h"
#include "objects/condition.h"
#include "testing/deaths.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

static void
kill_everywhere(struct mpe_test_deaths d)
{
    mpe_test_deaths_everywhere(d);
    mpe_test_deaths_of_reapers(d);
}

/* ---- locks ---- */

static void *
new_lock(mpe_engine *e)
{
    mpe_test_forget(e);
    REQUIRE_OK(mpe_lock_create(e, 1, &mpe_test_it));
    return mpe_test_it;
}

static void
take_twice(mpe_engine *e, void *arg)
{
    mpe_rlock_acquire(e, arg, 1);
    mpe_rlock_acquire(e, arg, 1);
}

static void
release_twice(mpe_engine *e, void *arg)
{
    mpe_rlock_release(e, arg, 1);
    mpe_rlock_release(e, arg, 1);
}

static void
take_and_release(mpe_engine *e, void *arg)
{
    take_twice(e, arg);
    release_twice(e, arg);
}

static void
check_lock(mpe_engine *e, void *arg, bool has_ended)
{
    mpe_test_reap(e);
    int rc = mpe_rlock_acquire(e, arg, 1);
    EXPECT(rc == MPE_OK || (!has_ended && rc == MPE_OWNER_DIED));
    EXPECT_OK(mpe_rlock_release(e, arg, 1));
    EXPECT_OK(mpe_rlock_acquire(e, arg, 1));
    EXPECT_OK(mpe_rlock_release(e, arg, 1));
}

TEST_LIMIT(a_lock_is_free_after_its_owner, 60)
{
    kill_everywhere((struct mpe_test_deaths){new_lock, NULL, take_and_release, check_lock});
}

static int
try_rlock(mpe_engine *e, mpe_object *o, void *ud)
{
    (void)ud;
    return mpe_rlock_acquire(e, o, 1);
}

static int
lock_recursively(mpe_engine *e, mpe_object *o)
{
    return mpe_await(e, o, MPE_EVENT_READY, MPE_FOREVER, try_rlock, NULL);
}

static void
wait_for_lock(mpe_engine *e, void *arg)
{
    int rc = lock_recursively(e, arg);
    EXPECT(rc == MPE_OK || rc == MPE_OWNER_DIED);
    EXPECT_OK(mpe_rlock_release(e, arg, 1));
}

static void *
lock_of_parent(mpe_engine *e)
{
    new_lock(e);
    EXPECT_OK(mpe_rlock_acquire(e, mpe_test_it, 1));
    return mpe_test_it;
}

/* The partner already waits: the victim takes over what the parent holds. */
static void
take_over(mpe_engine *e, void *arg)
{
    atomic_store(&((mpe_object *)arg)->word, 1ull << 32 | 2ull << 16 | (e->slot + 1));
}

TEST_LIMIT(a_waiter_for_a_lock_gets_it_though_its_owner_dies, 60)
{
    mpe_test_deaths_beside_a_waiter((struct mpe_test_wait){
        {lock_of_parent, take_over, release_twice, check_lock}, wait_for_lock, NULL, NULL});
}

/* ---- semaphores ---- */

static void *
two_permits(mpe_engine *e)
{
    mpe_test_forget(e);
    REQUIRE_OK(mpe_semaphore_create(e, 2, 1, &mpe_test_it));
    return mpe_test_it;
}

static void
acquire_and_release(mpe_engine *e, void *arg)
{
    mpe_semaphore_acquire(e, arg);
    mpe_semaphore_acquire(e, arg);
    mpe_semaphore_release(e, arg);
}

static void
check_semaphore(mpe_engine *e, void *arg, bool has_ended)
{
    (void)has_ended;
    mpe_test_reap(e);
    EXPECT_EQ(mpe_semaphore_value(e, arg), 2);
    EXPECT_EQ(mpe_semaphore_release(e, arg), MPE_EOVER);
}

TEST_LIMIT(permits_of_the_dead_return, 60)
{
    kill_everywhere(
        (struct mpe_test_deaths){two_permits, NULL, acquire_and_release, check_semaphore});
}

static void *
no_permit(mpe_engine *e)
{
    mpe_test_forget(e);
    REQUIRE_OK(mpe_semaphore_create(e, 0, 0, &mpe_test_it));
    return mpe_test_it;
}

static void
release_one(mpe_engine *e, void *arg)
{
    EXPECT_OK(mpe_semaphore_release(e, arg));
}

static int
try_acquire(mpe_engine *e, mpe_object *s, void *ud)
{
    (void)ud;
    return mpe_semaphore_acquire(e, s);
}

static void
wait_for_permit(mpe_engine *e, void *arg)
{
    EXPECT_OK(mpe_await(e, arg, MPE_EVENT_READY, MPE_FOREVER, try_acquire, NULL));
    EXPECT_OK(mpe_semaphore_release(e, arg));
}

/* The waiting process releases what it took. */
static bool
has_a_permit(mpe_engine *e, void *arg)
{
    (void)e;
    return mpe__load64(&((mpe_object *)arg)->word) > 0;
}

static void
check_permit(mpe_engine *e, void *arg, bool has_ended)
{
    (void)has_ended;
    EXPECT_EQ(mpe_semaphore_value(e, arg), 1);
}

TEST_LIMIT(a_waiter_for_a_permit_gets_it_though_its_releaser_dies, 60)
{
    mpe_test_deaths_beside_a_waiter((struct mpe_test_wait){
        {no_permit, NULL, release_one, check_permit}, wait_for_permit, has_a_permit, release_one});
}

/* ---- events ---- */

static void *
new_event(mpe_engine *e)
{
    mpe_test_forget(e);
    REQUIRE_OK(mpe_event_create(e, &mpe_test_it));
    return mpe_test_it;
}

static void
set(mpe_engine *e, void *arg)
{
    mpe_event_set(e, arg);
}

static int
try_event(mpe_engine *e, mpe_object *event, void *ud)
{
    return mpe_event_wait(e, event, ud);
}

static void
wait_for_event(mpe_engine *e, void *arg)
{
    uint64_t epoch = UINT64_MAX;
    EXPECT_OK(mpe_await(e, arg, MPE_EVENT_READY, MPE_FOREVER, try_event, &epoch));
}

static bool
is_set(mpe_engine *e, void *arg)
{
    return mpe_event_is_set(e, arg);
}

static void
check_event(mpe_engine *e, void *arg, bool has_ended)
{
    (void)has_ended;
    EXPECT(mpe_event_is_set(e, arg));
}

TEST_LIMIT(a_waiter_for_an_event_comes_out_though_its_setter_dies, 60)
{
    mpe_test_deaths_beside_a_waiter(
        (struct mpe_test_wait){{new_event, NULL, set, check_event}, wait_for_event, is_set, set});
}

/* ---- conditions ---- */

static void *
new_condition(mpe_engine *e)
{
    mpe_test_forget(e);
    REQUIRE_OK(mpe_condition_create(e, 0, &mpe_test_it));
    return mpe_test_it;
}

static uint32_t ticket; /* of the wait of this process */

static void *
condition_with_a_wait(mpe_engine *e)
{
    new_condition(e);
    REQUIRE_OK(mpe_condition_enlist(e, mpe_test_it, &ticket));
    return mpe_test_it;
}

static void
enlist_notify_and_leave(mpe_engine *e, void *arg)
{
    uint32_t t = 0;
    mpe_condition_enlist(e, arg, &t);
    mpe_condition_notify(e, arg, 2);
    mpe_condition_notified(e, arg, t);
    mpe_condition_enlist(e, arg, &t);
    mpe_condition_leave(e, arg, t);
}

static struct mpe__condition *
condition(mpe_engine *e, const mpe_object *c)
{
    return mpe__at(e, mpe__load64(&c->body));
}

/* The notification of the own wait has arrived or arrives; of the dead nothing is left. */
static void
check_condition(mpe_engine *e, void *arg, bool has_ended)
{
    mpe_test_reap(e);
    int rc = mpe_condition_notified(e, arg, ticket);
    EXPECT(rc == MPE_OK || (!has_ended && rc == MPE_EAGAIN));
    mpe_condition_notify(e, arg, 1);
    EXPECT_EQ(mpe_condition_notified(e, arg, ticket), rc == MPE_OK ? MPE_EAGAIN : MPE_OK);
    const struct mpe__condition *c = condition(e, arg);
    for (uint32_t i = 0; i < 8; i++) {
        EXPECT_EQ(mpe__condition_counts(c, i).waiting, 0);
        EXPECT_EQ(mpe__condition_counts(c, i).woken, 0);
    }
}

TEST_LIMIT(a_condition_forgets_the_dead, 60)
{
    kill_everywhere((struct mpe_test_deaths){condition_with_a_wait, NULL, enlist_notify_and_leave,
                                             check_condition});
}

static int
try_notified(mpe_engine *e, mpe_object *c, void *ud)
{
    return mpe_condition_notified(e, c, *(uint32_t *)ud);
}

static void
wait_for_notification(mpe_engine *e, void *arg)
{
    uint32_t t;
    EXPECT_OK(mpe_condition_enlist(e, arg, &t));
    EXPECT_OK(mpe_await(e, arg, MPE_EVENT_NOTIFIED, MPE_FOREVER, try_notified, &t));
}

static void
notify_one(mpe_engine *e, void *arg)
{
    mpe_condition_notify(e, arg, 1);
}

/* The partner has its notification, or has already left with it. */
static bool
is_notified(mpe_engine *e, void *arg)
{
    const struct mpe__condition *c = condition(e, arg);
    uint32_t open = 0;
    for (uint32_t i = 0; i < 8; i++)
        open += mpe__condition_counts(c, i).waiting - mpe__condition_counts(c, i).woken;
    return open == 0;
}

static void
check_no_wait(mpe_engine *e, void *arg, bool has_ended)
{
    (void)has_ended;
    EXPECT(is_notified(e, arg));
}

TEST_LIMIT(a_waiter_for_a_notification_gets_it_though_its_notifier_dies, 60)
{
    mpe_test_deaths_beside_a_waiter(
        (struct mpe_test_wait){{new_condition, NULL, notify_one, check_no_wait},
                               wait_for_notification,
                               is_notified,
                               notify_one});
}

/* Of two waiters the victim was notified: the other gets the notification that it leaves. */
static void
enlist(mpe_engine *e, void *arg)
{
    mpe_condition_enlist(e, arg, &ticket);
    e->wake_from = e->slot;
    mpe_condition_notify(e, arg, 1);
}

static void
just_die(mpe_engine *e, void *arg)
{
    (void)e, (void)arg;
}

TEST_LIMIT(a_notification_of_the_dead_goes_to_another, 60)
{
    mpe_test_deaths_beside_a_waiter((struct mpe_test_wait){
        {new_condition, enlist, just_die, check_no_wait}, wait_for_notification, NULL, NULL});
}

/* ---- barriers ---- */

static void *
barrier_of_two(mpe_engine *e)
{
    mpe_test_forget(e);
    REQUIRE_OK(mpe_barrier_create(e, 2, (mpe_bytes){NULL, 0}, &mpe_test_it));
    return mpe_test_it;
}

static void
arrive_and_open(mpe_engine *e, void *arg)
{
    uint32_t index, generation;
    if (mpe_barrier_arrive(e, arg, &index, &generation) == MPE_OK)
        mpe_barrier_open(e, arg, generation);
}

static int
try_barrier(mpe_engine *e, mpe_object *b, void *ud)
{
    return mpe_barrier_poll(e, b, *(uint32_t *)ud);
}

static void
wait_at_barrier(mpe_engine *e, void *arg)
{
    uint32_t index, generation;
    EXPECT_EQ(mpe_barrier_arrive(e, arg, &index, &generation), MPE_EAGAIN);
    int rc = mpe_await(e, arg, MPE_EVENT_READY, MPE_FOREVER, try_barrier, &generation);
    EXPECT(rc == MPE_OK || rc == MPE_EBROKEN);
}

static bool
is_open_or_broken(mpe_engine *e, void *arg)
{
    uint32_t parties, waiting;
    int broken;
    mpe_barrier_state(e, arg, &parties, &waiting, &broken);
    return broken || waiting == 0;
}

static void
check_barrier(mpe_engine *e, void *arg, bool has_ended)
{
    uint32_t parties, waiting;
    int broken;
    mpe_barrier_state(e, arg, &parties, &waiting, &broken);
    EXPECT(!broken || !has_ended);
    EXPECT_EQ(waiting, 0);
    mpe_barrier_reset(e, arg);
    mpe_barrier_state(e, arg, &parties, &waiting, &broken);
    EXPECT(!broken);
}

TEST_LIMIT(a_waiter_at_a_barrier_comes_out_though_the_last_one_dies, 60)
{
    mpe_test_deaths_beside_a_waiter(
        (struct mpe_test_wait){{barrier_of_two, NULL, arrive_and_open, check_barrier},
                               wait_at_barrier,
                               is_open_or_broken,
                               arrive_and_open});
}

static void *
barrier_with_one(mpe_engine *e)
{
    uint32_t index, generation;
    barrier_of_two(e);
    EXPECT_EQ(mpe_barrier_arrive(e, mpe_test_it, &index, &generation), MPE_EAGAIN);
    return mpe_test_it;
}

static void
abort_or_reset(mpe_engine *e, void *arg)
{
    mpe_barrier_abort(e, arg);
    mpe_barrier_reset(e, arg);
    arrive_and_open(e, arg);
}

/* Whatever happened: after a reset it opens for two. */
static void
check_reset(mpe_engine *e, void *arg, bool has_ended)
{
    uint32_t index, generation;
    (void)has_ended;
    mpe_test_reap(e);
    mpe_barrier_reset(e, arg);
    EXPECT_EQ(mpe_barrier_arrive(e, arg, &index, &generation), MPE_EAGAIN);
    EXPECT_EQ(index, 0);
    EXPECT_EQ(mpe_barrier_arrive(e, arg, &index, &generation), MPE_OK);
    EXPECT_EQ(index, 1);
    EXPECT_OK(mpe_barrier_open(e, arg, generation));
}

TEST_LIMIT(a_barrier_can_be_reset_after_any_death, 60)
{
    kill_everywhere((struct mpe_test_deaths){barrier_with_one, NULL, abort_or_reset, check_reset});
}
