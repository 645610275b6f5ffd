/* SPDX-License-Identifier: MIT */
/* Every call that changes an object, killed at many of its instructions: afterwards it has happened or
 * it has not, nothing is locked, no block is lost, and the object works. */
#include "shm/arena.h"
#include "shm/object.h"
#include "sync/death.h"
#include "testing/deaths.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LAST UINT64_MAX

static mpe_object *o; /* what the case is about */
static uint64_t used; /* before the call; in blocks */
static uint8_t large[5000];
static bool is_first = true;

struct sum {
    mpe_engine *e;
    uint64_t bytes;
};

static void
add_bytes(uint64_t off, uint32_t owner, void *ud)
{
    struct sum *s = ud;
    (void)owner;
    s->bytes += mpe__block_bytes(s->e, off);
}

/* Bytes in blocks, whoever owns them: the processes' own count may miss what the dead did last. */
static uint64_t
bytes_in_blocks(mpe_engine *e)
{
    struct sum s = {e, 0};
    mpe__each_block(e, add_bytes, &s);
    return s.bytes;
}

/* Frees what the last round made. */
static void
begin(mpe_engine *e)
{
    if (!is_first)
        mpe_drop(e, o);
    is_first = false;
    EXPECT_EQ(bytes_in_blocks(e), 0);
}

static void *
ready(mpe_engine *e)
{
    used = bytes_in_blocks(e);
    return o;
}

static void
reap(mpe_engine *e)
{
    EXPECT_EQ(mpe_reap_dead(e), 1);
    mpe_test_check(e);
}

/* ---- queues ---- */

static void *
queue_with_items(mpe_engine *e, unsigned flags, int count, size_t size)
{
    begin(e);
    REQUIRE_OK(mpe_queue_create(e, 0, flags, &o));
    for (int i = 0; i < count; i++) {
        large[0] = (uint8_t)i;
        REQUIRE_OK(mpe_test_put(e, o, large, size));
    }
    return ready(e);
}

/* All that is in the queue, in order from first, of a size; their number. */
static int
drain(mpe_engine *e, int first, size_t size)
{
    mpe_message m;
    int count = 0;
    for (; mpe_queue_get(e, o, &m) == MPE_OK; count++) {
        EXPECT_EQ(m.size, size);
        EXPECT_EQ(m.data[0], first + count);
        mpe_message_free(e, &m);
    }
    return count;
}

static void *
empty_queue(mpe_engine *e)
{
    return queue_with_items(e, 0, 0, 0);
}

static void
put_small(mpe_engine *e, void *arg)
{
    mpe_bytes part = {large, 20};
    large[0] = 0;
    mpe_queue_put(e, arg, &part, 1, 0);
}

static void
check_put_small(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg;
    reap(e);
    int count = (int)mpe_queue_size(e, o);
    EXPECT(has_ended ? count == 1 : count <= 1);
    EXPECT_EQ(drain(e, 0, 20), count);
    EXPECT_EQ(bytes_in_blocks(e), used);
}

TEST_LIMIT(putting_a_small_message, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_test_kill_everywhere(e, empty_queue, put_small, check_put_small);
    mpe_close(e);
}

static void
put_large(mpe_engine *e, void *arg)
{
    mpe_bytes part = {large, sizeof large};
    large[0] = 0;
    mpe_queue_put(e, arg, &part, 1, 0);
}

static void
check_put_large(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg;
    reap(e);
    int count = (int)mpe_queue_size(e, o);
    EXPECT(has_ended ? count == 1 : count <= 1);
    EXPECT_EQ(drain(e, 0, sizeof large), count);
    EXPECT_EQ(bytes_in_blocks(e), used);
}

TEST_LIMIT(putting_a_large_message, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_test_kill_everywhere(e, empty_queue, put_large, check_put_large);
    mpe_close(e);
}

static void *
queue_with_a_full_segment(mpe_engine *e)
{
    return queue_with_items(e, 0, 3, 1300);
}

static void
put_fourth(mpe_engine *e, void *arg)
{
    mpe_bytes part = {large, 1300};
    large[0] = 3;
    mpe_queue_put(e, arg, &part, 1, 0);
}

