/* SPDX-License-Identifier: MIT */
/* Lifetimes of shared objects: handles, holds, objects kept by containers, objects released by a
 * death. */
#include "core/object.h"

#include "testing/deaths.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

TEST(a_handle_names_the_object_until_its_last_drop)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = mpe_test_event(e), *again;
    mpe_handle h = mpe_handle_of(e, o);
    EXPECT_EQ(mpe_handle_kind(h), MPE_KIND_EVENT);
    REQUIRE_OK(mpe_hold(e, h, &again));
    EXPECT(again == o);
    mpe_drop(e, o);
    REQUIRE_OK(mpe_hold(e, h, &again));
    mpe_drop(e, o);
    mpe_drop(e, o);
    EXPECT_EQ(mpe_hold(e, h, &again), MPE_ESTALE);
    EXPECT_EQ(mpe_test_objects(e), 0);
    mpe_close(e);
}

TEST(an_old_handle_does_not_name_the_next_object_in_its_place)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = mpe_test_event(e), *next, *out;
    mpe_handle old = mpe_handle_of(e, o);
    mpe_drop(e, o);
    next = mpe_test_event(e);
    EXPECT(next == o);
    EXPECT(mpe_handle_of(e, next) != old);
    EXPECT_EQ(mpe_hold(e, old, &out), MPE_ESTALE);
    mpe_close(e);
}

TEST(refuses_handles_that_name_nothing)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = mpe_test_event(e), *out;
    mpe_handle h = mpe_handle_of(e, o);
    EXPECT_EQ(mpe_hold(e, 0, &out), MPE_ESTALE);
    EXPECT_EQ(mpe_hold(e, h + 1, &out), MPE_ESTALE);
    EXPECT_EQ(mpe_hold(e, h | 0xffffffff, &out), MPE_ESTALE);
    EXPECT_EQ(mpe_hold(e, (h & ~(0xffull << 56)) | (uint64_t)MPE_KIND_DICT << 56, &out),
              MPE_ESTALE);
    EXPECT_EQ(mpe_hold(e, h ^ 1ull << 32, &out), MPE_ESTALE);
    mpe_close(e);
}

TEST(the_lock_of_an_array_has_a_handle_of_its_own)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o, *lock, *out;
    REQUIRE_OK(mpe_array_create(e, 'd', 10, 0, &o));
    mpe_handle h = mpe_lock_facet(e, o);
    EXPECT_EQ(mpe_handle_kind(h), MPE_KIND_RLOCK);
    REQUIRE_OK(mpe_hold(e, h, &lock));
    EXPECT(lock == o);
    EXPECT_OK(mpe_rlock_acquire(e, lock, 1));
    mpe_drop(e, o);
    EXPECT_OK(mpe_rlock_release(e, lock, 1));
    mpe_drop(e, lock);
    EXPECT_EQ(mpe_hold(e, h, &out), MPE_ESTALE);
    mpe_close(e);
}

static void
make_one_of_each(mpe_engine *e)
{
    mpe_object *o[13];
    mpe_message m;
    REQUIRE_OK(mpe_lock_create(e, 0, &o[0]));
    REQUIRE_OK(mpe_lock_create(e, 1, &o[1]));
    REQUIRE_OK(mpe_semaphore_create(e, 3, 0, &o[2]));
    REQUIRE_OK(mpe_event_create(e, &o[3]));
    REQUIRE_OK(mpe_condition_create(e, 0, &o[4]));
    REQUIRE_OK(mpe_barrier_create(e, 3, (mpe_bytes){NULL, 0}, &o[5]));
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &o[6]));
    REQUIRE_OK(mpe_queue_create(e, 3, MPE_QUEUE_JOINABLE, &o[7]));
    REQUIRE_OK(mpe_array_create(e, 'i', 1000, 0, &o[8]));
    REQUIRE_OK(mpe_array_create(e, 'i', 100000, 0, &o[9]));
    REQUIRE_OK(mpe_dict_create(e, &o[10]));
    REQUIRE_OK(mpe_list_create(e, &o[11]));
    REQUIRE_OK(mpe_blob_create(e, mpe_test_bytes("never changes"), &o[12]));
    for (int i = 0; i < 20; i++) {
        char key[8] = {(char)('a' + i)};
        static char large[5000];
        mpe_bytes value = {large, i % 2 ? 5000 : 3};
        REQUIRE_OK(mpe_dict_put(e, o[10], mpe_test_bytes(key), value, 0));
        REQUIRE_OK(mpe_list_insert(e, o[11], UINT64_MAX, value, 0));
        REQUIRE_OK(mpe_queue_put(e, o[6], &value, 1, 0));
    }
    REQUIRE_OK(mpe_queue_get(e, o[6], &m));
    mpe_message_free(e, &m);
    for (int i = 0; i < 13; i++)
        mpe_drop(e, o[i]);
}

