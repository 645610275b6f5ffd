/* SPDX-License-Identifier: MIT */
/* Locks for users: their owners, releases, and the state after an owner dies. */
#include "mpengine_core.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <signal.h>

static mpe_object *
new_lock(mpe_engine *e, int recursive)
{
    mpe_object *o;
    REQUIRE_OK(mpe_lock_create(e, recursive, &o));
    return o;
}

TEST(a_lock_is_taken_once)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = new_lock(e, 0);
    EXPECT_OK(mpe_lock_acquire(e, o, 1));
    EXPECT_EQ(mpe_lock_acquire(e, o, 1), MPE_EAGAIN);
    EXPECT_EQ(mpe_lock_acquire(e, o, 2), MPE_EAGAIN);
    EXPECT_OK(mpe_lock_release(e, o));
    EXPECT_EQ(mpe_lock_release(e, o), MPE_EOVER);
    EXPECT_OK(mpe_lock_acquire(e, o, 2));
    mpe_close(e);
}

TEST(shows_its_owner)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = new_lock(e, 1);
    mpe_lock_state s;
    mpe_lock_state_get(e, o, &s);
    EXPECT_EQ(s.locked, 0);
    EXPECT_EQ(s.abandoned, 0);
    REQUIRE_OK(mpe_rlock_acquire(e, o, 0x7fffffff));
    REQUIRE_OK(mpe_rlock_acquire(e, o, 0x7fffffff));
    mpe_lock_state_get(e, o, &s);
    EXPECT_EQ(s.locked, 1);
    EXPECT_EQ(s.slot, mpe_self_slot(e));
    EXPECT_EQ(s.task, 0x7fffffff);
    EXPECT_EQ(s.levels, 2);
    mpe_close(e);
}

TEST(only_an_object_with_a_lock_is_held)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *array, *raw, *condition, *semaphore;
    mpe_lock_state s;
    REQUIRE_OK(mpe_array_create(e, 'd', 1, 0, &array));
    REQUIRE_OK(mpe_array_create(e, 'd', 1, MPE_ARRAY_RAW, &raw));
    REQUIRE_OK(mpe_condition_create(e, 0, &condition));
    REQUIRE_OK(mpe_semaphore_create(e, 3, 0, &semaphore));
    REQUIRE_OK(mpe_rlock_acquire(e, array, 1));
    REQUIRE_OK(mpe_rlock_acquire(e, condition, 2));
    mpe_lock_state_get(e, array, &s);
    EXPECT_EQ(s.task, 1);
    mpe_lock_state_get(e, condition, &s);
    EXPECT_EQ(s.task, 2);
    mpe_lock_state_get(e, semaphore, &s);
    EXPECT_EQ(s.locked, 0);
    mpe_lock_state_get(e, raw, &s);
    EXPECT_EQ(s.locked, 0);
    mpe_close(e);
}

TEST(a_recursive_lock_belongs_to_its_task)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = new_lock(e, 1);
    EXPECT_EQ(mpe_rlock_release(e, o, 1), MPE_EPERM);
    EXPECT_OK(mpe_rlock_acquire(e, o, 1));
    EXPECT_OK(mpe_rlock_acquire(e, o, 1));
    EXPECT_EQ(mpe_rlock_acquire(e, o, 2), MPE_EAGAIN);
    EXPECT_EQ(mpe_rlock_release(e, o, 2), MPE_EPERM);
    EXPECT_OK(mpe_rlock_release(e, o, 1));
    EXPECT_EQ(mpe_rlock_acquire(e, o, 2), MPE_EAGAIN);
    EXPECT_OK(mpe_rlock_release(e, o, 1));
    EXPECT_OK(mpe_rlock_acquire(e, o, 2));
    mpe_close(e);
}

TEST(a_recursive_lock_has_65535_levels)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = new_lock(e, 1);
    for (int i = 0; i < 65535; i++)
        REQUIRE_OK(mpe_rlock_acquire(e, o, 1));
    EXPECT_EQ(mpe_rlock_acquire(e, o, 1), MPE_ERANGE);
    for (int i = 0; i < 65535; i++)
        REQUIRE_OK(mpe_rlock_release(e, o, 1));
    EXPECT_OK(mpe_rlock_acquire(e, o, 2));
    mpe_close(e);
}

TEST(gives_up_all_levels_and_takes_them_back)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = new_lock(e, 1);
    mpe_lock_state s;
    uint32_t levels = 0;
    for (int i = 0; i < 3; i++)
        REQUIRE_OK(mpe_rlock_acquire(e, o, 1));
    EXPECT_EQ(mpe_rlock_release_all(e, o, 2, &levels), MPE_EPERM);
    EXPECT_OK(mpe_rlock_release_all(e, o, 1, &levels));
    EXPECT_EQ(levels, 3);
    EXPECT_OK(mpe_rlock_acquire(e, o, 1));
    mpe_rlock_set_levels(e, o, levels);
    mpe_lock_state_get(e, o, &s);
    EXPECT_EQ(s.levels, 3);
    mpe_close(e);
}

