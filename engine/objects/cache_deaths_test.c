/* SPDX-License-Identifier: MIT */
/* Every change of a cache, killed at every point: it has happened or it has not, the other items are
 * whole, no cell is lost, and the cache works. */
#include "core/object.h"
#include "testing/deaths.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <stdio.h>
#include <string.h>

static uint8_t large[6000];

static mpe_bytes
key_of(int i)
{
    static char text[16];
    snprintf(text, sizeof text, "key%d", i);
    return mpe_test_bytes(text);
}

static mpe_bytes
old_value(int i)
{
    return (mpe_bytes){large, 100 + (size_t)i % 7 * 20};
}

/* A cache of one small shard, so that chains are long, with so many items. */
static void *
cache_of(mpe_engine *e, int count)
{
    mpe_test_forget(e);
    REQUIRE_OK(mpe_cache_create(e, 32 << 10, MPE_FOREVER, &mpe_test_it));
    for (int i = 0; i < count; i++)
        REQUIRE_OK(mpe_cache_put(e, mpe_test_it, key_of(i), old_value(i), 0, 0, MPE_CACHE_SET));
    return mpe_test_it;
}

static void *
cache_of_3(mpe_engine *e)
{
    return cache_of(e, 3);
}

static void *
full_cache(mpe_engine *e)
{
    return cache_of(e, 400);
}

static int
value_size(mpe_engine *e, mpe_bytes key)
{
    mpe_buf b;
    mpe_buf_init(&b);
    int rc = mpe_cache_get(e, mpe_test_it, key, &b), size = rc == MPE_OK ? (int)b.len : -1;
    mpe_buf_free(&b);
    return size;
}

/* The keys from first to below end have their old values. Emptied, no cell is in use; and it can be
 * filled as a new one. */
static void
check_cache(mpe_engine *e, int first, int end)
{
    mpe_buf keys;
    uint64_t count;
    size_t at = 0;
    mpe_bytes key;
    mpe_cache_stats s;
    mpe_test_reap(e);
    mpe_buf_init(&keys);
    for (int i = first; i < end; i++)
        EXPECT_EQ(value_size(e, key_of(i)), (int)old_value(i).size);
    EXPECT_OK(mpe_cache_keys(e, mpe_test_it, UINT64_MAX, &keys, &count));
    mpe_cache_stats_get(e, mpe_test_it, &s);
    EXPECT_EQ(s.entries, count);
    while (mpe_next(&keys, &at, &key, NULL) == MPE_OK)
        EXPECT_OK(mpe_cache_remove(e, mpe_test_it, key));
    mpe_cache_stats_get(e, mpe_test_it, &s);
    EXPECT_EQ(s.entries, 0);
    EXPECT_EQ(s.bytes, 0);
    EXPECT_OK(
        mpe_cache_put(e, mpe_test_it, key_of(1), (mpe_bytes){large, 20 << 8}, 0, 0, MPE_CACHE_SET));
    EXPECT_EQ(value_size(e, key_of(1)), 20 << 8);
    mpe_test_check(e);
    mpe_buf_free(&keys);
}

/* ---- changes of one key ---- */

static void
put_new(mpe_engine *e, void *arg)
{
    mpe_cache_put(e, arg, mpe_test_bytes("new"), mpe_test_bytes("value"), 0, 0, MPE_CACHE_SET);
}

static void
check_new(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg;
    int size = value_size(e, mpe_test_bytes("new"));
    EXPECT(size == 5 || (!has_ended && size == -1));
    check_cache(e, 0, 3);
}

static void
replace(mpe_engine *e, void *arg)
{
    mpe_cache_put(e, arg, key_of(2), (mpe_bytes){large, 3000}, 0, 0, MPE_CACHE_SET);
}

static void
check_replaced(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg;
    int size = value_size(e, key_of(2));
    EXPECT(size == 3000 || (!has_ended && size == (int)old_value(2).size));
    check_cache(e, 0, 2);
}

static void
take_out(mpe_engine *e, void *arg)
{
    mpe_cache_remove(e, arg, key_of(2));
}

static void
check_taken_out(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg;
    int size = value_size(e, key_of(2));
    EXPECT(size == -1 || (!has_ended && size == (int)old_value(2).size));
    check_cache(e, 0, 2);
}

/* Others leave for it, from both queues. */
static void
put_large(mpe_engine *e, void *arg)
{
    mpe_cache_put(e, arg, mpe_test_bytes("new"), (mpe_bytes){large, 3000}, 0, 0, MPE_CACHE_SET);
}

static void
check_large(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg;
    int size = value_size(e, mpe_test_bytes("new"));
    EXPECT(size == 3000 || (!has_ended && size == -1));
    check_cache(e, 0, 0);
}

