/* SPDX-License-Identifier: MIT */
/* Every call on a queue, killed at every point: an item is there whole or not at all, once; what the
 * dead had taken counts as done; nobody who waits sleeps on; no block is lost. */
#include "shm/object.h"
#include "shm/queue.h"
#include "testing/deaths.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

#define SMALL 20
#define MIDDLE 1300 /* three fill a first segment */
#define LARGE 5000  /* lies in a block of its own */

static uint64_t used; /* when it was made */
static uint8_t bytes[LARGE];

static void
put(mpe_engine *e, int first, size_t size)
{
    mpe_bytes part = {bytes, size};
    bytes[0] = (uint8_t)first;
    mpe_queue_put(e, mpe_test_it, &part, 1, 0);
}

/* A queue with items of a size, numbered from 0, instead of the last one. */
static void *
queue_of(mpe_engine *e, uint32_t bound, unsigned flags, int count, size_t size)
{
    mpe_test_forget(e);
    REQUIRE_OK(mpe_queue_create(e, bound, flags, &mpe_test_it));
    used = mpe_test_used(e);
    for (int i = 0; i < count; i++)
        put(e, i, size);
    return mpe_test_it;
}

/* All that is in the queue: numbered from first, of a size. Their number. */
static int
drain(mpe_engine *e, int first, size_t size)
{
    mpe_message m;
    int count = 0, reported = (int)mpe_queue_size(e, mpe_test_it);
    for (; mpe_queue_get(e, mpe_test_it, &m) == MPE_OK; count++) {
        EXPECT_EQ(m.size, size);
        EXPECT_EQ(m.data[0], first + count);
        mpe_message_free(e, &m);
    }
    EXPECT_EQ(count, reported);
    EXPECT_EQ(mpe_queue_size(e, mpe_test_it), 0);
    return count;
}

/* It takes and gives another item, and has no more blocks than when it was made, but for its
 * largest segment. */
static void
check_works(mpe_engine *e, uint64_t more)
{
    mpe_message m;
    put(e, 77, SMALL);
    EXPECT_OK(mpe_queue_get(e, mpe_test_it, &m));
    EXPECT_EQ(m.data[0], 77);
    mpe_message_free(e, &m);
    mpe_queue_task_done(e, mpe_test_it);
    mpe_test_check(e);
    EXPECT(mpe_test_used(e) <= used + more);
}

/* ---- put ---- */

static void *
empty_queue(mpe_engine *e)
{
    return queue_of(e, 0, 0, 0, 0);
}

static void *
full_segment(mpe_engine *e)
{
    return queue_of(e, 0, 0, 3, MIDDLE);
}

static void
put_small(mpe_engine *e, void *arg)
{
    (void)arg;
    put(e, 0, SMALL);
}

static void
put_large(mpe_engine *e, void *arg)
{
    (void)arg;
    put(e, 0, LARGE);
}

static void
put_fourth(mpe_engine *e, void *arg)
{
    (void)arg;
    put(e, 3, MIDDLE);
}

static void
check_put(mpe_engine *e, bool has_ended, int before, size_t size, uint64_t more)
{
    int count = drain(e, 0, size);
    EXPECT(count == before + 1 || (!has_ended && count == before));
    mpe_test_reap(e);
    check_works(e, more);
}

/* Used before the dead was reaped by hand: whoever needs its locks repairs. */
static void
check_put_small(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg;
    put(e, 1, SMALL);
    mpe_test_reap(e);
    int count = (int)mpe_queue_size(e, mpe_test_it);
    EXPECT(count == 2 || (!has_ended && count == 1));
    EXPECT_EQ(drain(e, 2 - count, SMALL), count);
    check_works(e, 0);
}

static void
check_put_large(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg;
    mpe_test_reap(e);
    check_put(e, has_ended, 0, LARGE, 0);
}

static void
check_put_fourth(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg;
    mpe_test_reap(e);
    check_put(e, has_ended, 3, MIDDLE, 4096);
}

TEST_LIMIT(putting_a_small_message, 60)
{
    mpe_test_deaths_everywhere(
        (struct mpe_test_deaths){empty_queue, NULL, put_small, check_put_small});
}

TEST_LIMIT(putting_a_large_message, 60)
{
    mpe_test_deaths_everywhere(
        (struct mpe_test_deaths){empty_queue, NULL, put_large, check_put_large});
}