static void
check_put_fourth(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg;
    reap(e);
    int count = (int)mpe_queue_size(e, o);
    EXPECT(has_ended ? count == 4 : count == 3 || count == 4);
    EXPECT_EQ(drain(e, 0, 1300), count);
    EXPECT(bytes_in_blocks(e) <= used + 8192);
}

TEST_LIMIT(putting_into_a_new_segment, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_test_kill_everywhere(e, queue_with_a_full_segment, put_fourth, check_put_fourth);
    mpe_close(e);
}

static void *
queue_with_two_large(mpe_engine *e)
{
    return queue_with_items(e, MPE_QUEUE_JOINABLE, 2, sizeof large);
}

static mpe_message taken;

static void
get_one(mpe_engine *e, void *arg)
{
    mpe_queue_get(e, arg, &taken);
}

/* What the dead took counts as done. */
static void
check_joinable(mpe_engine *e, size_t size, int most)
{
    reap(e);
    int count = (int)mpe_queue_size(e, o);
    EXPECT(count == most || count == most - 1);
    EXPECT_EQ(drain(e, most - count, size), count);
    for (int i = 0; i < count; i++) {
        EXPECT_EQ(mpe_queue_join(e, o), MPE_EAGAIN);
        EXPECT_OK(mpe_queue_task_done(e, o));
    }
    EXPECT_OK(mpe_queue_join(e, o));
    EXPECT_EQ(mpe_queue_task_done(e, o), MPE_EOVER);
}

static void
check_get_large(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg, (void)has_ended;
    check_joinable(e, sizeof large, 2);
    EXPECT_EQ(bytes_in_blocks(e), used - 2 * 5120);
}

TEST_LIMIT(getting_a_large_message, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_test_kill_everywhere(e, queue_with_two_large, get_one, check_get_large);
    mpe_close(e);
}

static void
get_and_free_all(mpe_engine *e, void *arg)
{
    while (mpe_queue_get(e, arg, &taken) == MPE_OK) {
        mpe_message_free(e, &taken);
        mpe_queue_task_done(e, arg);
    }
}

static void *
queue_of_two_segments(mpe_engine *e)
{
    return queue_with_items(e, MPE_QUEUE_JOINABLE, 4, 1300);
}

static void
check_get_all(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg, (void)has_ended;
    reap(e);
    int count = (int)mpe_queue_size(e, o);
    EXPECT_EQ(drain(e, 4 - count, 1300), count);
    for (int i = 0; i < count; i++) {
        EXPECT_EQ(mpe_queue_join(e, o), MPE_EAGAIN);
        EXPECT_OK(mpe_queue_task_done(e, o));
    }
    EXPECT_OK(mpe_queue_join(e, o));
    EXPECT_EQ(mpe_queue_task_done(e, o), MPE_EOVER);
}

TEST_LIMIT(getting_all_messages_of_two_segments, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_test_kill_everywhere(e, queue_of_two_segments, get_and_free_all, check_get_all);
    mpe_close(e);
}

/* ---- dicts ---- */

static void *
dict_with_keys(mpe_engine *e, int count)
{
    begin(e);
    REQUIRE_OK(mpe_dict_create(e, &o));
    for (int i = 0; i < count; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        REQUIRE_OK(mpe_dict_put(e, o, mpe_test_bytes(key), mpe_test_bytes("old"), 0));
    }
    return ready(e);
}

static void *
small_dict(mpe_engine *e)
{
    return dict_with_keys(e, 3);
}

static void
check_dict(mpe_engine *e, void *arg, bool has_ended)
{
    mpe_buf b, value;
    uint64_t count;
    (void)arg, (void)has_ended;
    reap(e);
    mpe_buf_init(&b);
    mpe_buf_init(&value);
    EXPECT_OK(mpe_dict_snapshot(e, o, &b, &count));
    EXPECT_EQ(mpe_dict_count(e, o), count);
    for (int i = 0; i < 2; i++) { /* 0 and 1 are changed by no case but clearing */
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        value.len = 0;
        if (mpe_dict_get(e, o, mpe_test_bytes(key), &value, NULL) == MPE_OK)
            EXPECT(value.len == 3 && memcmp(value.data, "old", 3) == 0);
    }
    mpe_bytes key = mpe_test_bytes("2");
    EXPECT_OK(mpe_dict_put(e, o, key, mpe_test_bytes("afterwards"), 0));
    EXPECT_OK(mpe_dict_remove(e, o, key, NULL));
    while (mpe_dict_pop_any(e, o, &value, &value) == MPE_OK)
        ;
    EXPECT_EQ(mpe_dict_count(e, o), 0);
    mpe_buf_free(&b);
    mpe_buf_free(&value);
}

