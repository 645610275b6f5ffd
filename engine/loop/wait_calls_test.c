/* SPDX-License-Identifier: MIT */
/* The waiting calls of a host: every outcome that their comments name. */
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <string.h>

#define SOON (mpe_now() + 20000000)
#define LONG (mpe_now() + 8 * MPE_NS_PER_S)

static struct mpe_test_gate gate;
static mpe_object *lock;

static void
release_lock(mpe_engine *e, mpe_waiter *w, int status)
{
    (void)w;
    (void)status;
    EXPECT_OK(mpe_lock_release(e, lock));
}

static void
hold_and_wait(mpe_engine *e, void *arg)
{
    EXPECT_OK(mpe_acquire(e, lock, MPE_FOREVER));
    mpe_test_gate_open(gate);
    mpe_wait(e, arg, MPE_FOREVER);
}

TEST(a_lock_is_acquired_waited_for_and_released)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_waiter w = {.fire = release_lock};
    REQUIRE_OK(mpe_lock_create(e, 0, &lock));
    EXPECT_EQ(mpe_release(e, lock), MPE_EOVER);
    EXPECT_OK(mpe_acquire(e, lock, MPE_NOW));
    EXPECT_EQ(mpe_acquire(e, lock, MPE_NOW), MPE_EAGAIN);
    EXPECT_EQ(mpe_acquire(e, lock, SOON), MPE_ETIMEDOUT);
    EXPECT_EQ(mpe_acquire(e, lock, MPE_FOREVER), MPE_EDEADLK);
    EXPECT_OK(mpe_wait_timer(e, &w, SOON));
    EXPECT_OK(mpe_acquire(e, lock, LONG));
    EXPECT_OK(mpe_release(e, lock));
    EXPECT_OK(mpe_acquire(e, lock, 1)); /* long past, but it is free */
    mpe_test_check(e);
}

TEST(a_recursive_lock_has_levels_and_an_owner_that_no_task_is)
{
    mpe_engine *e = mpe_test_engine(0);
    REQUIRE_OK(mpe_lock_create(e, 1, &lock));
    EXPECT_EQ(mpe_release(e, lock), MPE_EOVER);
    EXPECT_OK(mpe_acquire(e, lock, MPE_FOREVER));
    EXPECT_OK(mpe_acquire(e, lock, MPE_NOW));
    EXPECT_EQ(mpe_rlock_acquire(e, lock, 1), MPE_EAGAIN);
    EXPECT_OK(mpe_release(e, lock));
    EXPECT_OK(mpe_release(e, lock));
    EXPECT_OK(mpe_rlock_acquire(e, lock, 1));
    EXPECT_EQ(mpe_acquire(e, lock, MPE_NOW), MPE_EAGAIN);
    EXPECT_EQ(mpe_release(e, lock), MPE_EPERM);
    mpe_close(e);
}

TEST(the_death_of_an_owner_is_told)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *never;
    gate = mpe_test_gate_new();
    REQUIRE_OK(mpe_lock_create(e, 1, &lock));
    REQUIRE_OK(mpe_event_create(e, &never));
    mpe_process *p = mpe_test_start(e, hold_and_wait, never);
    mpe_test_gate_wait(gate);
    EXPECT_EQ(mpe_acquire(e, lock, SOON), MPE_ETIMEDOUT);
    mpe_test_kill(p);
    EXPECT_EQ(mpe_acquire(e, lock, LONG), MPE_OWNER_DIED);
    EXPECT_OK(mpe_release(e, lock));
    mpe_test_check(e);
}

TEST(a_semaphore_gives_its_permits)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *s;
    REQUIRE_OK(mpe_semaphore_create(e, 1, 1, &s));
    EXPECT_OK(mpe_acquire(e, s, MPE_FOREVER));
    EXPECT_EQ(mpe_acquire(e, s, MPE_NOW), MPE_EAGAIN);
    EXPECT_EQ(mpe_acquire(e, s, SOON), MPE_ETIMEDOUT);
    EXPECT_OK(mpe_release(e, s));
    EXPECT_EQ(mpe_release(e, s), MPE_EOVER);
    mpe_close(e);
}

static void
set_event(mpe_engine *e, void *arg)
{
    mpe_event_set(e, arg);
}

TEST(an_event_is_waited_for)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o;
    REQUIRE_OK(mpe_event_create(e, &o));
    EXPECT_EQ(mpe_wait(e, o, MPE_NOW), MPE_EAGAIN);
    EXPECT_EQ(mpe_wait(e, o, SOON), MPE_ETIMEDOUT);
    EXPECT_EQ(mpe_wait(e, o, MPE_FOREVER), MPE_EDEADLK);
    mpe_process *p = mpe_test_start(e, set_event, o);
    EXPECT_OK(mpe_wait(e, o, LONG));
    EXPECT_EQ(mpe_test_join(e, p), 0);
    EXPECT_OK(mpe_wait(e, o, MPE_NOW));
    mpe_interrupt(e);
    EXPECT_OK(mpe_wait(e, o, LONG)); /* it is set, so nothing waits */
    mpe_event_clear(e, o);
    EXPECT_EQ(mpe_wait(e, o, LONG), MPE_EINTR);
}

