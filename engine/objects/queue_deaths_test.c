/* SPDX-License-Identifier: MIT */
/* Calls on a queue, killed at every point: an item is there whole or not at all, once; what the
 * dead had taken counts as done; no block is lost. Waiters are in queue_wait_deaths_test.c. */
#include "core/object.h"
#include "testing/deaths.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"
#include "testing/queues.h"

/* ---- put ---- */

static void *
full_segment(mpe_engine *e)
{
    return mpe_test_queue_of(e, 0, 0, 3, MPE_TEST_MIDDLE);
}

static void
put_fourth(mpe_engine *e, void *arg)
{
    (void)arg;
    mpe_test_put_item(e, 3, MPE_TEST_MIDDLE);
}

static void
check_put(mpe_engine *e, bool has_ended, int before, size_t size, uint64_t more)
{
    int count = mpe_test_drain(e, 0, size);
    EXPECT(count == before + 1 || (!has_ended && count == before));
    mpe_test_reap(e);
    mpe_test_check_queue(e, more);
}

/* Used before the dead process is reaped: a process that needs its locks repairs. */
static void
check_put_small(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg;
    mpe_test_put_item(e, 1, MPE_TEST_SMALL);
    mpe_test_reap(e);
    int count = (int)mpe_queue_size(e, mpe_test_it);
    EXPECT(count == 2 || (!has_ended && count == 1));
    EXPECT_EQ(mpe_test_drain(e, 2 - count, MPE_TEST_SMALL), count);
    mpe_test_check_queue(e, 0);
}

static void
check_put_large(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg;
    mpe_test_reap(e);
    check_put(e, has_ended, 0, MPE_TEST_LARGE, 0);
}

static void
check_put_fourth(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg;
    mpe_test_reap(e);
    check_put(e, has_ended, 3, MPE_TEST_MIDDLE, 4096);
}

TEST_LIMIT(putting_a_small_message, 60)
{
    mpe_test_deaths_everywhere(
        (struct mpe_test_deaths){mpe_test_empty_queue, NULL, mpe_test_put_small, check_put_small});
}

TEST_LIMIT(putting_a_large_message, 60)
{
    mpe_test_deaths_everywhere(
        (struct mpe_test_deaths){mpe_test_empty_queue, NULL, mpe_test_put_large, check_put_large});
}

TEST_LIMIT(putting_into_a_new_segment, 60)
{
    mpe_test_deaths_everywhere(
        (struct mpe_test_deaths){full_segment, NULL, put_fourth, check_put_fourth});
}

TEST_LIMIT(putting_and_opening_memory, 60)
{
    mpe_test_deaths_in_an_empty_heap(
        (struct mpe_test_deaths){mpe_test_empty_queue, NULL, mpe_test_put_large, check_put_large});
    mpe_test_deaths_in_an_empty_heap(
        (struct mpe_test_deaths){full_segment, NULL, put_fourth, check_put_fourth});
}

TEST_LIMIT(putting_while_reapers_die, 60)
{
    mpe_test_deaths_of_reapers(
        (struct mpe_test_deaths){mpe_test_empty_queue, NULL, mpe_test_put_large, check_put_large});
    mpe_test_deaths_of_reapers(
        (struct mpe_test_deaths){full_segment, NULL, put_fourth, check_put_fourth});
}

/* The ring is left and begun again at its start. */
static void *
ring_near_its_end(mpe_engine *e)
{
    mpe_message m;
    mpe_test_queue_of(e, 0, 0, 2, MPE_TEST_MIDDLE);
    for (int i = 0; i < 2; i++) {
        EXPECT_OK(mpe_queue_get(e, mpe_test_it, &m));
        mpe_message_free(e, &m);
    }
    mpe_test_put_item(e, 0, MPE_TEST_SMALL);
    return mpe_test_it;
}

static void
put_around(mpe_engine *e, void *arg)
{
    (void)arg;
    mpe_test_put_item(e, 1, MPE_TEST_MIDDLE);
}

static void
check_around(mpe_engine *e, void *arg, bool has_ended)
{
    mpe_message m;
    (void)arg;
    mpe_test_reap(e);
    EXPECT_OK(mpe_queue_get(e, mpe_test_it, &m));
    EXPECT_EQ(m.size, MPE_TEST_SMALL);
    mpe_message_free(e, &m);
    int count = mpe_test_drain(e, 1, MPE_TEST_MIDDLE);
    EXPECT(count == 1 || (!has_ended && count == 0));
    mpe_test_check_queue(e, 0);
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
    return mpe_test_queue_of(e, 0, MPE_QUEUE_JOINABLE, 2, MPE_TEST_LARGE);
}