static void
put_new_key(mpe_engine *e, void *arg)
{
    mpe_dict_put(e, arg, mpe_test_bytes("new"), mpe_test_bytes("value"), 0);
}

TEST_LIMIT(putting_a_new_key_into_a_dict, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_test_kill_everywhere(e, small_dict, put_new_key, check_dict);
    mpe_close(e);
}

static void
replace_value(mpe_engine *e, void *arg)
{
    mpe_dict_put(e, arg, mpe_test_bytes("2"), (mpe_bytes){large, 3000}, 0);
}

TEST_LIMIT(replacing_a_value_in_a_dict, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_test_kill_everywhere(e, small_dict, replace_value, check_dict);
    mpe_close(e);
}

static void
remove_key(mpe_engine *e, void *arg)
{
    mpe_dict_remove(e, arg, mpe_test_bytes("2"), NULL);
}

TEST_LIMIT(removing_a_key_from_a_dict, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_test_kill_everywhere(e, small_dict, remove_key, check_dict);
    mpe_close(e);
}

static void *
large_dict(mpe_engine *e)
{
    return dict_with_keys(e, 200);
}

/* Some of these let a stripe grow. */
static void
put_many_keys(mpe_engine *e, void *arg)
{
    for (int i = 200; i < 212; i++) {
        char key[4] = {'k', (char)('0' + i / 10 % 10), (char)('0' + i % 10)};
        mpe_dict_put(e, arg, mpe_test_bytes(key), mpe_test_bytes("old"), 0);
    }
}

TEST_LIMIT(growing_a_dict, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_test_kill_everywhere(e, large_dict, put_many_keys, check_dict);
    mpe_close(e);
}

static void *
middle_dict(mpe_engine *e)
{
    return dict_with_keys(e, 30);
}

static void
clear_dict(mpe_engine *e, void *arg)
{
    mpe_dict_clear(e, arg);
}

TEST_LIMIT(clearing_a_dict, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_test_kill_everywhere(e, middle_dict, clear_dict, check_dict);
    mpe_close(e);
}

static void
snapshot_dict(mpe_engine *e, void *arg)
{
    mpe_buf b;
    uint64_t count;
    mpe_buf_init(&b);
    mpe_dict_snapshot(e, arg, &b, &count);
}

TEST_LIMIT(taking_a_snapshot_of_a_dict, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_test_kill_everywhere(e, middle_dict, snapshot_dict, check_dict);
    mpe_close(e);
}

/* ---- lists ---- */

static void *
list_of_eight(mpe_engine *e)
{
    begin(e);
    REQUIRE_OK(mpe_list_create(e, &o));
    for (int i = 0; i < 8; i++)
        REQUIRE_OK(mpe_list_insert(e, o, LAST, (mpe_bytes){large, 100}, 0));
    return ready(e);
}

static void
check_list(mpe_engine *e, void *arg, bool has_ended)
{
    mpe_buf b;
    uint64_t count, version;
    (void)arg, (void)has_ended;
    reap(e);
    mpe_buf_init(&b);
    EXPECT_OK(mpe_list_snapshot(e, o, &b, &count, &version));
    EXPECT(count >= 7 && count <= 9);
    for (size_t at = 0; at < b.len; at += 112)
        EXPECT_EQ(*(const uint32_t *)(b.data + at), 100);
    EXPECT_OK(mpe_list_insert(e, o, 3, (mpe_bytes){large, 100}, 0));
    while (mpe_list_remove(e, o, LAST, NULL) == MPE_OK)
        ;
    mpe_buf_free(&b);
}

static void
append_ninth(mpe_engine *e, void *arg)
{
    mpe_list_insert(e, arg, LAST, (mpe_bytes){large, 100}, 0);
}

static void
insert_first(mpe_engine *e, void *arg)
{
    mpe_list_insert(e, arg, 0, (mpe_bytes){large, 100}, 0);
}

