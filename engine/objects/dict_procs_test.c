/* SPDX-License-Identifier: MIT */
/* Dicts between processes: writers and readers at once, and deaths in the middle of a change. */
#include "testing/dicts.h"

#include <stdio.h>
#include <stdlib.h>

static void
count_up(mpe_engine *e, void *arg)
{
    uint32_t seed = mpe_self_slot(e);
    for (int i = 0; i < 20000; i++) {
        char key[16];
        snprintf(key, sizeof key, "%u", mpe_test_random(&seed) % 10);
        REQUIRE_OK(mpe_dict_edit(e, arg, mpe_test_bytes(key), increment, NULL));
    }
}

TEST(no_increment_of_three_processes_is_lost)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *d = new_dict(e);
    mpe_process *p[3];
    uint64_t sum = 0;
    for (int i = 0; i < 3; i++)
        p[i] = mpe_test_start(e, count_up, d);
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(mpe_test_join(e, p[i]), 0);
    for (int i = 0; i < 10; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        sum += *(const uint64_t *)get(e, d, key);
    }
    EXPECT_EQ(sum, 60000);
    mpe_close(e);
}

static void
write_over_a_lot(mpe_engine *e, void *arg)
{
    char value[60];
    for (int i = 0; i < 200000; i++) {
        size_t size = 44 + (size_t)i % 16; /* nodes of the same size */
        memset(value, 'a' + i % 20, size);
        REQUIRE_OK(mpe_dict_put(e, arg, mpe_test_bytes("k"), (mpe_bytes){value, size}, 0));
    }
    REQUIRE_OK(mpe_dict_put(e, arg, mpe_test_bytes("end"), mpe_test_bytes(""), 0));
}

TEST_LIMIT(no_reader_sees_a_part_of_a_value_that_is_written_over, 30)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *d = new_dict(e);
    mpe_buf b;
    mpe_buf_init(&b);
    mpe_process *p = mpe_test_start(e, write_over_a_lot, d);
    while (!mpe_dict_has(e, d, mpe_test_bytes("end"))) {
        uint64_t version;
        b.len = 0;
        if (mpe_dict_get(e, d, mpe_test_bytes("k"), &b, &version) == MPE_ENOENT)
            continue;
        REQUIRE(b.len >= 44 && b.len < 60);
        for (size_t i = 1; i < b.len; i++)
            REQUIRE(b.data[i] == b.data[0]);
    }
    EXPECT_EQ(mpe_test_join(e, p), 0);
    mpe_buf_free(&b);
    mpe_test_check(e);
    mpe_close(e);
}

static void
write_a_lot(mpe_engine *e, void *arg)
{
    char mine[16];
    snprintf(mine, sizeof mine, "p%u ", mpe_self_slot(e));
    for (int i = 0; i < 30000; i++) {
        char key[32];
        snprintf(key, sizeof key, "%s%d", mine, i % 2000);
        if (i / 2000 % 2 == 0)
            REQUIRE_OK(put(e, arg, key, key));
        else
            REQUIRE_OK(mpe_dict_remove(e, arg, mpe_test_bytes(key), NULL));
        if (i % 3000 == 0)
            EXPECT(get(e, arg, key) == NULL || strcmp(get(e, arg, key), key) == 0);
    }
}

TEST_LIMIT(two_processes_insert_and_remove_at_once, 30)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *d = new_dict(e);
    mpe_process *p[2];
    for (int i = 0; i < 2; i++)
        p[i] = mpe_test_start(e, write_a_lot, d);
    for (int i = 0; i < 2; i++)
        EXPECT_EQ(mpe_test_join(e, p[i]), 0);
    EXPECT_EQ(mpe_dict_count(e, d), 2 * 2000);
    mpe_test_check(e);
    mpe_drop(e, d);
    mpe_reap_dead(e);
    EXPECT_EQ(mpe_test_used(e), 0);
    mpe_close(e);
}