TEST(making_and_dropping_leaves_memory_as_it_was)
{
    mpe_engine *e = mpe_test_engine(0);
    make_one_of_each(e);
    uint64_t used = mpe_test_used(e), committed = mpe_test_committed(e);
    EXPECT_EQ(used, 0);
    for (int i = 0; i < 300; i++)
        make_one_of_each(e);
    EXPECT_EQ(mpe_test_used(e), used);
    EXPECT_EQ(mpe_test_committed(e), committed);
    EXPECT_EQ(mpe_test_objects(e), 0);
    mpe_test_check(e);
    mpe_close(e);
}

TEST(making_fails_whole_when_memory_runs_out)
{
    mpe_engine *e = mpe_test_engine(2u << 20);
    mpe_object *o;
    uint64_t used = mpe_test_used(e);
    EXPECT_EQ(mpe_array_create(e, 'd', 1u << 20, 0, &o), MPE_EARENA);
    EXPECT_EQ(mpe_array_create(e, 'd', UINT64_MAX, 0, &o), MPE_EARENA);
    EXPECT_EQ(mpe_test_used(e), used);
    EXPECT_EQ(mpe_test_objects(e), 0);
    int count = 0, rc;
    while ((rc = mpe_dict_create(e, &o)) == MPE_OK)
        count++;
    EXPECT_EQ(rc, MPE_EARENA);
    EXPECT_EQ(mpe_test_objects(e), count);
    mpe_test_check(e);
    mpe_close(e);
}

TEST(makes_a_hundred_thousand_objects_in_linear_time)
{
    mpe_engine *e = mpe_test_engine(0);
    for (int i = 0; i < 100000; i++)
        mpe_test_event(e);
    EXPECT_EQ(mpe_test_objects(e), 100000);
    for (uint32_t i = 0, count = 0; count < 100000; count++) {
        mpe_object_info info;
        REQUIRE_OK(mpe_object_next(e, &i, &info));
        mpe_object *o;
        REQUIRE_OK(mpe_hold(e, info.handle, &o));
        mpe_drop(e, o);
        mpe_drop(e, o);
    }
    EXPECT_EQ(mpe_test_objects(e), 0);
    mpe_close(e);
}

struct shared {
    mpe_handle h;
    struct mpe_test_gate ready, go;
};

static void
hold_and_wait(mpe_engine *e, void *arg)
{
    struct shared *s = arg;
    mpe_object *o;
    REQUIRE_OK(mpe_hold(e, s->h, &o));
    mpe_test_gate_open(s->ready);
    mpe_test_gate_wait(s->go);
}

TEST(the_holds_of_the_dead_vanish)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = mpe_test_event(e);
    struct shared s = {mpe_handle_of(e, o), mpe_test_gate_new(), mpe_test_gate_new()};
    mpe_process *p = mpe_test_start(e, hold_and_wait, &s);
    mpe_test_gate_wait(s.ready);
    mpe_drop(e, o);
    EXPECT_EQ(mpe_test_objects(e), 1);
    mpe_test_kill(p);
    EXPECT_EQ(mpe_reap_dead(e), 1);
    mpe_test_sweep(e);
    EXPECT_EQ(mpe_test_objects(e), 0);
    EXPECT_EQ(mpe_test_join(e, p), -9);
    mpe_close(e);
}

static void
make_and_send(mpe_engine *e, void *arg)
{
    mpe_object *queue, *o = mpe_test_event(e);
    mpe_buf b;
    mpe_bytes bytes = mpe_test_handle_bytes(&b, mpe_handle_of(e, o));
    REQUIRE_OK(mpe_hold(e, *(mpe_handle *)arg, &queue));
    mpe_event_set(e, o);
    REQUIRE_OK(mpe_queue_put(e, queue, &bytes, 1, 1));
    mpe_leave(e);
}

TEST(an_object_sent_by_a_process_that_has_left_lives)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *queue, *o;
    mpe_message m;
    mpe_wire_reader r;
    mpe_wire_item item;
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &queue));
    mpe_handle h = mpe_handle_of(e, queue);
    EXPECT_EQ(mpe_test_join(e, mpe_test_start(e, make_and_send, &h)), 0);
    mpe_test_sweep(e);
    REQUIRE_OK(mpe_queue_get(e, queue, &m));
    mpe_test_sweep(e);
    mpe_wire_open(&r, m.data, m.size);
    REQUIRE(mpe_wire_read(&r, &item) == 1);
    REQUIRE_OK(mpe_hold(e, item.u.h, &o));
    mpe_message_free(e, &m);
    EXPECT(mpe_event_is_set(e, o));
    mpe_drop(e, o);
    mpe_test_sweep(e);
    EXPECT_EQ(mpe_test_objects(e), 1);
    mpe_close(e);
}

