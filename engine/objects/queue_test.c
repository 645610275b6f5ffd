/* SPDX-License-Identifier: MIT */
/* Queues in one process: order, bounds, segments, large messages, closing, joining. */
#include "objects/queue.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"
#include "testing/queues.h"

#include <string.h>

static int
put(mpe_engine *e, mpe_object *q, const void *bytes, size_t size)
{
    mpe_bytes part = {bytes, size};
    return mpe_queue_put(e, q, &part, 1, 0);
}

TEST(gives_messages_in_the_order_they_came)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q = mpe_test_new_queue(e, 0, 0);
    mpe_message m;
    for (uint32_t i = 0; i < 1000; i++)
        REQUIRE_OK(mpe_test_put_number(e, q, i));
    EXPECT_EQ(mpe_queue_size(e, q), 1000);
    for (uint32_t i = 0; i < 1000; i++) {
        REQUIRE_OK(mpe_queue_get(e, q, &m));
        EXPECT_EQ(m.seq, i);
        EXPECT_EQ(mpe_test_number_of(e, &m), i);
    }
    EXPECT_EQ(mpe_queue_get(e, q, &m), MPE_EAGAIN);
    EXPECT_EQ(mpe_queue_size(e, q), 0);
    mpe_close(e);
}

TEST(keeps_to_its_bound)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q = mpe_test_new_queue(e, 3, 0);
    EXPECT_EQ(mpe_queue_bound(e, q), 3);
    for (uint32_t i = 0; i < 3; i++)
        EXPECT_OK(mpe_test_put_number(e, q, i));
    EXPECT_EQ(mpe_test_put_number(e, q, 3), MPE_EAGAIN);
    static char large[10000];
    EXPECT_EQ(put(e, q, large, sizeof large), MPE_EAGAIN);
    EXPECT_EQ(mpe_test_get_number(e, q), 0);
    EXPECT_OK(mpe_test_put_number(e, q, 3));
    EXPECT_EQ(mpe_test_put_number(e, q, 4), MPE_EAGAIN);
    for (uint32_t i = 1; i < 4; i++)
        EXPECT_EQ(mpe_test_get_number(e, q), i);
    mpe_close(e);
}

TEST(puts_parts_together)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q = mpe_test_new_queue(e, 0, 0);
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
        mpe_object *q = mpe_test_new_queue(e, 0, 0);
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
    mpe_object *q = mpe_test_new_queue(e, 0, 0);
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
    mpe_object *q = mpe_test_new_queue(e, 0, 0);
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
    mpe_object *q = mpe_test_new_queue(e, 0, 0);
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
    mpe_object *q = mpe_test_new_queue(e, 0, 0);
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
    EXPECT_OK(mpe_test_put_number(e, q, 1));
    EXPECT_EQ(mpe_test_get_number(e, q), 1);
    mpe_test_check(e);
    mpe_close(e);
}

TEST(a_closed_queue_takes_nothing_and_gives_its_rest)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q = mpe_test_new_queue(e, 0, 0);
    mpe_message m;
    static char large[5000];
    EXPECT_EQ(mpe_queue_is_closed(e, q), 0);
    REQUIRE_OK(mpe_test_put_number(e, q, 1));
    mpe_queue_close(e, q);
    EXPECT_EQ(mpe_queue_is_closed(e, q), 1);
    EXPECT_EQ(mpe_test_put_number(e, q, 2), MPE_ECLOSED);
    EXPECT_EQ(put(e, q, large, sizeof large), MPE_ECLOSED);
    EXPECT_EQ(mpe_test_get_number(e, q), 1);
    EXPECT_EQ(mpe_queue_get(e, q, &m), MPE_ECLOSED);
    mpe_close(e);
}

TEST(join_waits_for_every_message_to_be_done)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q = mpe_test_new_queue(e, 0, MPE_QUEUE_JOINABLE);
    EXPECT_OK(mpe_queue_join(e, q));
    EXPECT_EQ(mpe_queue_task_done(e, q), MPE_EOVER);
    for (uint32_t i = 0; i < 3; i++)
        REQUIRE_OK(mpe_test_put_number(e, q, i));
    for (uint32_t i = 0; i < 3; i++) {
        EXPECT_EQ(mpe_queue_join(e, q), MPE_EAGAIN);
        mpe_test_get_number(e, q);
        EXPECT_EQ(mpe_queue_join(e, q), MPE_EAGAIN);
        EXPECT_OK(mpe_queue_task_done(e, q));
    }
    EXPECT_OK(mpe_queue_join(e, q));
    EXPECT_EQ(mpe_queue_task_done(e, q), MPE_EOVER);
    mpe_close(e);
}

TEST(done_may_be_called_before_the_message_is_taken)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q = mpe_test_new_queue(e, 0, MPE_QUEUE_JOINABLE);
    REQUIRE_OK(mpe_test_put_number(e, q, 0));
    REQUIRE_OK(mpe_test_put_number(e, q, 1));
    EXPECT_OK(mpe_queue_task_done(e, q));
    mpe_test_get_number(e, q);
    mpe_test_get_number(e, q);
    EXPECT_EQ(mpe_queue_join(e, q), MPE_EAGAIN);
    EXPECT_OK(mpe_queue_task_done(e, q));
    EXPECT_OK(mpe_queue_join(e, q));
    EXPECT_EQ(mpe_queue_task_done(e, q), MPE_EOVER);
    mpe_close(e);
}

TEST(only_a_joinable_queue_can_be_joined)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q = mpe_test_new_queue(e, 0, 0);
    EXPECT_EQ(mpe_queue_join(e, q), MPE_EINVAL);
    EXPECT_EQ(mpe_queue_task_done(e, q), MPE_EINVAL);
    mpe_close(e);
}

TEST(writes_the_lease_before_the_message_leaves)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q = mpe_test_new_queue(e, 0, 0);
    uint64_t lease = 0;
    uint32_t put_seq, get_seq;
    mpe_message m;
    for (uint32_t i = 0; i < 5; i++)
        REQUIRE_OK(mpe_test_put_number(e, q, i));
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