TEST_LIMIT(putting_into_a_new_segment, 60)
{
    mpe_test_deaths_everywhere(
        (struct mpe_test_deaths){full_segment, NULL, put_fourth, check_put_fourth});
}

TEST_LIMIT(putting_and_opening_memory, 60)
{
    mpe_test_deaths_in_an_empty_heap(
        (struct mpe_test_deaths){empty_queue, NULL, put_large, check_put_large});
    mpe_test_deaths_in_an_empty_heap(
        (struct mpe_test_deaths){full_segment, NULL, put_fourth, check_put_fourth});
}

TEST_LIMIT(putting_while_reapers_die, 60)
{
    mpe_test_deaths_of_reapers(
        (struct mpe_test_deaths){empty_queue, NULL, put_large, check_put_large});
    mpe_test_deaths_of_reapers(
        (struct mpe_test_deaths){full_segment, NULL, put_fourth, check_put_fourth});
}

/* The ring is left and begun again at its start. */
static void *
ring_near_its_end(mpe_engine *e)
{
    mpe_message m;
    queue_of(e, 0, 0, 2, MIDDLE);
    for (int i = 0; i < 2; i++) {
        EXPECT_OK(mpe_queue_get(e, mpe_test_it, &m));
        mpe_message_free(e, &m);
    }
    put(e, 0, SMALL);
    return mpe_test_it;
}

static void
put_around(mpe_engine *e, void *arg)
{
    (void)arg;
    put(e, 1, MIDDLE);
}

static void
check_around(mpe_engine *e, void *arg, bool has_ended)
{
    mpe_message m;
    (void)arg;
    mpe_test_reap(e);
    EXPECT_OK(mpe_queue_get(e, mpe_test_it, &m));
    EXPECT_EQ(m.size, SMALL);
    mpe_message_free(e, &m);
    int count = drain(e, 1, MIDDLE);
    EXPECT(count == 1 || (!has_ended && count == 0));
    check_works(e, 0);
}

TEST_LIMIT(putting_where_the_ring_begins_again, 60)
{
    mpe_test_deaths_everywhere(
        (struct mpe_test_deaths){ring_near_its_end, NULL, put_around, check_around});
}

/* ---- get ---- */

static mpe_message taken;

static void *
two_large(mpe_engine *e)
{
    return queue_of(e, 0, MPE_QUEUE_JOINABLE, 2, LARGE);
}

static void *
two_small(mpe_engine *e)
{
    return queue_of(e, 2, MPE_QUEUE_JOINABLE, 2, SMALL);
}

static void *
two_segments(mpe_engine *e)
{
    return queue_of(e, 0, MPE_QUEUE_JOINABLE, 4, MIDDLE);
}

static void
get_one(mpe_engine *e, void *arg)
{
    mpe_queue_get(e, arg, &taken);
}

static void
get_and_free_all(mpe_engine *e, void *arg)
{
    while (mpe_queue_get(e, arg, &taken) == MPE_OK) {
        mpe_message_free(e, &taken);
        mpe_queue_task_done(e, arg);
    }
}

/* Each item still there is to be done, and no other. */
static void
check_done(mpe_engine *e, int count)
{
    for (int i = 0; i < count; i++) {
        EXPECT_EQ(mpe_queue_join(e, mpe_test_it), MPE_EAGAIN);
        EXPECT_OK(mpe_queue_task_done(e, mpe_test_it));
    }
    EXPECT_OK(mpe_queue_join(e, mpe_test_it));
    EXPECT_EQ(mpe_queue_task_done(e, mpe_test_it), MPE_EOVER);
}

static void
check_get(mpe_engine *e, int most, int least, size_t size)
{
    mpe_test_reap(e);
    int count = (int)mpe_queue_size(e, mpe_test_it);
    EXPECT(count <= most && count >= least);
    EXPECT_EQ(drain(e, most - count, size), count);
    check_done(e, count);
    check_works(e, 0);
}

static void
check_get_large(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg, (void)has_ended;
    check_get(e, 2, 1, LARGE);
}

static void
check_get_small(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg, (void)has_ended;
    check_get(e, 2, 1, SMALL);
}