static void
set_third(mpe_engine *e, void *arg)
{
    mpe_list_set(e, arg, 3, (mpe_bytes){large, 100}, 0);
}

static void
remove_first(mpe_engine *e, void *arg)
{
    mpe_list_remove(e, arg, 0, NULL);
}

static void
remove_last(mpe_engine *e, void *arg)
{
    mpe_list_remove(e, arg, LAST, NULL);
}

static void
reverse(mpe_engine *e, void *arg)
{
    static const uint64_t order[] = {7, 6, 5, 4, 3, 2, 1, 0};
    mpe_list_reorder(e, arg, mpe__load64(&((mpe_object *)arg)->word), order, 8);
}

TEST_LIMIT(changing_a_list, 60)
{
    static void (*const changes[])(mpe_engine * e, void *arg) = {
        append_ninth, insert_first, set_third, remove_first, remove_last, reverse};
    mpe_engine *e = mpe_test_engine(0);
    for (int i = 0; i < 6; i++)
        mpe_test_kill_everywhere(e, list_of_eight, changes[i], check_list);
    mpe_close(e);
}

/* ---- synchronisation ---- */

static void *
semaphore_of_two(mpe_engine *e)
{
    begin(e);
    REQUIRE_OK(mpe_semaphore_create(e, 2, 1, &o));
    return ready(e);
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
    (void)arg, (void)has_ended;
    reap(e);
    EXPECT_EQ(mpe_semaphore_value(e, o), 2);
    EXPECT_EQ(mpe_semaphore_release(e, o), MPE_EOVER);
}

TEST_LIMIT(using_a_semaphore, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_test_kill_everywhere(e, semaphore_of_two, acquire_and_release, check_semaphore);
    mpe_close(e);
}

static void *
condition_with_a_wait(mpe_engine *e)
{
    begin(e);
    REQUIRE_OK(mpe_condition_create(e, 0, &o));
    REQUIRE_OK(mpe_condition_enlist(e, o));
    return ready(e);
}

static void
enlist_notify_and_leave(mpe_engine *e, void *arg)
{
    mpe_condition_enlist(e, arg);
    mpe_condition_notify(e, arg, 2);
    mpe_condition_notified(e, arg);
    mpe_condition_enlist(e, arg);
    mpe_condition_leave(e, arg);
}

static void
check_condition(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg;
    reap(e);
    int rc = mpe_condition_notified(e, o);
    EXPECT(rc == MPE_OK || (!has_ended && rc == MPE_EAGAIN));
    mpe_condition_notify(e, o, 1);
    EXPECT_EQ(mpe_condition_notified(e, o), rc == MPE_OK ? MPE_EAGAIN : MPE_OK);
}

TEST_LIMIT(using_a_condition, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_test_kill_everywhere(e, condition_with_a_wait, enlist_notify_and_leave, check_condition);
    mpe_close(e);
}

static void *
lock_and_nothing(mpe_engine *e)
{
    begin(e);
    REQUIRE_OK(mpe_lock_create(e, 1, &o));
    return ready(e);
}

static void
lock_and_unlock(mpe_engine *e, void *arg)
{
    mpe_rlock_acquire(e, arg, 1);
    mpe_rlock_acquire(e, arg, 1);
    mpe_rlock_release(e, arg, 1);
    mpe_rlock_release(e, arg, 1);
}

static void
check_lock(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg;
    reap(e);
    int rc = mpe_lock_acquire(e, o, 1);
    EXPECT(rc == MPE_OK || (!has_ended && rc == MPE_OWNER_DIED));
    EXPECT_OK(mpe_lock_release(e, o));
}

TEST_LIMIT(using_a_lock, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_test_kill_everywhere(e, lock_and_nothing, lock_and_unlock, check_lock);
    mpe_close(e);
}

/* ---- objects and memory ---- */

static uint32_t objects;

static uint32_t
live_objects(mpe_engine *e)
{
    mpe_stats s;
    mpe_stats_get(e, &s);
    return s.objects;
}

static void *
dict_with_handles(mpe_engine *e)
{
    begin(e);
    atomic_store(&e->header->sweep_wanted, 1);
    mpe__sweep_if_wanted(e);
    REQUIRE_OK(mpe_dict_create(e, &o));
    objects = live_objects(e);
    EXPECT_EQ(objects, 1);
    return ready(e);
}

