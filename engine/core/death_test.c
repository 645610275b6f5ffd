/* SPDX-License-Identifier: MIT */
/* Deaths at the worst moments: under an intent lock, asleep, with a wake-up to pass on. */
#include "core/death.h"

#include "core/bell.h"
#include "core/ilock.h"
#include "core/slot.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

struct scene {
    mpe_object *o, *queue;
    struct mpe_test_gate ready, go;
};

static struct scene
new_scene(mpe_engine *e)
{
    struct scene s = {.ready = mpe_test_gate_new(), .go = mpe_test_gate_new()};
    REQUIRE_OK(mpe_semaphore_create(e, 3, 1, &s.o));
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &s.queue));
    return s;
}

static void
stay(void)
{
    mpe_test_gate_wait(mpe_test_gate_new());
}

static void
wait_until_asleep(mpe_engine *e, mpe_process *p)
{
    for (;; sched_yield()) {
        mpe_slot_info info;
        for (uint32_t slot = 0; mpe_slot_next(e, &slot, &info) == MPE_OK;)
            if (info.pid == mpe_process_pid(p) && info.sleeping != 0)
                return;
    }
}

static void
take_intent_lock(mpe_engine *e, void *arg)
{
    struct scene *s = arg;
    mpe__ilock(e, &s->o->ilock, mpe__index_of(e, s->o));
    mpe_test_gate_open(s->ready);
    stay();
}

TEST(an_intent_lock_of_the_dead_is_taken_by_the_next)
{
    mpe_engine *e = mpe_test_engine(0);
    struct scene s = new_scene(e);
    mpe_process *p = mpe_test_start(e, take_intent_lock, &s);
    mpe_test_gate_wait(s.ready);
    mpe_test_kill(p);
    EXPECT_OK(mpe_semaphore_acquire(e, s.o));
    EXPECT_EQ(mpe_semaphore_value(e, s.o), 2);
    mpe_test_join(e, p);
    mpe_test_check(e);
    mpe_close(e);
}

static void
acquire_one(mpe_engine *e, void *arg)
{
    struct scene *s = arg;
    mpe_test_gate_open(s->ready);
    EXPECT_OK(mpe_semaphore_acquire(e, s->o));
    EXPECT_OK(mpe_semaphore_release(e, s->o));
}

TEST(all_sleepers_on_an_intent_lock_go_on_when_its_owner_dies)
{
    mpe_engine *e = mpe_test_engine(0);
    for (int round = 0; round < 30; round++) {
        struct scene s = new_scene(e);
        mpe_process *p[3], *owner = mpe_test_start(e, take_intent_lock, &s);
        mpe_test_gate_wait(s.ready);
        for (int i = 0; i < 3; i++) {
            p[i] = mpe_test_start(e, acquire_one, &s);
            mpe_test_gate_wait(s.ready);
        }
        while (!(mpe__load32(&s.o->ilock) & 0x80000000u)) /* a process sleeps */
            sched_yield();
        mpe_test_kill(owner);
        for (int i = 0; i < 3; i++)
            EXPECT_EQ(mpe_test_join(e, p[i]), 0);
        mpe_test_join(e, owner);
        EXPECT_EQ(mpe_semaphore_value(e, s.o), 3);
        mpe_drop(e, s.o);
        mpe_drop(e, s.queue);
    }
    mpe_test_check(e);
    mpe_close(e);
}

TEST(a_sleeper_on_an_intent_lock_may_die_too)
{
    mpe_engine *e = mpe_test_engine(0);
    struct scene s = new_scene(e);
    mpe_process *owner = mpe_test_start(e, take_intent_lock, &s);
    mpe_test_gate_wait(s.ready);
    mpe_process *sleeper = mpe_test_start(e, acquire_one, &s);
    mpe_test_gate_wait(s.ready);
    mpe_test_kill(sleeper);
    mpe_test_kill(owner);
    EXPECT(mpe__reap(e, mpe_self_slot(e) + 2)); /* of the sleeper: needs the lock of the owner */
    EXPECT_OK(mpe_semaphore_acquire(e, s.o));
    mpe_test_join(e, owner);
    mpe_test_join(e, sleeper);
    mpe_test_check(e);
    mpe_close(e);
}

