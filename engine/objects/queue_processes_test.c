/* SPDX-License-Identifier: MIT */
/* Queues between processes: exact accounts of every message, also when some processes die. */
#include "objects/queue.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"
#include "testing/queues.h"

#include <stdlib.h>
#include <string.h>

struct job {
    mpe_handle queue, sums; /* sums: a Q array */
    uint32_t producer, count;
    size_t size;
};

static mpe_object *
held(mpe_engine *e, mpe_handle h)
{
    mpe_object *o;
    REQUIRE_OK(mpe_hold(e, h, &o));
    return o;
}

static uint64_t *
numbers(mpe_engine *e, mpe_object *array)
{
    char type;
    uint64_t length;
    return mpe_array_data(e, array, &type, &length);
}

static void
produce(mpe_engine *e, void *arg)
{
    struct job *j = arg;
    mpe_object *q = held(e, j->queue);
    uint32_t *bytes = calloc(1, 10000);
    for (uint32_t i = 0; i < j->count; i++) {
        bytes[0] = j->producer;
        bytes[1] = i;
        REQUIRE_OK(mpe_test_put(e, q, bytes, i % 7 == 0 ? j->size : 8));
    }
    free(bytes);
}

/* Counts and sums the messages, until the queue is closed and empty. */
static void
consume(mpe_engine *e, void *arg)
{
    struct job *j = arg;
    mpe_object *q = held(e, j->queue);
    uint64_t *sums = numbers(e, held(e, j->sums));
    uint32_t last[8] = {0};
    mpe_message m;
    int rc;
    while ((rc = mpe_test_get(e, q, &m)) == MPE_OK) {
        uint32_t from, n;
        memcpy(&from, m.data, 4);
        memcpy(&n, m.data + 4, 4);
        REQUIRE(from < 8);
        EXPECT(n + 1 > last[from]); /* in order of each producer */
        last[from] = n + 1;
        __atomic_fetch_add(&sums[0], 1, __ATOMIC_SEQ_CST);
        __atomic_fetch_add(&sums[1 + from], n, __ATOMIC_SEQ_CST);
        mpe_message_free(e, &m);
    }
    EXPECT_EQ(rc, MPE_ECLOSED);
}

static void
run_traffic(uint32_t bound, uint32_t count, size_t size)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q = mpe_test_new_queue(e, bound, 0), *sums;
    REQUIRE_OK(mpe_array_create(e, 'Q', 10, 0, &sums));
    struct job j = {mpe_handle_of(e, q), mpe_handle_of(e, sums), 0, count, size};
    mpe_process *producers[2], *consumers[2];
    for (uint32_t i = 0; i < 2; i++)
        consumers[i] = mpe_test_start(e, consume, &j);
    for (uint32_t i = 0; i < 2; i++) {
        j.producer = i;
        producers[i] = mpe_test_start(e, produce, &j);
    }
    for (int i = 0; i < 2; i++)
        EXPECT_EQ(mpe_test_join(e, producers[i]), 0);
    mpe_queue_close(e, q);
    for (int i = 0; i < 2; i++)
        EXPECT_EQ(mpe_test_join(e, consumers[i]), 0);
    uint64_t *n = numbers(e, sums), expected = (uint64_t)count * (count - 1) / 2;
    EXPECT_EQ(n[0], 2 * count);
    EXPECT_EQ(n[1], expected);
    EXPECT_EQ(n[2], expected);
    mpe_drop(e, q);
    mpe_drop(e, sums);
    EXPECT_EQ(mpe_test_used(e), 0);
    mpe_test_check(e);
    mpe_close(e);
}

TEST_LIMIT(two_producers_and_two_consumers_lose_nothing, 30)
{
    run_traffic(0, 30000, 8);
}

TEST_LIMIT(no_message_is_lost_with_a_bound_of_one, 30)
{
    run_traffic(1, 4000, 8);
}

TEST_LIMIT(no_message_is_lost_with_a_bound_and_large_messages, 30)
{
    run_traffic(10, 10000, 10000);
}

TEST_LIMIT(no_message_is_lost_with_messages_that_fill_a_segment, 30)
{
    run_traffic(0, 10000, 2048);
}

/* Puts its number as often as it can, and records how many puts have returned. */
static void
produce_until_killed(mpe_engine *e, void *arg)
{
    struct job *j = arg;
    mpe_object *q = held(e, j->queue);
    uint64_t *sums = numbers(e, held(e, j->sums));
    static uint32_t bytes[1000];
    mpe_queue_is_closed(e, q);
    for (uint32_t i = 0;; i++) {
        bytes[0] = i;
        REQUIRE_OK(mpe_test_put(e, q, bytes, i % 3 == 0 ? sizeof bytes : 12));
        __atomic_store_n(&sums[0], i + 1, __ATOMIC_RELEASE);
    }
}