/* Some keep their place by their uses. */
static void *
read_cache(mpe_engine *e)
{
    full_cache(e);
    for (int i = 0; i < 400; i += 2)
        value_size(e, key_of(i));
    return mpe_test_it;
}

static int
edit(const uint8_t *old, size_t old_size, uint8_t *bytes, size_t *size, void *ud)
{
    (void)old, (void)old_size, (void)ud;
    memcpy(bytes, "edited", 6);
    *size = 6;
    return MPE_OK;
}

static void
change_times(mpe_engine *e, void *arg)
{
    mpe_cache_touch(e, arg, key_of(1), 1000 * MPE_NS_PER_S);
    mpe_cache_touch(e, arg, key_of(0), 1); /* and it is found to be expired */
    mpe_cache_remove(e, arg, key_of(0));
    mpe_cache_edit(e, arg, key_of(2), 0, edit, NULL);
}

static void
check_times(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg;
    int size = value_size(e, key_of(2));
    EXPECT(size == 6 || (!has_ended && size == (int)old_value(2).size));
    EXPECT(!has_ended || value_size(e, key_of(0)) == -1);
    mpe_cache_remove(e, mpe_test_it,
                     key_of(0)); /* one that has expired has cells until it leaves */
    check_cache(e, 1, 2);
}

static void
clear_cache(mpe_engine *e, void *arg)
{
    mpe_cache_clear(e, arg);
}

/* All are there or none, for every process at once. */
static void
check_cleared(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg;
    int there = 0;
    for (int i = 0; i < 30; i++)
        there += value_size(e, key_of(i)) >= 0;
    EXPECT(there == 0 || (!has_ended && there == 30));
    put_new(e, arg);
    EXPECT_EQ(value_size(e, mpe_test_bytes("new")), 5);
    check_cache(e, 0, 0);
}

static void *
cache_of_30(mpe_engine *e)
{
    return cache_of(e, 30);
}

TEST_LIMIT(putting_a_new_key_into_a_cache, 60)
{
    mpe_test_deaths_everywhere((struct mpe_test_deaths){cache_of_3, NULL, put_new, check_new});
    mpe_test_deaths_of_reapers((struct mpe_test_deaths){cache_of_3, NULL, put_new, check_new});
}

TEST_LIMIT(replacing_a_value_in_a_cache, 60)
{
    mpe_test_deaths_everywhere((struct mpe_test_deaths){cache_of_3, NULL, replace, check_replaced});
    mpe_test_deaths_of_reapers((struct mpe_test_deaths){cache_of_3, NULL, replace, check_replaced});
}

TEST_LIMIT(removing_a_key_from_a_cache, 60)
{
    mpe_test_deaths_everywhere(
        (struct mpe_test_deaths){cache_of_3, NULL, take_out, check_taken_out});
}

TEST_LIMIT(evicting_from_a_cache, 120)
{
    mpe_test_deaths_everywhere((struct mpe_test_deaths){full_cache, NULL, put_large, check_large});
    mpe_test_deaths_everywhere((struct mpe_test_deaths){read_cache, NULL, put_large, check_large});
}

TEST_LIMIT(changing_times_in_a_cache, 60)
{
    mpe_test_deaths_everywhere(
        (struct mpe_test_deaths){cache_of_3, NULL, change_times, check_times});
}

TEST_LIMIT(clearing_a_cache, 120)
{
    mpe_test_deaths_everywhere(
        (struct mpe_test_deaths){cache_of_30, NULL, clear_cache, check_cleared});
}

/* ---- long chains ---- */

static void *
cache_of_long_chains(mpe_engine *e)
{
    mpe_test_forget(e);
    REQUIRE_OK(mpe_cache_create(e, MPE_CACHE_MIN_BYTES, MPE_FOREVER, &mpe_test_it));
    for (int i = 0; i < 26; i++) /* in 3 first buckets of 7 entries */
        REQUIRE_OK(
            mpe_cache_put(e, mpe_test_it, key_of(i), mpe_test_bytes("v"), 0, 0, MPE_CACHE_SET));
    return mpe_test_it;
}

static void
take_out_all(mpe_engine *e, void *arg)
{
    for (int i = 0; i < 26; i++)
        mpe_cache_remove(e, arg, key_of(i));
}

static void
check_no_cell_is_used(mpe_engine *e, void *arg, bool has_ended)
{
    mpe_cache_stats s;
    (void)has_ended;
    mpe_test_reap(e);
    take_out_all(e, arg);
    mpe_cache_stats_get(e, arg, &s);
    EXPECT_EQ(s.entries, 0);
    EXPECT_EQ(s.bytes, 0);
}

TEST_LIMIT(emptying_long_chains_of_a_cache, 60)
{
    mpe_test_deaths_everywhere(
        (struct mpe_test_deaths){cache_of_long_chains, NULL, take_out_all, check_no_cell_is_used});
}
