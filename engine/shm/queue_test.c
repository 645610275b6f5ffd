/* SPDX-License-Identifier: MIT */
/* Queues: order, bounds, segments, large messages, closing, joining; and exact accounts between
 * processes, also when some of them die. */
#include "shm/queue.h"

#include "shm/arena.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static mpe_object *
new_queue(mpe_engine *e, uint32_t max_items, unsigned flags)
{
    mpe_object *o;
    REQUIRE_OK(mpe_queue_create(e, max_items, flags, &o));
    return o;
}

static int
put(mpe_engine *e, mpe_object *q, const void *bytes, size_t size)
{
    mpe_bytes part = {bytes, size};
    return mpe_queue_put(e, q, &part, 1, 0);
}

static int
put_number(mpe_engine *e, mpe_object *q, uint32_t n)
{
    return put(e, q, &n, sizeof n);
}

/* The number that a message is, which is freed. */
static uint32_t
number_of(mpe_engine *e, mpe_message *m)
{
    uint32_t n;
    EXPECT_EQ(m->size, sizeof n);
    memcpy(&n, m->data, sizeof n);
    mpe_message_free(e, m);
    return n;
}

static uint32_t
get_number(mpe_engine *e, mpe_object *q)
{
    mpe_message m;
    REQUIRE_OK(mpe_queue_get(e, q, &m));
    return number_of(e, &m);
}

TEST(gives_messages_in_the_order_they_came)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q = new_queue(e, 0, 0);
    mpe_message m;
    for (uint32_t i = 0; i < 1000; i++)
        REQUIRE_OK(put_number(e, q, i));
    EXPECT_EQ(mpe_queue_size(e, q), 1000);
    for (uint32_t i = 0; i < 1000; i++) {
        REQUIRE_OK(mpe_queue_get(e, q, &m));
        EXPECT_EQ(m.seq, i);
        EXPECT_EQ(number_of(e, &m), i);
    }
    EXPECT_EQ(mpe_queue_get(e, q, &m), MPE_EAGAIN);
    EXPECT_EQ(mpe_queue_size(e, q), 0);
    mpe_close(e);
}

TEST(keeps_to_its_bound)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q = new_queue(e, 3, 0);
    EXPECT_EQ(mpe_queue_bound(e, q), 3);
    for (uint32_t i = 0; i < 3; i++)
        EXPECT_OK(put_number(e, q, i));
    EXPECT_EQ(put_number(e, q, 3), MPE_EAGAIN);
    static char large[10000];
    EXPECT_EQ(put(e, q, large, sizeof large), MPE_EAGAIN);
    EXPECT_EQ(get_number(e, q), 0);
    EXPECT_OK(put_number(e, q, 3));
    EXPECT_EQ(put_number(e, q, 4), MPE_EAGAIN);
    for (uint32_t i = 1; i < 4; i++)
        EXPECT_EQ(get_number(e, q), i);
    mpe_close(e);
}

TEST(puts_parts_together)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q = new_queue(e, 0, 0);
    mpe_message m;
    mpe_bytes parts[] = {mpe_test_bytes("ab"), {NULL, 0}, mpe_test_bytes("cde")};
    REQUIRE_OK(mpe_queue_put(e, q, parts, 3, 0));
    REQUIRE_OK(mpe_queue_get(e, q, &m));
    EXPECT(m.size == 5 && memcmp(m.data, "abcde", 5) == 0);
    REQUIRE_OK(mpe_queue_put(e, q, NULL, 0, 0));
    REQUIRE_OK(mpe_queue_get(e, q, &m));
    EXPECT_EQ(m.size, 0);
    mpe_close(e);
}

/* Sizes and bytes follow from the number of a message. */
static size_t
size_of_message(uint32_t n, uint32_t most)
{
    uint32_t seed = n;
    return mpe_test_random(&seed) % most;
}

static void
put_pattern(mpe_engine *e, mpe_object *q, uint32_t n, uint32_t most)
{
    static uint8_t bytes[100000];
    size_t size = size_of_message(n, most);
    memset(bytes, (int)(n & 0xff), size);
    REQUIRE_OK(put(e, q, bytes, size));
}

static void
get_pattern(mpe_engine *e, mpe_object *q, uint32_t n, uint32_t most)
{
    mpe_message m;
    REQUIRE_OK(mpe_queue_get(e, q, &m));
    EXPECT_EQ(m.size, size_of_message(n, most));
    for (size_t i = 0; i < m.size; i++)
        if (!EXPECT_EQ(m.data[i], n & 0xff))
            mpe_test_stop();
    mpe_message_free(e, &m);
}