TEST_LIMIT(a_producer_killed_anywhere_leaves_a_whole_queue, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *sums;
    REQUIRE_OK(mpe_array_create(e, 'Q', 10, 0, &sums));
    volatile uint64_t *returned = numbers(e, sums);
    uint64_t base = mpe_test_used(e);
    for (uint32_t round = 0; round < 60; round++) {
        mpe_object *q = mpe_test_new_queue(e, 50, 0);
        struct job j = {mpe_handle_of(e, q), mpe_handle_of(e, sums), 0, 0, 0};
        *returned = 0;
        mpe_process *p = mpe_test_start(e, produce_until_killed, &j);
        uint32_t next = 0;
        mpe_message m;
        while (next < 10 + round * 5) {
            REQUIRE_OK(mpe_test_get(e, q, &m));
            EXPECT_EQ(*(const uint32_t *)m.data, next++);
            mpe_message_free(e, &m);
        }
        mpe_test_kill(p);
        mpe_reap_dead(e);
        uint64_t done = *returned;
        while (mpe_queue_get(e, q, &m) == MPE_OK) {
            EXPECT_EQ(*(const uint32_t *)m.data, next);
            EXPECT_EQ(m.size, next % 3 == 0 ? 4000 : 12);
            next++;
            mpe_message_free(e, &m);
        }
        EXPECT(next == done || next == done + 1);
        EXPECT_OK(mpe_test_put_number(e, q, 1));
        EXPECT_EQ(mpe_test_get_number(e, q), 1);
        mpe_test_join(e, p);
        mpe_test_check(e);
        mpe_drop(e, q);
        if (!EXPECT(mpe_test_used(e) <= base + 20000))
            break;
    }
    mpe_close(e);
}

static void
consume_until_killed(mpe_engine *e, void *arg)
{
    struct job *j = arg;
    mpe_object *q = held(e, j->queue);
    mpe_message m;
    for (uint32_t i = 0;; i++) {
        REQUIRE_OK(mpe_test_get(e, q, &m));
        if (i % 2)
            mpe_message_free(e, &m);
        if (i % 3)
            REQUIRE_OK(mpe_queue_task_done(e, q));
    }
}

TEST_LIMIT(join_ends_when_consumers_are_killed_anywhere, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    static char large[5000];
    for (uint32_t round = 0; round < 60; round++) {
        mpe_object *q = mpe_test_new_queue(e, 20, MPE_QUEUE_JOINABLE);
        struct job j = {mpe_handle_of(e, q), 0, 0, 0, 0};
        mpe_process *p = mpe_test_start(e, consume_until_killed, &j);
        mpe_message m;
        for (uint32_t i = 0; i < 30 + 7 * round; i++)
            REQUIRE_OK(mpe_test_put(e, q, large, i % 2 ? sizeof large : 5));
        mpe_test_kill(p);
        mpe_reap_dead(e);
        while (mpe_queue_get(e, q, &m) == MPE_OK) {
            EXPECT_EQ(mpe_queue_join(e, q), MPE_EAGAIN);
            mpe_message_free(e, &m);
            EXPECT_OK(mpe_queue_task_done(e, q));
        }
        EXPECT_OK(mpe_queue_join(e, q));
        EXPECT_EQ(mpe_queue_task_done(e, q), MPE_EOVER);
        mpe_test_join(e, p);
        mpe_test_check(e);
        mpe_drop(e, q);
    }
    mpe_close(e);
}

static void
take_and_finish(mpe_engine *e, void *arg)
{
    struct job *j = arg;
    mpe_object *q = held(e, j->queue);
    mpe_message m;
    while (mpe_test_get(e, q, &m) == MPE_OK) {
        mpe_message_free(e, &m);
        EXPECT_OK(mpe_queue_task_done(e, q)); /* never "all are done already" */
    }
}

static int
try_join(mpe_engine *e, mpe_object *o, void *ud)
{
    (void)ud;
    return mpe_queue_join(e, o);
}

TEST_LIMIT(every_message_is_done_once_and_join_wakes, 30)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q = mpe_test_new_queue(e, 0, MPE_QUEUE_JOINABLE);
    struct job j = {mpe_handle_of(e, q), 0, 0, 0, 0};
    mpe_process *p[2];
    for (int i = 0; i < 2; i++)
        p[i] = mpe_test_start(e, take_and_finish, &j);
    for (uint32_t round = 0; round < 2000; round++) {
        for (uint32_t i = 0; i < round % 13; i++)
            REQUIRE_OK(mpe_test_put_number(e, q, i));
        REQUIRE_OK(mpe_await(e, q, MPE_EVENT_DONE, MPE_FOREVER, try_join, NULL));
        EXPECT_EQ(mpe_queue_size(e, q), 0);
    }
    mpe_queue_close(e, q);
    for (int i = 0; i < 2; i++)
        EXPECT_EQ(mpe_test_join(e, p[i]), 0);
    mpe_close(e);
}

TEST(a_lease_that_was_not_taken_is_not_counted_with_its_dead)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = mpe_test_new_queue(e, 0, MPE_QUEUE_JOINABLE);
    struct mpe__queue *q = mpe__at(e, mpe__load64(&o->body));
    uint32_t dead = 77;
    for (uint32_t i = 0; i < 2; i++)
        REQUIRE_OK(mpe_test_put_number(e, o, i));
    /* as if slot 77 had died after writing its lease, before it took the message */
    mpe__store64(&q->taken[dead].lease, 1);
    mpe__store32(&q->head_lock, dead + 1);
    mpe__queue_recover(e, o, mpe__offset(e, &q->head_lock));
    EXPECT_EQ(mpe__load64(&q->taken[dead].counted), 0);
    mpe__store32(&q->head_lock, 0);
    mpe_test_get_number(e, o);
    mpe__queue_death(e, o, dead);
    EXPECT_EQ(mpe_queue_join(e, o), MPE_EAGAIN);
    EXPECT_OK(mpe_queue_task_done(e, o));
    mpe_test_get_number(e, o);
    EXPECT_OK(mpe_queue_task_done(e, o));
    EXPECT_OK(mpe_queue_join(e, o));
    mpe_close(e);
}