static void
only_stay(mpe_engine *e, void *arg)
{
    (void)e, (void)arg;
    stay();
}

static int
has_process(mpe_engine *e, int pid)
{
    mpe_slot_info info;
    for (uint32_t slot = 0; mpe_slot_next(e, &slot, &info) == MPE_OK;)
        if (info.pid == pid)
            return 1;
    return 0;
}

TEST(a_process_runs_no_more_while_its_slot_is_reaped)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_process *p = mpe_test_start(e, only_stay, NULL);
    int pid = mpe_process_pid(p);
    while (!has_process(e, pid))
        sched_yield();
    struct mpe__slot *s = &e->slots[mpe_self_slot(e) + 1];
    EXPECT_EQ(mpe__load32(&s->pid), pid);
    EXPECT(mpe__is_running(s));
    mpe_test_kill(p);
    EXPECT(!mpe__is_running(s));
    EXPECT_EQ(pthread_mutex_trylock(&s->life), EOWNERDEAD); /* as a reaper does first */
    EXPECT_EQ(pthread_mutex_consistent(&s->life), 0);
    EXPECT(mpe__is_live(s) && !mpe__is_dead(s));
    EXPECT(!mpe__is_running(s));
    EXPECT(!has_process(e, pid));
    mpe__retire(e, mpe_self_slot(e) + 1);
    pthread_mutex_unlock(&s->life);
    mpe_test_join(e, p);
    mpe_test_check(e);
    mpe_close(e);
}

static void
wait_for_item(mpe_engine *e, void *arg)
{
    struct scene *s = arg;
    mpe_message m;
    REQUIRE_OK(mpe_test_get(e, s->queue, &m));
    EXPECT_EQ(m.size, 4);
}

TEST(a_wake_up_meant_for_the_dead_reaches_another)
{
    mpe_engine *e = mpe_test_engine(0);
    for (int round = 0; round < 60; round++) {
        struct scene s = new_scene(e);
        mpe_process *p[2];
        for (int i = 0; i < 2; i++) {
            p[i] = mpe_test_start(e, wait_for_item, &s);
            wait_until_asleep(e, p[i]);
        }
        int dead = round % 2;
        if (round % 3 == 0) {
            mpe_test_kill(p[dead]);
            REQUIRE_OK(mpe_test_put(e, s.queue, "item", 4));
        } else {
            kill(mpe_process_pid(p[dead]), SIGSTOP);
            REQUIRE_OK(mpe_test_put(e, s.queue, "item", 4)); /* may choose the stopped one */
            mpe_test_kill(p[dead]);
        }
        EXPECT_EQ(mpe_test_join(e, p[!dead]), 0);
        mpe_test_join(e, p[dead]);
        mpe_drop(e, s.o);
        mpe_drop(e, s.queue);
    }
    mpe_close(e);
}

/* Clears the waiter's bit, as the first half of a wake-up, and rings no bell. */
static void
choose_and_stay(mpe_engine *e, void *arg)
{
    struct scene *s = arg;
    mpe_bytes item = {"item", 4};
    struct mpe__slotset *set = &s->queue->waiters[MPE_EVENT_READY];
    for (uint32_t i = 0; i < MPE__SLOT_WORDS; i++)
        atomic_store(&set->bits[i], 0);
    REQUIRE_OK(mpe_queue_put(e, s->queue, &item, 1, 0));
    mpe_test_gate_open(s->ready);
    stay();
}