TEST(wraps_and_grows_with_messages_of_any_size)
{
    mpe_engine *e = mpe_test_engine(0);
    static const uint32_t most[] = {9, 40, 300, 2049, 6000, 90000};
    for (int k = 0; k < 6; k++) {
        mpe_object *q = new_queue(e, 0, 0);
        uint32_t in = 0, out = 0, seed = 1;
        while (in < 6000) {
            uint32_t burst = mpe_test_random(&seed) % 40;
            for (uint32_t i = 0; i < burst; i++)
                put_pattern(e, q, in++, most[k]);
            burst = mpe_test_random(&seed) % 44;
            for (uint32_t i = 0; i < burst && out < in; i++)
                get_pattern(e, q, out++, most[k]);
            EXPECT_EQ(mpe_queue_size(e, q), in - out);
        }
        while (out < in)
            get_pattern(e, q, out++, most[k]);
        mpe_drop(e, q);
        EXPECT_EQ(mpe_test_used(e), 0);
    }
    mpe_test_check(e);
    mpe_close(e);
}

TEST(a_short_queue_stays_in_its_first_segment)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q = new_queue(e, 0, 0);
    uint64_t used = mpe_test_used(e);
    for (uint32_t i = 0; i < 50000; i++) {
        put_pattern(e, q, i, 300);
        if (i >= 5)
            get_pattern(e, q, i - 5, 300);
    }
    EXPECT_EQ(mpe_test_used(e), used);
    mpe_close(e);
}

TEST(gives_the_memory_of_a_long_queue_back_when_it_has_been_emptied)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q = new_queue(e, 0, 0);
    for (uint32_t i = 0; i < 100000; i++)
        put_pattern(e, q, i, 300);
    EXPECT(mpe_test_used(e) > 15000000);
    for (uint32_t i = 0; i < 100000; i++)
        get_pattern(e, q, i, 300);
    EXPECT(mpe_test_used(e) < 3u << 20);
    mpe_test_check(e);
    mpe_close(e);
}

TEST(a_large_message_belongs_to_its_taker_until_it_is_freed)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q = new_queue(e, 0, 0);
    static char large[50000];
    mpe_message m[20];
    uint64_t base = mpe_test_used(e);
    for (int i = 0; i < 20; i++) {
        memset(large, i, sizeof large);
        REQUIRE_OK(put(e, q, large, sizeof large - (size_t)i));
    }
    uint64_t full = mpe_test_used(e);
    EXPECT(full >= base + 20 * 49000);
    for (int i = 0; i < 20; i++)
        REQUIRE_OK(mpe_queue_get(e, q, &m[i]));
    EXPECT_EQ(mpe_test_used(e), full);
    for (int i = 0; i < 20; i++) {
        EXPECT_EQ(m[i].size, sizeof large - (size_t)i);
        EXPECT_EQ(m[i].data[0], i);
        EXPECT_EQ(m[i].data[m[i].size - 1], i);
        mpe_message_free(e, &m[i]);
    }
    EXPECT_EQ(mpe_test_used(e), base);
    mpe_close(e);
}

TEST(running_out_of_memory_leaves_the_queue_as_it_was)
{
    mpe_engine *e = mpe_test_engine(4u << 20);
    mpe_object *q = new_queue(e, 0, 0);
    static char bytes[5000];
    uint32_t count = 0;
    int rc;
    while ((rc = put(e, q, bytes, count % 2 ? 500 : sizeof bytes)) == MPE_OK)
        count++;
    EXPECT_EQ(rc, MPE_EARENA);
    EXPECT_EQ(mpe_queue_size(e, q), count);
    for (uint32_t i = 0; i < count; i++) {
        mpe_message m;
        REQUIRE_OK(mpe_queue_get(e, q, &m));
        EXPECT_EQ(m.size, i % 2 ? 500 : sizeof bytes);
        mpe_message_free(e, &m);
    }
    EXPECT_OK(put_number(e, q, 1));
    EXPECT_EQ(get_number(e, q), 1);
    mpe_test_check(e);
    mpe_close(e);
}

TEST(a_closed_queue_takes_nothing_and_gives_what_is_left)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q = new_queue(e, 0, 0);
    mpe_message m;
    static char large[5000];
    EXPECT_EQ(mpe_queue_is_closed(e, q), 0);
    REQUIRE_OK(put_number(e, q, 1));
    mpe_queue_close(e, q);
    EXPECT_EQ(mpe_queue_is_closed(e, q), 1);
    EXPECT_EQ(put_number(e, q, 2), MPE_ECLOSED);
    EXPECT_EQ(put(e, q, large, sizeof large), MPE_ECLOSED);
    EXPECT_EQ(get_number(e, q), 1);
    EXPECT_EQ(mpe_queue_get(e, q, &m), MPE_ECLOSED);
    mpe_close(e);
}