/* Writes the same number into key after key: a snapshot in between sees a step of one at most. */
static void
write_in_order(mpe_engine *e, void *arg)
{
    for (uint64_t n = 1; n <= 1500; n++)
        for (int i = 0; i < 40; i++) {
            char key[16];
            snprintf(key, sizeof key, "%d", i);
            mpe_bytes value = {&n, sizeof n};
            REQUIRE_OK(mpe_dict_put(e, arg, mpe_test_bytes(key), value, 0));
        }
}

/* The values of a snapshot by key. */
static void
read_snapshot(const mpe_buf *b, uint64_t values[40])
{
    for (size_t at = 0; at < b->len;) {
        uint32_t sizes[2];
        char key[8] = {0};
        memcpy(sizes, b->data + at, sizeof sizes);
        memcpy(key, b->data + at + 8, sizes[0]);
        memcpy(&values[atoi(key)], b->data + at + 8 + sizes[0], sizeof values[0]);
        at += (8 + (size_t)sizes[0] + sizes[1] + 7) & ~(size_t)7;
    }
}

TEST_LIMIT(a_snapshot_is_one_instant, 30)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *d = new_dict(e);
    mpe_process *p = mpe_test_start(e, write_in_order, d);
    uint64_t values[40] = {0}, count;
    mpe_buf b;
    mpe_buf_init(&b);
    while (values[39] < 1500) {
        memset(values, 0, sizeof values);
        b.len = 0;
        REQUIRE_OK(mpe_dict_snapshot(e, d, &b, &count));
        read_snapshot(&b, values);
        for (int i = 1; i < 40; i++) /* later keys never ahead of earlier ones, one step at most */
            if (!EXPECT(values[i] <= values[i - 1] && values[0] - values[i] <= 1))
                mpe_test_stop();
    }
    EXPECT_EQ(mpe_test_join(e, p), 0);
    mpe_buf_free(&b);
    mpe_close(e);
}

static void
change_until_killed(mpe_engine *e, void *arg)
{
    mpe_handle *shared = arg;
    mpe_object *d;
    uint32_t seed = mpe_self_slot(e) * 77;
    REQUIRE_OK(mpe_hold(e, shared[0], &d));
    for (uint32_t i = 0;; i++) {
        char key[16];
        static char value[600];
        snprintf(key, sizeof key, "%u", mpe_test_random(&seed) % 400);
        memset(value, 'x', sizeof value - 1);
        value[mpe_test_random(&seed) % 590] = 0;
        if (mpe_test_random(&seed) % 5 == 0)
            mpe_dict_remove(e, d, mpe_test_bytes(key), NULL);
        else
            put(e, d, key, value);
        if (i % 3000 == 2999)
            mpe_dict_clear(e, d);
    }
}

TEST_LIMIT(a_writer_killed_anywhere_leaves_a_whole_dict, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    for (int round = 0; round < 60; round++) {
        mpe_object *d = new_dict(e);
        mpe_handle h = mpe_handle_of(e, d);
        mpe_process *p = mpe_test_start(e, change_until_killed, &h);
        for (int i = 0; i < 20 + round * 40 || mpe_dict_count(e, d) < 10; i++)
            get(e, d, "1");
        mpe_test_kill(p);
        EXPECT_OK(put(e, d, "mine", "yes"));
        EXPECT_STR(get(e, d, "mine"), "yes");
        mpe_test_join(e, p);
        mpe_reap_dead(e);
        uint64_t count = mpe_dict_count(e, d), snapshot;
        mpe_buf b;
        mpe_buf_init(&b);
        EXPECT_OK(mpe_dict_snapshot(e, d, &b, &snapshot));
        EXPECT_EQ(snapshot, count);
        mpe_buf_free(&b);
        mpe_test_check(e);
        mpe_drop(e, d);
        EXPECT(mpe_test_used(e) < 4096);
    }
    mpe_close(e);
}