static void *
two_small(mpe_engine *e)
{
    return mpe_test_queue_of(e, 2, MPE_QUEUE_JOINABLE, 2, MPE_TEST_SMALL);
}

static void *
two_segments(mpe_engine *e)
{
    return mpe_test_queue_of(e, 0, MPE_QUEUE_JOINABLE, 4, MPE_TEST_MIDDLE);
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
check_get(mpe_engine *e, int most, int least, size_t size, uint64_t more)
{
    mpe_test_reap(e);
    int count = (int)mpe_queue_size(e, mpe_test_it);
    EXPECT(count <= most && count >= least);
    EXPECT_EQ(mpe_test_drain(e, most - count, size), count);
    check_done(e, count);
    mpe_test_check_queue(e, more);
}

static void
check_get_large(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg, (void)has_ended;
    check_get(e, 2, 1, MPE_TEST_LARGE, 0);
}

static void
check_get_small(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg, (void)has_ended;
    check_get(e, 2, 1, MPE_TEST_SMALL, 0);
}

static void
check_get_all(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg, (void)has_ended;
    check_get(e, 4, 0, MPE_TEST_MIDDLE,
              4096); /* the second segment is twice as large as the first */
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

/* A lease of the caller's, in memory that others read, says what was taken. */
static mpe_object *leases;

static mpe__a64 *
lease(mpe_engine *e)
{
    char type;
    uint64_t length;
    return mpe_array_data(e, leases, &type, &length);
}

static void *
two_and_a_lease(mpe_engine *e)
{
    if (leases)
        mpe_drop(e, leases);
    two_small(e);
    REQUIRE_OK(mpe_array_create(e, 'q', 1, 0, &leases));
    return mpe_test_it;
}

static void
get_leased(mpe_engine *e, void *arg)
{
    mpe_queue_get_leased(e, arg, (uint64_t *)lease(e), &taken);
}

static void
check_lease(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg, (void)has_ended;
    mpe_test_reap(e);
    if (mpe_queue_size(e, mpe_test_it) < 2)
        EXPECT_EQ(mpe__load64(lease(e)), 1); /* the number of the first, and 1 */
    mpe_drop(e, leases);
    leases = NULL;
    check_get(e, 2, 1, MPE_TEST_SMALL, 0);
}

TEST_LIMIT(getting_with_a_lease, 60)
{
    mpe_test_deaths_everywhere(
        (struct mpe_test_deaths){two_and_a_lease, NULL, get_leased, check_lease});
}

/* Done by a process that has taken nothing, before any has. */
static void
do_early(mpe_engine *e, void *arg)
{
    EXPECT_OK(mpe_queue_task_done(e, arg));
}

static void
check_early(mpe_engine *e, void *arg, bool has_ended)
{
    int count = 0;
    (void)arg;
    mpe_test_reap(e);
    EXPECT_EQ(mpe_test_drain(e, 0, MPE_TEST_SMALL), 2);
    while (mpe_queue_task_done(e, mpe_test_it) == MPE_OK)
        count++;
    EXPECT(count == 1 || (!has_ended && count == 2));
    check_done(e, 0);
    mpe_test_check_queue(e, 0);
}

TEST_LIMIT(saying_done_before_anything_is_taken, 60)
{
    mpe_test_deaths_everywhere((struct mpe_test_deaths){two_small, NULL, do_early, check_early});
    mpe_test_deaths_of_reapers((struct mpe_test_deaths){two_small, NULL, do_early, check_early});
}

/* ---- messages with objects in them ---- */

static mpe_object *inner;

static void *
queue_and_object(mpe_engine *e)
{
    mpe_test_queue_of(e, 0, 0, 0, 0);
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
    mpe_test_check_queue(e, 0);
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
    mpe_test_check_queue(e, 0);
}

TEST_LIMIT(putting_a_message_with_an_object, 60)
{
    mpe_test_deaths_everywhere(
        (struct mpe_test_deaths){queue_and_object, NULL, put_object, check_put_object});
}

TEST_LIMIT(getting_a_message_with_an_object, 60)
{
    mpe_test_deaths_everywhere(
        (struct mpe_test_deaths){queue_with_object, NULL, mpe_test_get_one, check_get_object});
}