/* Takes hold of an object being destroyed, and makes and drops, as fast as it can. */
static void
hold_and_drop(mpe_engine *e, void *arg)
{
    mpe_handle *current = mpe_array_data(e, arg, &(char){0}, &(uint64_t){0});
    for (int i = 0; i < 20000; i++) {
        mpe_object *o;
        mpe_handle h = __atomic_load_n(current, __ATOMIC_ACQUIRE);
        if (mpe_hold(e, h, &o) == MPE_OK) {
            EXPECT_EQ(mpe_kind_of(o), MPE_KIND_SEMAPHORE);
            EXPECT_EQ(mpe_semaphore_value(e, o), 7);
            mpe_drop(e, o);
        }
        REQUIRE_OK(mpe_semaphore_create(e, 7, 0, &o));
        __atomic_store_n(current, mpe_handle_of(e, o), __ATOMIC_RELEASE);
        mpe_drop(e, o);
    }
}

TEST_LIMIT(holding_and_destroying_at_once_end_in_one_of_the_two, 30)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *array;
    mpe_process *p[3];
    REQUIRE_OK(mpe_array_create(e, 'Q', 1, 0, &array));
    for (int i = 0; i < 3; i++)
        p[i] = mpe_test_start(e, hold_and_drop, array);
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(mpe_test_join(e, p[i]), 0);
    mpe_reap_dead(e);
    mpe_test_sweep(e);
    EXPECT_EQ(mpe_test_objects(e), 1);
    mpe_test_check(e);
    mpe_close(e);
}

static void
churn_and_die(mpe_engine *e, void *arg)
{
    mpe_test_gate_open(*(struct mpe_test_gate *)arg);
    for (;;)
        make_one_of_each(e);
}

TEST_LIMIT(a_death_while_making_and_destroying_leaves_nothing, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    struct mpe_test_gate ready = mpe_test_gate_new();
    for (int i = 0; i < 150; i++) {
        mpe_process *p = mpe_test_start(e, churn_and_die, &ready);
        mpe_test_gate_wait(ready);
        for (int k = 0; k < i % 16; k++)
            make_one_of_each(e);
        mpe_test_kill(p);
        mpe_test_join(e, p);
        mpe_reap_dead(e);
        mpe_test_sweep(e);
        mpe_test_check(e);
        if (!EXPECT_EQ(mpe_test_objects(e), 0))
            break;
    }
    mpe_close(e);
}

TEST(a_doubt_about_an_object_ends_with_the_death_of_its_owner)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = mpe_test_event(e);
    /* as if slot 200 had died in the middle of finding out */
    mpe__store32(&o->state, MPE__OBJECT_BY(MPE__OBJECT_DOUBTED, 200));
    mpe__free_making(e, mpe__index_of(e, o), 100);
    EXPECT_EQ(o->state, MPE__OBJECT_BY(MPE__OBJECT_DOUBTED, 200));
    mpe__free_making(e, mpe__index_of(e, o), 200);
    EXPECT_EQ(o->state, MPE__OBJECT_LIVE);
    mpe_close(e);
}

TEST(an_object_that_another_makes_is_not_freed_with_the_dead)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o, *out;
    REQUIRE_OK(mpe__object_begin(e, MPE_KIND_EVENT, 100, &o));
    mpe__free_making(e, mpe__index_of(e, o), mpe_self_slot(e) + 1);
    REQUIRE_OK(mpe__object_finish(e, o, &out));
    EXPECT_OK(mpe_hold(e, mpe_handle_of(e, o), &out));
    mpe_test_check(e);
    mpe_close(e);
}

TEST(reports_its_kind_and_its_holders)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o;
    mpe_object_info info;
    uint32_t index = 0;
    REQUIRE_OK(mpe_array_create(e, 'd', 100, 0, &o));
    REQUIRE_OK(mpe_object_next(e, &index, &info));
    EXPECT_EQ(info.handle, mpe_handle_of(e, o));
    EXPECT_EQ(info.kind, MPE_KIND_ARRAY);
    EXPECT_EQ(info.holders, 1);
    EXPECT_EQ(info.waiters, 0);
    EXPECT_EQ(info.depth, 100);
    EXPECT(info.bytes >= 816);
    EXPECT_EQ(mpe_object_next(e, &index, &info), MPE_ENOENT);
    mpe_close(e);
}