TEST(a_waker_that_dies_before_it_rings_wakes_nevertheless)
{
    mpe_engine *e = mpe_test_engine(0);
    struct scene s = new_scene(e);
    mpe_process *sleeper = mpe_test_start(e, wait_for_item, &s);
    wait_until_asleep(e, sleeper);
    mpe_process *waker = mpe_test_start(e, choose_and_stay, &s);
    mpe_test_gate_wait(s.ready);
    mpe_test_kill(waker); /* only the sleeper is there to find it dead */
    EXPECT_EQ(mpe_test_join(e, sleeper), 0);
    mpe_test_join(e, waker);
    mpe_close(e);
}

static void
ring_half_and_stay(mpe_engine *e, void *arg)
{
    struct scene *s = arg;
    mpe_bytes item = {"item", 4};
    struct mpe__slotset *set = &s->queue->waiters[MPE_EVENT_READY];
    for (uint32_t i = 0; i < 64; i++)
        if (mpe__set_has(set, i)) {
            mpe__set_remove(set, i);
            atomic_fetch_or(&e->slots[i].bell, 1u << mpe__bucket(mpe__index_of(e, s->queue)));
        }
    REQUIRE_OK(mpe_queue_put(e, s->queue, &item, 1, 0));
    mpe_test_gate_open(s->ready);
    stay();
}

TEST(a_waker_that_dies_between_bell_and_wake_wakes_nevertheless)
{
    mpe_engine *e = mpe_test_engine(0);
    struct scene s = new_scene(e);
    mpe_process *sleeper = mpe_test_start(e, wait_for_item, &s);
    wait_until_asleep(e, sleeper);
    mpe_process *waker = mpe_test_start(e, ring_half_and_stay, &s);
    mpe_test_gate_wait(s.ready);
    mpe_test_kill(waker);
    EXPECT_EQ(mpe_test_join(e, sleeper), 0);
    mpe_test_join(e, waker);
    mpe_close(e);
}

static void
on_fire(mpe_engine *e, mpe_waiter *w, int status)
{
    (void)e, (void)w, (void)status;
}

/* Is chosen by a waker, and leaves normally without using its turn. */
static void
leave_with_a_turn(mpe_engine *e, void *arg)
{
    struct scene *s = arg;
    mpe_waiter w = {.fire = on_fire};
    REQUIRE_OK(mpe_wait_object(e, &w, s->queue, MPE_EVENT_READY, MPE_FOREVER));
    mpe_test_gate_open(s->ready);
    mpe_test_gate_wait(s->go);
    mpe_leave(e);
}

TEST(a_process_that_leaves_with_a_turn_passes_it_on)
{
    mpe_engine *e = mpe_test_engine(0);
    for (int round = 0; round < 10; round++) {
        struct scene s = new_scene(e);
        mpe_process *first = mpe_test_start(e, leave_with_a_turn, &s);
        mpe_test_gate_wait(s.ready);
        mpe_process *second = mpe_test_start(e, wait_for_item, &s);
        wait_until_asleep(e, second);
        e->wake_from = 0; /* the lower slot is chosen: the first */
        REQUIRE_OK(mpe_test_put(e, s.queue, "item", 4));
        mpe_test_gate_open(s.go);
        EXPECT_EQ(mpe_test_join(e, first), 0);
        EXPECT_EQ(mpe_test_join(e, second), 0);
    }
    mpe_close(e);
}

static void
just_stay(mpe_engine *e, void *arg)
{
    (void)e;
    mpe_test_gate_open(((struct scene *)arg)->ready);
    stay();
}

TEST(the_slots_of_the_dead_are_used_again)
{
    mpe_engine *e = mpe_test_engine(0);
    struct scene s = new_scene(e);
    for (int i = 0; i < 600; i++) {
        mpe_process *p = mpe_test_start(e, just_stay, &s);
        mpe_test_gate_wait(s.ready);
        mpe_test_kill(p);
        EXPECT_EQ(mpe_test_join(e, p), -9);
    }
    EXPECT(mpe__load32(&e->header->slots_top) <= 3);
    mpe_close(e);
}