static void
make_and_drop(mpe_engine *e, void *arg)
{
    mpe_object *a, *b;
    mpe_array_create(e, 'd', 100, 0, &a);
    mpe_queue_create(e, 0, 0, &b);
    mpe_drop(e, a);
    mpe_buf buf;
    mpe_buf_init(&buf);
    mpe_wire_put_handle(&buf, mpe_handle_of(e, b));
    mpe_dict_put(e, arg, mpe_test_bytes("k"), (mpe_bytes){buf.data, buf.len}, 1);
    mpe_drop(e, b);
    mpe_dict_remove(e, arg, mpe_test_bytes("k"), NULL);
    mpe_list_create(e, &a);
    mpe_drop(e, a);
}

static void
check_objects(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg, (void)has_ended;
    reap(e);
    mpe_dict_remove(e, o, mpe_test_bytes("k"), NULL);
    atomic_store(&e->header->sweep_wanted, 1);
    mpe__sweep_if_wanted(e);
    EXPECT_EQ(live_objects(e), objects);
    mpe_test_check(e);
}

TEST_LIMIT(making_storing_and_dropping_objects, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_test_kill_everywhere(e, dict_with_handles, make_and_drop, check_objects);
    mpe_close(e);
}

static void *
nothing(mpe_engine *e)
{
    return lock_and_nothing(e);
}

static void
alloc_and_free(mpe_engine *e, void *arg)
{
    uint64_t small, run, huge;
    (void)arg;
    mpe__alloc(e, 700, &small);
    mpe__alloc(e, 200000, &run);
    mpe__alloc(e, 1100000, &huge);
    mpe__free(e, huge);
    mpe__free(e, small);
    mpe__free(e, run);
    mpe__trim(e);
}

static uint64_t committed_at_first;

static void
check_memory(mpe_engine *e, void *arg, bool has_ended)
{
    uint64_t off[40];
    (void)arg, (void)has_ended;
    reap(e);
    EXPECT_EQ(bytes_in_blocks(e), used);
    for (int i = 0; i < 40; i++) {
        REQUIRE_OK(mpe__alloc_zeroed(e, i % 2 ? 65536 : 700, &off[i]));
        const uint8_t *p = mpe__at(e, off[i]);
        for (int k = 0; k < 700; k++)
            EXPECT_EQ(p[k], 0);
        memset(mpe__at(e, off[i]), 0xee, 700);
    }
    for (int i = 0; i < 40; i++)
        mpe__free(e, off[i]);
    mpe__trim(e);
    if (committed_at_first == 0)
        committed_at_first = mpe_test_committed(e);
    EXPECT(mpe_test_committed(e) <= committed_at_first + (8u << 20));
}

TEST_LIMIT(allocating_and_freeing, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_test_kill_everywhere(e, nothing, alloc_and_free, check_memory);
    mpe_close(e);
}

/* ---- a reaper that dies ---- */

static void
reap_all(mpe_engine *e, void *arg)
{
    (void)arg;
    mpe_reap_dead(e);
}

/* Kills a consumer at each point and the reaper of it at each of its own. */
TEST_LIMIT(reaping_killed_anywhere_is_done_by_the_next, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    bool has_ended = false;
    for (long first = 1; !has_ended; first = mpe_test_next_point(first)) {
        bool is_reaped = false;
        for (long second = 1; !is_reaped; second = mpe_test_next_point(second)) {
            void *arg = queue_with_two_large(e);
            has_ended = mpe_test_kill_at(e, NULL, get_one, arg, first);
            is_reaped = mpe_test_kill_at(e, NULL, reap_all, arg, second);
            while (mpe_reap_dead(e))
                ;
            atomic_store(&e->header->sweep_wanted, 0);
            mpe_test_check(e);
            int count = (int)mpe_queue_size(e, o);
            EXPECT_EQ(drain(e, 2 - count, sizeof large), count);
            for (int i = 0; i < count; i++)
                EXPECT_OK(mpe_queue_task_done(e, o));
            EXPECT_OK(mpe_queue_join(e, o));
            EXPECT_EQ(bytes_in_blocks(e), used - 2 * 5120);
        }
    }
    mpe_close(e);
}
