/* SPDX-License-Identifier: MIT */
/* Semaphores: permits, bounds, and what the dead held. */
#include "mpengine_core.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

static mpe_object *
new_semaphore(mpe_engine *e, uint32_t permits, int bounded)
{
    mpe_object *o;
    REQUIRE_OK(mpe_semaphore_create(e, permits, bounded, &o));
    return o;
}

TEST(grants_as_many_permits_as_it_has)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = new_semaphore(e, 2, 0);
    EXPECT_EQ(mpe_semaphore_value(e, o), 2);
    EXPECT_OK(mpe_semaphore_acquire(e, o));
    EXPECT_OK(mpe_semaphore_acquire(e, o));
    EXPECT_EQ(mpe_semaphore_acquire(e, o), MPE_EAGAIN);
    EXPECT_OK(mpe_semaphore_release(e, o));
    EXPECT_EQ(mpe_semaphore_value(e, o), 1);
    EXPECT_OK(mpe_semaphore_acquire(e, o));
    mpe_close(e);
}

TEST(a_release_without_a_hold_makes_a_new_permit)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = new_semaphore(e, 0, 0);
    EXPECT_EQ(mpe_semaphore_acquire(e, o), MPE_EAGAIN);
    EXPECT_OK(mpe_semaphore_release(e, o));
    EXPECT_OK(mpe_semaphore_release(e, o));
    EXPECT_EQ(mpe_semaphore_value(e, o), 2);
    mpe_close(e);
}

TEST(a_bounded_one_refuses_to_exceed_its_bound)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = new_semaphore(e, 1, 1);
    EXPECT_EQ(mpe_semaphore_release(e, o), MPE_EOVER);
    EXPECT_OK(mpe_semaphore_acquire(e, o));
    EXPECT_OK(mpe_semaphore_release(e, o));
    EXPECT_EQ(mpe_semaphore_release(e, o), MPE_EOVER);
    EXPECT_EQ(mpe_semaphore_value(e, o), 1);
    mpe_close(e);
}

static void
release_one(mpe_engine *e, void *arg)
{
    EXPECT_OK(mpe_semaphore_release(e, arg));
}

TEST(one_process_may_acquire_and_another_release)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = new_semaphore(e, 1, 1);
    EXPECT_OK(mpe_semaphore_acquire(e, o));
    EXPECT_EQ(mpe_test_join(e, mpe_test_start(e, release_one, o)), 0);
    EXPECT_EQ(mpe_semaphore_value(e, o), 1);
    EXPECT_OK(mpe_semaphore_acquire(e, o));
    mpe_close(e);
}

struct taker {
    mpe_object *semaphore;
    struct mpe_test_gate ready;
    int count;
};

static void
take_and_wait(mpe_engine *e, void *arg)
{
    struct taker *t = arg;
    for (int i = 0; i < t->count; i++)
        REQUIRE_OK(mpe_semaphore_acquire(e, t->semaphore));
    mpe_test_gate_open(t->ready);
    mpe_test_gate_wait(mpe_test_gate_new());
}

static int
try_acquire(mpe_engine *e, mpe_object *o, void *ud)
{
    (void)ud;
    return mpe_semaphore_acquire(e, o);
}

TEST(the_permits_of_the_dead_return_and_wake_the_waiters)
{
    mpe_engine *e = mpe_test_engine(0);
    struct taker t = {new_semaphore(e, 3, 1), mpe_test_gate_new(), 3};
    mpe_process *p = mpe_test_start(e, take_and_wait, &t);
    mpe_test_gate_wait(t.ready);
    EXPECT_EQ(mpe_semaphore_acquire(e, t.semaphore), MPE_EAGAIN);
    mpe_test_kill(p);
    EXPECT_OK(mpe_await(e, t.semaphore, MPE_EVENT_READY, MPE_FOREVER, try_acquire, NULL));
    EXPECT_EQ(mpe_semaphore_value(e, t.semaphore), 2);
    EXPECT_OK(mpe_semaphore_release(e, t.semaphore));
    EXPECT_EQ(mpe_semaphore_release(e, t.semaphore), MPE_EOVER);
    mpe_test_join(e, p);
    mpe_close(e);
}

struct entered {
    mpe_object *semaphore, *array;
};

/* Never more than two inside. */
static void
enter_and_leave(mpe_engine *e, void *arg)
{
    struct entered *c = arg;
    char type;
    uint64_t length;
    int *inside = mpe_array_data(e, c->array, &type, &length);
    for (int i = 0; i < 5000; i++) {
        REQUIRE_OK(mpe_await(e, c->semaphore, MPE_EVENT_READY, MPE_FOREVER, try_acquire, NULL));
        EXPECT(__atomic_add_fetch(inside, 1, __ATOMIC_SEQ_CST) <= 2);
        __atomic_sub_fetch(inside, 1, __ATOMIC_SEQ_CST);
        REQUIRE_OK(mpe_semaphore_release(e, c->semaphore));
    }
}

TEST_LIMIT(four_processes_share_two_permits, 30)
{
    mpe_engine *e = mpe_test_engine(0);
    struct entered c = {new_semaphore(e, 2, 1), NULL};
    mpe_process *p[4];
    REQUIRE_OK(mpe_array_create(e, 'i', 1, 0, &c.array));
    for (int i = 0; i < 4; i++)
        p[i] = mpe_test_start(e, enter_and_leave, &c);
    for (int i = 0; i < 4; i++)
        EXPECT_EQ(mpe_test_join(e, p[i]), 0);
    EXPECT_EQ(mpe_semaphore_value(e, c.semaphore), 2);
    mpe_close(e);
}