static void
check_get_all(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg, (void)has_ended;
    uint64_t before = used;
    used += 4096; /* the second segment is twice as large as the first */
    check_get(e, 4, 0, MIDDLE);
    used = before;
}

TEST_LIMIT(getting_a_small_message, 60)
{
    mpe_test_deaths_everywhere((struct mpe_test_deaths){two_small, NULL, get_one, check_get_small});
}

TEST_LIMIT(getting_a_large_message, 60)
{
    mpe_test_deaths_everywhere((struct mpe_test_deaths){two_large, NULL, get_one, check_get_large});
}

TEST_LIMIT(getting_all_messages_of_two_segments, 60)
{
    mpe_test_deaths_everywhere(
        (struct mpe_test_deaths){two_segments, NULL, get_and_free_all, check_get_all});
}

TEST_LIMIT(getting_while_reapers_die, 60)
{
    mpe_test_deaths_of_reapers((struct mpe_test_deaths){two_large, NULL, get_one, check_get_large});
    mpe_test_deaths_of_reapers((struct mpe_test_deaths){two_small, NULL, get_one, check_get_small});
}

/* ---- messages with objects in them ---- */

static mpe_object *inner;

static void *
queue_and_object(mpe_engine *e)
{
    queue_of(e, 0, 0, 0, 0);
    REQUIRE_OK(mpe_event_create(e, &inner));
    return mpe_test_it;
}

static void
put_object(mpe_engine *e, void *arg)
{
    mpe_buf b;
    mpe_buf_init(&b);
    mpe_wire_put_handle(&b, mpe_handle_of(e, inner));
    mpe_queue_put(e, arg, &(mpe_bytes){b.data, b.len}, 1, 1);
    mpe_buf_free(&b);
}

/* Only the queue knows the object, when it has it. */
static void
check_put_object(mpe_engine *e, void *arg, bool has_ended)
{
    mpe_object *again;
    mpe_handle h = mpe_handle_of(e, inner);
    (void)arg;
    mpe_test_reap(e);
    mpe_drop(e, inner);
    mpe_test_sweep(e);
    int count = (int)mpe_queue_size(e, mpe_test_it);
    EXPECT(count == 1 || (!has_ended && count == 0));
    EXPECT_EQ(mpe_hold(e, h, &again), count ? MPE_OK : MPE_ESTALE);
    mpe_message m;
    if (count) {
        mpe_drop(e, again);
        EXPECT_OK(mpe_queue_get(e, mpe_test_it, &m));
        mpe_message_free(e, &m);
    }
    mpe_test_sweep(e);
    EXPECT_EQ(mpe_hold(e, h, &again), MPE_ESTALE);
    check_works(e, 0);
}

static void *
queue_with_object(mpe_engine *e)
{
    queue_and_object(e);
    put_object(e, mpe_test_it);
    mpe_drop(e, inner);
    return mpe_test_it;
}

static void
get_object(mpe_engine *e, void *arg)
{
    if (mpe_queue_get(e, arg, &taken) == MPE_OK)
        mpe_message_free(e, &taken);
}

static void
check_get_object(mpe_engine *e, void *arg, bool has_ended)
{
    mpe_object *again;
    mpe_handle h = mpe_handle_of(e, inner);
    (void)arg;
    mpe_test_reap(e);
    mpe_test_sweep(e);
    int count = (int)mpe_queue_size(e, mpe_test_it);
    EXPECT(count == 0 || (!has_ended && count == 1));
    EXPECT_EQ(mpe_hold(e, h, &again), count ? MPE_OK : MPE_ESTALE);
    if (count) {
        mpe_drop(e, again);
        EXPECT_OK(mpe_queue_get(e, mpe_test_it, &taken));
        mpe_message_free(e, &taken);
    }
    mpe_test_sweep(e);
    EXPECT_EQ(mpe_hold(e, h, &again), MPE_ESTALE);
    check_works(e, 0);
}

TEST_LIMIT(putting_a_message_with_an_object, 60)
{
    mpe_test_deaths_everywhere(
        (struct mpe_test_deaths){queue_and_object, NULL, put_object, check_put_object});
}

TEST_LIMIT(getting_a_message_with_an_object, 60)
{
    mpe_test_deaths_everywhere(
        (struct mpe_test_deaths){queue_with_object, NULL, get_object, check_get_object});
}