static void
arrive(mpe_engine *e, void *arg)
{
    EXPECT_OK(mpe_wait(e, arg, MPE_FOREVER));
}

TEST(a_barrier_opens_for_its_parties_and_breaks_at_a_timeout)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *b;
    REQUIRE_OK(mpe_barrier_create(e, 2, (mpe_bytes){NULL, 0}, &b));
    EXPECT_EQ(mpe_wait(e, b, MPE_NOW), MPE_EAGAIN);
    mpe_process *p = mpe_test_start(e, arrive, b);
    EXPECT_OK(mpe_wait(e, b, LONG));
    EXPECT_EQ(mpe_test_join(e, p), 0);
    EXPECT_EQ(mpe_wait(e, b, SOON), MPE_ETIMEDOUT);
    EXPECT_EQ(mpe_wait(e, b, MPE_FOREVER), MPE_EBROKEN);
}

TEST(a_joinable_queue_is_waited_for_and_another_is_of_the_wrong_kind)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q, *plain;
    mpe_message m;
    REQUIRE_OK(mpe_queue_create(e, 0, MPE_QUEUE_JOINABLE, &q));
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &plain));
    EXPECT_OK(mpe_wait(e, q, MPE_NOW));
    EXPECT_OK(mpe_put(e, q, "a", 1, MPE_FOREVER));
    EXPECT_EQ(mpe_wait(e, q, MPE_NOW), MPE_EAGAIN);
    EXPECT_OK(mpe_get(e, q, &m, MPE_FOREVER));
    EXPECT_OK(mpe_queue_task_done(e, q));
    EXPECT_OK(mpe_wait(e, q, MPE_FOREVER));
    mpe_message_free(e, &m);
    EXPECT_EQ(mpe_wait(e, plain, MPE_NOW), MPE_ETYPE);
    mpe_close(e);
}

static void
notify(mpe_engine *e, void *arg)
{
    EXPECT_OK(mpe_acquire(e, arg, MPE_FOREVER));
    mpe_condition_notify(e, arg, 1);
    EXPECT_OK(mpe_release(e, arg));
}

static void
wait_for_notice(int recursive)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *c;
    mpe_lock_state state;
    REQUIRE_OK(mpe_lock_create(e, recursive, &lock));
    REQUIRE_OK(mpe_condition_create(e, mpe_handle_of(e, lock), &c));
    EXPECT_EQ(mpe_wait(e, c, MPE_FOREVER), MPE_EPERM);
    EXPECT_OK(mpe_acquire(e, c, MPE_FOREVER));
    if (recursive)
        EXPECT_OK(mpe_acquire(e, lock, MPE_FOREVER));
    EXPECT_EQ(mpe_wait(e, c, MPE_NOW), MPE_EAGAIN);
    EXPECT_EQ(mpe_wait(e, c, SOON), MPE_ETIMEDOUT);
    mpe_process *p = mpe_test_start(e, notify, c);
    EXPECT_OK(mpe_wait(e, c, LONG));
    mpe_lock_state_get(e, lock, &state);
    EXPECT_EQ(state.slot, mpe_self_slot(e));
    EXPECT_EQ(state.levels, recursive ? 2 : 1);
    EXPECT_OK(mpe_release(e, c));
    EXPECT_EQ(mpe_release(e, lock), recursive ? MPE_OK : MPE_EOVER);
    EXPECT_EQ(mpe_test_join(e, p), 0);
    mpe_test_check(e);
}

TEST(a_condition_is_waited_for_with_a_recursive_lock)
{
    wait_for_notice(1);
}

TEST(a_condition_is_waited_for_with_a_plain_lock)
{
    wait_for_notice(0);
}

TEST(a_condition_holds_its_lock_again_after_an_interrupt)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *c;
    REQUIRE_OK(mpe_condition_create(e, 0, &c));
    EXPECT_OK(mpe_acquire(e, c, MPE_FOREVER));
    mpe_interrupt(e);
    EXPECT_EQ(mpe_wait(e, c, LONG), MPE_EINTR);
    EXPECT_OK(mpe_release(e, c));
    mpe_close(e);
}

TEST(a_queue_says_when_it_is_full_empty_and_closed)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q;
    mpe_message m;
    REQUIRE_OK(mpe_queue_create(e, 1, 0, &q));
    EXPECT_EQ(mpe_get(e, q, &m, MPE_NOW), MPE_EAGAIN);
    EXPECT_EQ(mpe_get(e, q, &m, SOON), MPE_ETIMEDOUT);
    EXPECT_OK(mpe_put(e, q, "one", 3, MPE_FOREVER));
    EXPECT_EQ(mpe_put(e, q, "two", 3, MPE_NOW), MPE_EAGAIN);
    EXPECT_EQ(mpe_put(e, q, "two", 3, SOON), MPE_ETIMEDOUT);
    EXPECT_EQ(mpe_put(e, q, NULL, 3, MPE_NOW), MPE_EINVAL);
    mpe_queue_close(e, q);
    EXPECT_EQ(mpe_put(e, q, "two", 3, MPE_FOREVER), MPE_ECLOSED);
    EXPECT_OK(mpe_get(e, q, &m, MPE_FOREVER));
    EXPECT(m.size == 3 && memcmp(m.data, "one", 3) == 0);
    mpe_message_free(e, &m);
    EXPECT_EQ(mpe_get(e, q, &m, MPE_FOREVER), MPE_ECLOSED);
    mpe_close(e);
}