TEST(join_waits_for_every_message_to_be_done)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q = new_queue(e, 0, MPE_QUEUE_JOINABLE);
    EXPECT_OK(mpe_queue_join(e, q));
    EXPECT_EQ(mpe_queue_task_done(e, q), MPE_EOVER);
    for (uint32_t i = 0; i < 3; i++)
        REQUIRE_OK(put_number(e, q, i));
    for (uint32_t i = 0; i < 3; i++) {
        EXPECT_EQ(mpe_queue_join(e, q), MPE_EAGAIN);
        get_number(e, q);
        EXPECT_EQ(mpe_queue_join(e, q), MPE_EAGAIN);
        EXPECT_OK(mpe_queue_task_done(e, q));
    }
    EXPECT_OK(mpe_queue_join(e, q));
    EXPECT_EQ(mpe_queue_task_done(e, q), MPE_EOVER);
    mpe_close(e);
}

TEST(done_may_come_before_the_message_is_taken)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q = new_queue(e, 0, MPE_QUEUE_JOINABLE);
    REQUIRE_OK(put_number(e, q, 0));
    REQUIRE_OK(put_number(e, q, 1));
    EXPECT_OK(mpe_queue_task_done(e, q));
    get_number(e, q);
    get_number(e, q);
    EXPECT_EQ(mpe_queue_join(e, q), MPE_EAGAIN);
    EXPECT_OK(mpe_queue_task_done(e, q));
    EXPECT_OK(mpe_queue_join(e, q));
    EXPECT_EQ(mpe_queue_task_done(e, q), MPE_EOVER);
    mpe_close(e);
}

TEST(only_a_joinable_queue_can_be_joined)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q = new_queue(e, 0, 0);
    EXPECT_EQ(mpe_queue_join(e, q), MPE_EINVAL);
    EXPECT_EQ(mpe_queue_task_done(e, q), MPE_EINVAL);
    mpe_close(e);
}

TEST(writes_the_lease_before_the_message_leaves)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q = new_queue(e, 0, 0);
    uint64_t lease = 0;
    uint32_t put_seq, get_seq;
    mpe_message m;
    for (uint32_t i = 0; i < 5; i++)
        REQUIRE_OK(put_number(e, q, i));
    for (uint32_t i = 0; i < 3; i++) {
        REQUIRE_OK(mpe_queue_get_leased(e, q, &lease, &m));
        EXPECT_EQ(lease, i + 1);
        EXPECT_EQ(m.seq, i);
    }
    mpe_queue_seqs(e, q, &put_seq, &get_seq);
    EXPECT_EQ(put_seq, 5);
    EXPECT_EQ(get_seq, 3);
    mpe_close(e);
}

/* ---- between processes ---- */

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

/* Counts and sums what comes, until the queue is closed and empty. */
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
    mpe_object *q = new_queue(e, bound, 0), *sums;
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

TEST_LIMIT(nor_do_they_with_a_bound_of_one, 30)
{
    run_traffic(1, 4000, 8);
}

TEST_LIMIT(nor_with_a_bound_and_large_messages, 30)
{
    run_traffic(10, 10000, 10000);
}

TEST_LIMIT(nor_with_messages_that_use_all_of_a_segment, 30)
{
    run_traffic(0, 10000, 2048);
}

/* Puts its number as often as it can, and notes how many puts have returned. */
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
        mpe_object *q = new_queue(e, 50, 0);
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
        EXPECT_OK(put_number(e, q, 1));
        EXPECT_EQ(get_number(e, q), 1);
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
        mpe_object *q = new_queue(e, 20, MPE_QUEUE_JOINABLE);
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
    mpe_object *q = new_queue(e, 0, MPE_QUEUE_JOINABLE);
    struct job j = {mpe_handle_of(e, q), 0, 0, 0, 0};
    mpe_process *p[2];
    for (int i = 0; i < 2; i++)
        p[i] = mpe_test_start(e, take_and_finish, &j);
    for (uint32_t round = 0; round < 2000; round++) {
        for (uint32_t i = 0; i < round % 13; i++)
            REQUIRE_OK(put_number(e, q, i));
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
    mpe_object *o = new_queue(e, 0, MPE_QUEUE_JOINABLE);
    struct mpe__queue *q = mpe__at(e, mpe__load64(&o->body));
    uint32_t dead = 77;
    for (uint32_t i = 0; i < 2; i++)
        REQUIRE_OK(put_number(e, o, i));
    /* as if slot 77 had died after writing its lease, before it took the message */
    mpe__store64(&q->taken[dead].lease, 1);
    mpe__store32(&q->head_lock, dead + 1);
    mpe__queue_recover(e, o, mpe__offset(e, &q->head_lock));
    EXPECT_EQ(mpe__load64(&q->taken[dead].counted), 0);
    mpe__store32(&q->head_lock, 0);
    get_number(e, o);
    mpe__queue_death(e, o, dead);
    EXPECT_EQ(mpe_queue_join(e, o), MPE_EAGAIN);
    EXPECT_OK(mpe_queue_task_done(e, o));
    get_number(e, o);
    EXPECT_OK(mpe_queue_task_done(e, o));
    EXPECT_OK(mpe_queue_join(e, o));
    mpe_close(e);
}