TEST(a_reserved_slot_that_was_not_taken_is_freed_with_its_starter)
{
    mpe_engine *e = mpe_test_engine(0);
    uint32_t slot;
    REQUIRE_OK(mpe__slot_reserve(e, "unborn", &slot));
    uint32_t generation = mpe__load32(&e->slots[slot].generation);
    EXPECT_EQ(mpe__slot_take_reserved(e, slot, generation + 1), MPE_ESTALE);
    EXPECT_EQ(mpe__load32(&e->slots[slot].state), MPE__SLOT_STARTING);
    mpe__slot_unreserve(e, slot, generation + 1);
    EXPECT_EQ(mpe__load32(&e->slots[slot].state), MPE__SLOT_STARTING);
    mpe__slot_unreserve(e, slot, generation);
    EXPECT_EQ(mpe__load32(&e->slots[slot].state), MPE__SLOT_FREE);
    EXPECT_EQ(mpe__slot_take_reserved(e, slot, generation), MPE_ESTALE);
    mpe_close(e);
}

static void
reserve_and_stay(mpe_engine *e, void *arg)
{
    uint32_t slot;
    REQUIRE_OK(mpe__slot_reserve(e, "unborn", &slot));
    just_stay(e, arg);
}

TEST(the_death_of_a_starter_frees_its_reserved_slots)
{
    mpe_engine *e = mpe_test_engine(0);
    struct scene s = new_scene(e);
    mpe_process *p = mpe_test_start(e, reserve_and_stay, &s);
    mpe_test_gate_wait(s.ready);
    mpe_test_kill(p);
    EXPECT_EQ(mpe_reap_dead(e), 1);
    for (uint32_t i = 0; i < MPE__SLOTS; i++)
        EXPECT_EQ(mpe__load32(&e->slots[i].state),
                  i == mpe_self_slot(e) ? MPE__SLOT_LIVE : MPE__SLOT_FREE);
    mpe_test_join(e, p);
    mpe_close(e);
}

static uint64_t
backed_bytes(const mpe_engine *e)
{
    struct stat st;
    REQUIRE(fstat(e->fd, &st) == 0);
    return (uint64_t)st.st_blocks * 512;
}

TEST(a_slot_takes_memory_when_it_is_first_used)
{
    mpe_engine *e = mpe_test_engine(0);
    uint64_t before = backed_bytes(e);
    uint32_t slot;
    for (int i = 0; i < 255; i++)
        REQUIRE_OK(mpe__slot_reserve(e, "x", &slot));
    EXPECT(backed_bytes(e) >= before + 240 * sizeof(struct mpe__slot));
    mpe_close(e);
}

TEST(a_slot_that_is_first_used_gets_what_the_system_calls_a_robust_mutex)
{
    mpe_engine *e = mpe_test_engine(0);
    pthread_mutex_t robust;
    pthread_mutexattr_t a;
    uint32_t slot;
    pthread_mutexattr_init(&a);
    pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&robust, &a);
    REQUIRE(pthread_mutex_trylock(&robust) == 0 && pthread_mutex_unlock(&robust) == 0);
    static const pthread_mutex_t zeros;
    EXPECT(memcmp(&e->slots[1].life, &zeros, sizeof zeros) == 0);
    REQUIRE_OK(mpe__slot_reserve(e, "x", &slot));
    EXPECT_EQ(slot, 1);
    EXPECT(memcmp(&e->slots[1].life, &robust, sizeof robust) == 0);
    mpe_close(e);
}

TEST(there_are_256_slots)
{
    mpe_engine *e = mpe_test_engine(0);
    uint32_t slot;
    for (int i = 0; i < 255; i++)
        REQUIRE_OK(mpe__slot_reserve(e, "x", &slot));
    EXPECT_EQ(mpe__slot_reserve(e, "x", &slot), MPE_ESLOTS);
    mpe_close(e);
}