TEST(an_object_in_a_message_is_kept_alive)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q, *named;
    mpe_buf b;
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &q));
    REQUIRE_OK(mpe_event_create(e, &named));
    mpe_handle h = mpe_handle_of(e, named);
    mpe_bytes bytes = mpe_test_handle_bytes(&b, h);
    EXPECT_OK(mpe_put(e, q, bytes.data, bytes.size, MPE_NOW));
    mpe_buf_free(&b);
    mpe_drop(e, named);
    mpe_sweep(e);
    EXPECT_OK(mpe_hold(e, h, &named));
    mpe_close(e);
}

static void
put_one(mpe_engine *e, void *arg)
{
    EXPECT_OK(mpe_put(e, arg, "x", 1, MPE_FOREVER));
}

TEST(the_first_of_several_that_is_ready_is_found)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *all[12], *d;
    mpe_message m;
    size_t i = 77;
    for (int k = 0; k < 12; k++)
        REQUIRE_OK(mpe_event_create(e, &all[k]));
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &all[11]));
    REQUIRE_OK(mpe_lock_create(e, 1, &all[10]));
    REQUIRE_OK(mpe_semaphore_create(e, 0, 0, &all[9]));
    REQUIRE_OK(mpe_dict_create(e, &d));
    EXPECT_OK(mpe_wait_any(e, all, 12, MPE_FOREVER, &i));
    EXPECT_EQ(i, 10);
    EXPECT_OK(mpe_acquire(e, all[10], MPE_NOW));
    i = 77;
    EXPECT_EQ(mpe_wait_any(e, all, 12, MPE_NOW, &i), MPE_EAGAIN);
    EXPECT_EQ(mpe_wait_any(e, all, 12, SOON, &i), MPE_ETIMEDOUT);
    EXPECT_EQ(i, 77);
    mpe_process *p = mpe_test_start(e, put_one, all[11]);
    EXPECT_OK(mpe_wait_any(e, all, 12, LONG, NULL));
    EXPECT_OK(mpe_get(e, all[11], &m, MPE_NOW)); /* nothing was taken */
    mpe_message_free(e, &m);
    EXPECT_EQ(mpe_test_join(e, p), 0);
    EXPECT_EQ(mpe_wait_any(e, all, 0, MPE_NOW, &i), MPE_EINVAL);
    EXPECT_EQ(mpe_wait_any(e, &d, 1, MPE_NOW, &i), MPE_ETYPE);
    EXPECT_EQ(mpe_wait_any(e, (mpe_object *[]){d, NULL}, 2, MPE_NOW, &i), MPE_EINVAL);
    EXPECT_EQ(mpe_wait_any(NULL, all, 1, MPE_NOW, &i), MPE_EINVAL);
    mpe_close(e);
}

TEST(refusals_come_in_their_order)
{
    mpe_engine *e = mpe_test_engine(0), *far = mpe_test_engine(0);
    mpe_object *mine, *theirs;
    mpe_message m;
    REQUIRE_OK(mpe_dict_create(e, &mine));
    REQUIRE_OK(mpe_dict_create(far, &theirs));
    EXPECT_EQ(mpe_wait(NULL, mine, MPE_NOW), MPE_EINVAL);
    EXPECT_EQ(mpe_wait(e, NULL, MPE_NOW), MPE_EINVAL);
    EXPECT_EQ(mpe_wait(e, theirs, MPE_NOW), MPE_ESTALE);
    EXPECT_EQ(mpe_wait(e, mine, MPE_NOW), MPE_ETYPE);
    EXPECT_EQ(mpe_acquire(e, theirs, MPE_NOW), MPE_ESTALE);
    EXPECT_EQ(mpe_acquire(e, mine, MPE_NOW), MPE_ETYPE);
    EXPECT_EQ(mpe_release(e, mine), MPE_ETYPE);
    EXPECT_EQ(mpe_get(e, theirs, NULL, MPE_NOW), MPE_EINVAL);
    EXPECT_EQ(mpe_get(e, theirs, &m, MPE_NOW), MPE_ESTALE);
    EXPECT_EQ(mpe_put(e, mine, "", 0, MPE_NOW), MPE_ETYPE);
    EXPECT_EQ(mpe_wait_any(e, (mpe_object *[]){mine, theirs}, 2, MPE_NOW, NULL), MPE_ESTALE);
    mpe_close(far);
    mpe_close(e);
}