struct counted {
    mpe_object *lock, *array;
    int rounds;
};

static void
count_under_lock(mpe_engine *e, void *arg)
{
    struct counted *c = arg;
    char type;
    uint64_t length;
    volatile long *n = mpe_array_data(e, c->array, &type, &length);
    for (int i = 0; i < c->rounds; i++) {
        REQUIRE_OK(mpe_test_lock(e, c->lock));
        n[0] = n[0] + 1;
        REQUIRE_OK(mpe_lock_release(e, c->lock));
    }
}

TEST_LIMIT(three_processes_count_without_losing_one, 30)
{
    mpe_engine *e = mpe_test_engine(0);
    struct counted c = {new_lock(e, 0), NULL, 20000};
    mpe_process *p[3];
    char type;
    uint64_t length;
    REQUIRE_OK(mpe_array_create(e, 'l', 1, 0, &c.array));
    for (int i = 0; i < 3; i++)
        p[i] = mpe_test_start(e, count_under_lock, &c);
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(mpe_test_join(e, p[i]), 0);
    EXPECT_EQ(*(long *)mpe_array_data(e, c.array, &type, &length), 60000);
    mpe_close(e);
}

struct holder {
    mpe_object *lock;
    struct mpe_test_gate ready;
};

static void
lock_and_wait(mpe_engine *e, void *arg)
{
    struct holder *h = arg;
    REQUIRE_OK(mpe_lock_acquire(e, h->lock, 5));
    mpe_test_gate_open(h->ready);
    mpe_test_gate_wait(mpe_test_gate_new());
}

TEST(the_next_owner_learns_that_the_last_one_died)
{
    mpe_engine *e = mpe_test_engine(0);
    struct holder h = {new_lock(e, 0), mpe_test_gate_new()};
    mpe_lock_state s;
    mpe_process *p = mpe_test_start(e, lock_and_wait, &h);
    mpe_test_gate_wait(h.ready);
    EXPECT_EQ(mpe_lock_acquire(e, h.lock, 1), MPE_EAGAIN);
    mpe_test_kill(p);
    EXPECT_EQ(mpe_reap_dead(e), 1);
    EXPECT_EQ(mpe_reap_dead(e), 0);
    mpe_lock_state_get(e, h.lock, &s);
    EXPECT_EQ(s.locked, 0);
    EXPECT_EQ(s.abandoned, 1);
    EXPECT_EQ(mpe_lock_acquire(e, h.lock, 1), MPE_OWNER_DIED);
    EXPECT_OK(mpe_lock_release(e, h.lock));
    EXPECT_OK(mpe_lock_acquire(e, h.lock, 1));
    EXPECT_EQ(mpe_test_join(e, p), -9);
    mpe_close(e);
}

TEST(a_sleeper_is_woken_by_the_death_of_the_lock_s_owner)
{
    mpe_engine *e = mpe_test_engine(0);
    for (int i = 0; i < 50; i++) {
        struct holder h = {new_lock(e, 0), mpe_test_gate_new()};
        mpe_process *p = mpe_test_start(e, lock_and_wait, &h);
        mpe_test_gate_wait(h.ready);
        kill(mpe_process_pid(p), SIGKILL);
        EXPECT_EQ(mpe_test_lock(e, h.lock), MPE_OWNER_DIED);
        EXPECT_EQ(mpe_test_join(e, p), -9);
        mpe_drop(e, h.lock);
    }
    mpe_close(e);
}

static void
lock_and_leave(mpe_engine *e, void *arg)
{
    struct holder *h = arg;
    REQUIRE_OK(mpe_lock_acquire(e, h->lock, 5));
    mpe_test_gate_open(h->ready);
    mpe_leave(e);
}

TEST(leaving_with_a_lock_is_like_dying_with_it)
{
    mpe_engine *e = mpe_test_engine(0);
    struct holder h = {new_lock(e, 0), mpe_test_gate_new()};
    mpe_process *p = mpe_test_start(e, lock_and_leave, &h);
    mpe_test_gate_wait(h.ready);
    EXPECT_EQ(mpe_test_lock(e, h.lock), MPE_OWNER_DIED);
    EXPECT_EQ(mpe_test_join(e, p), 0);
    mpe_close(e);
}

static void
lock_and_die_without_the_object(mpe_engine *e, void *arg)
{
    struct holder *h = arg;
    REQUIRE_OK(mpe_lock_acquire(e, h->lock, 5));
    mpe_drop(e, h->lock);
    mpe_test_gate_open(h->ready);
    mpe_test_gate_wait(mpe_test_gate_new());
}

TEST(a_lock_whose_owner_dropped_the_object_is_released_too)
{
    mpe_engine *e = mpe_test_engine(0);
    struct holder h = {new_lock(e, 0), mpe_test_gate_new()};
    mpe_process *p = mpe_test_start(e, lock_and_die_without_the_object, &h);
    mpe_test_gate_wait(h.ready);
    mpe_test_kill(p);
    EXPECT_EQ(mpe_test_lock(e, h.lock), MPE_OWNER_DIED);
    mpe_test_join(e, p);
    mpe_close(e);
}