/* ---- beside somebody who waits ---- */

static void
wait_for_item(mpe_engine *e, void *arg)
{
    mpe_message m;
    int rc = mpe_test_get(e, arg, &m);
    if (rc == MPE_OK)
        mpe_message_free(e, &m);
    EXPECT(rc == MPE_OK || rc == MPE_ECLOSED);
}

static bool
has_been_put(mpe_engine *e, void *arg)
{
    uint32_t put_seq, get_seq;
    mpe_queue_seqs(e, arg, &put_seq, &get_seq);
    return put_seq == 1;
}

static void
check_empty(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg, (void)has_ended;
    EXPECT_EQ(drain(e, 0, 0), 0);
    check_works(e, 0);
}

TEST_LIMIT(a_put_wakes_the_getter_though_the_putter_dies, 60)
{
    mpe_test_deaths_beside_a_waiter((struct mpe_test_wait){
        {empty_queue, NULL, put_small, check_empty}, wait_for_item, has_been_put, put_small});
    mpe_test_deaths_beside_a_waiter((struct mpe_test_wait){
        {empty_queue, NULL, put_large, check_empty}, wait_for_item, has_been_put, put_large});
}

static void *
full_queue(mpe_engine *e)
{
    return queue_of(e, 1, 0, 1, LARGE);
}

static void
wait_for_space(mpe_engine *e, void *arg)
{
    bytes[0] = 1;
    EXPECT_OK(mpe_test_put(e, arg, bytes, SMALL));
}

static bool
has_been_got(mpe_engine *e, void *arg)
{
    uint32_t put_seq, get_seq;
    mpe_queue_seqs(e, arg, &put_seq, &get_seq);
    return get_seq == 1;
}

static void
check_one_small(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg, (void)has_ended;
    EXPECT_EQ(drain(e, 1, SMALL), 1);
    check_works(e, 0);
}

static void
get_and_free(mpe_engine *e, void *arg)
{
    get_object(e, arg);
}

TEST_LIMIT(a_get_wakes_the_putter_though_the_getter_dies, 60)
{
    mpe_test_deaths_beside_a_waiter(
        (struct mpe_test_wait){{full_queue, NULL, get_and_free, check_one_small},
                               wait_for_space,
                               has_been_got,
                               get_and_free});
}

static void
close_queue(mpe_engine *e, void *arg)
{
    mpe_queue_close(e, arg);
}

static bool
is_closed(mpe_engine *e, void *arg)
{
    return mpe_queue_is_closed(e, arg);
}

static void
check_closed(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg, (void)has_ended;
    EXPECT(mpe_queue_is_closed(e, mpe_test_it));
    EXPECT_EQ(mpe_queue_get(e, mpe_test_it, &taken), MPE_ECLOSED);
}

TEST_LIMIT(a_close_wakes_the_getter_though_the_closer_dies, 60)
{
    mpe_test_deaths_beside_a_waiter((struct mpe_test_wait){
        {empty_queue, NULL, close_queue, check_closed}, wait_for_item, is_closed, close_queue});
}

static void *
one_to_be_done(mpe_engine *e)
{
    return queue_of(e, 0, MPE_QUEUE_JOINABLE, 1, SMALL);
}

static int
try_join(mpe_engine *e, mpe_object *queue, void *ud)
{
    (void)ud;
    return mpe_queue_join(e, queue);
}

static void
wait_for_join(mpe_engine *e, void *arg)
{
    EXPECT_OK(mpe_await(e, arg, MPE_EVENT_DONE, MPE_FOREVER, try_join, NULL));
}

static bool
is_all_done(mpe_engine *e, void *arg)
{
    return mpe_queue_join(e, arg) == MPE_OK;
}

static void
check_joined(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg, (void)has_ended;
    EXPECT_EQ(mpe_queue_task_done(e, mpe_test_it), MPE_EOVER);
    EXPECT_OK(mpe_queue_join(e, mpe_test_it));
    check_works(e, 0);
}

TEST_LIMIT(join_ends_though_the_one_who_took_the_last_task_dies, 60)
{
    mpe_test_deaths_beside_a_waiter(
        (struct mpe_test_wait){{one_to_be_done, NULL, get_and_free_all, check_joined},
                               wait_for_join,
                               is_all_done,
                               get_and_free_all});
}
