/* SPDX-License-Identifier: MIT */
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS 1000000ull

static mpe_object *
new_cache(mpe_engine *e, uint64_t bytes)
{
    mpe_object *o;
    REQUIRE_OK(mpe_cache_create(e, bytes, MPE_FOREVER, &o));
    return o;
}

static int
put(mpe_engine *e, mpe_object *c, const char *key, const char *value)
{
    return mpe_cache_put(e, c, mpe_test_bytes(key), mpe_test_bytes(value), 0, 0, MPE_CACHE_SET);
}

/* The value of a key as a string, NULL when it is absent; valid until the next call. */
static const char *
get(mpe_engine *e, mpe_object *c, const char *key)
{
    static mpe_buf b;
    if (!b.data)
        mpe_buf_init(&b);
    b.len = 0;
    int rc = mpe_cache_get(e, c, mpe_test_bytes(key), &b);
    EXPECT(rc == MPE_OK || rc == MPE_ENOENT);
    REQUIRE_OK(mpe_buf_append(&b, "", 1));
    return rc == MPE_OK ? (const char *)b.data : NULL;
}

static mpe_bytes
number_key(uint64_t i)
{
    static char text[32];
    snprintf(text, sizeof text, "key%llu", (unsigned long long)i);
    return mpe_test_bytes(text);
}

/* A value that says what it is: all its bytes are the low byte of its size. */
static mpe_bytes
value_of(size_t size)
{
    static uint8_t bytes[1 << 20];
    memset(bytes, (int)(size & 0xff), size);
    return (mpe_bytes){bytes, size};
}

static void
put_sized(mpe_engine *e, mpe_object *c, uint64_t i, size_t size)
{
    EXPECT_OK(mpe_cache_put(e, c, number_key(i), value_of(size), 0, 0, MPE_CACHE_SET));
}

/* Is it there? Then it must be whole. */
static bool
has_whole(mpe_engine *e, mpe_object *c, uint64_t i)
{
    mpe_buf b;
    mpe_buf_init(&b);
    int rc = mpe_cache_get(e, c, number_key(i), &b), whole = 1;
    for (size_t k = 0; k < b.len; k++)
        whole = whole && b.data[k] == (b.len & 0xff);
    EXPECT(rc == MPE_OK || rc == MPE_ENOENT);
    EXPECT(whole);
    mpe_buf_free(&b);
    return rc == MPE_OK;
}

static mpe_cache_stats
stats_of(mpe_engine *e, mpe_object *c)
{
    mpe_cache_stats s;
    mpe_cache_stats_get(e, c, &s);
    EXPECT(s.bytes <= s.max_bytes);
    return s;
}

/* Removes key after key: then no cell is in use. */
static void
expect_no_cell_lost(mpe_engine *e, mpe_object *c)
{
    mpe_buf keys;
    uint64_t count;
    size_t at = 0;
    mpe_bytes key;
    mpe_buf_init(&keys);
    REQUIRE_OK(mpe_cache_keys(e, c, UINT64_MAX, &keys, &count));
    EXPECT_EQ(stats_of(e, c).entries, count);
    while (mpe_next(&keys, &at, &key, NULL) == MPE_OK)
        EXPECT_OK(mpe_cache_remove(e, c, key));
    EXPECT_EQ(stats_of(e, c).entries, 0);
    EXPECT_EQ(stats_of(e, c).bytes, 0);
    mpe_buf_free(&keys);
}

TEST(a_key_has_the_value_that_was_put_last)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *c = new_cache(e, 1 << 16);
    EXPECT(!get(e, c, "a"));
    EXPECT_OK(put(e, c, "a", "1"));
    EXPECT_STR(get(e, c, "a"), "1");
    EXPECT_OK(
        put(e, c, "a", "a longer value than the one before, in more than one cell of memory"));
    EXPECT_STR(get(e, c, "a"),
               "a longer value than the one before, in more than one cell of memory");
    EXPECT_OK(mpe_cache_remove(e, c, mpe_test_bytes("a")));
    EXPECT_EQ(mpe_cache_remove(e, c, mpe_test_bytes("a")), MPE_ENOENT);
    EXPECT(!get(e, c, "a"));
    mpe_test_check(e);
    mpe_close(e);
}

TEST(add_and_replace_look_whether_the_key_is_there)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *c = new_cache(e, 1 << 16);
    mpe_bytes k = mpe_test_bytes("k"), v = mpe_test_bytes("v");
    EXPECT_EQ(mpe_cache_put(e, c, k, v, 0, 0, MPE_CACHE_REPLACE), MPE_ENOENT);
    EXPECT_OK(mpe_cache_put(e, c, k, v, 0, 0, MPE_CACHE_ADD));
    EXPECT_EQ(mpe_cache_put(e, c, k, v, 0, 0, MPE_CACHE_ADD), MPE_EEXIST);
    EXPECT_OK(mpe_cache_put(e, c, k, v, 0, 0, MPE_CACHE_REPLACE));
    mpe_close(e);
}

TEST(an_item_expires)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *c = new_cache(e, 1 << 16);
    mpe_bytes k = mpe_test_bytes("k");
    uint64_t ttl, until = mpe_now() + 30 * MS;
    EXPECT_OK(mpe_cache_put(e, c, k, k, 0, 30 * MS, MPE_CACHE_SET));
    uint64_t latest = mpe_now() + 31 * MS;
    int rc = mpe_cache_ttl(e, c, k, &ttl);
    EXPECT(rc == MPE_OK ? ttl > 0 && ttl <= 30 * MS : mpe_now() >= until);
    while (mpe_now() < until)
        EXPECT(get(e, c, "k") || mpe_now() >= until);
    while (mpe_now() < latest)
        ;
    EXPECT(!get(e, c, "k"));
    EXPECT_EQ(mpe_cache_ttl(e, c, k, &ttl), MPE_ENOENT);
    EXPECT_EQ(mpe_cache_touch(e, c, k, 0), MPE_ENOENT);
    EXPECT_EQ(stats_of(e, c).entries, 0);
    EXPECT_EQ(stats_of(e, c).expired, 1);
    EXPECT_OK(mpe_cache_put(e, c, k, k, 0, 0, MPE_CACHE_ADD));
    EXPECT_OK(mpe_cache_ttl(e, c, k, &ttl));
    EXPECT(ttl == MPE_FOREVER);
    EXPECT_OK(mpe_cache_touch(e, c, k, 1000 * MS));
    EXPECT_OK(mpe_cache_touch(e, c, k, 0));
    EXPECT_OK(mpe_cache_ttl(e, c, k, &ttl));
    EXPECT(ttl == MPE_FOREVER);
    mpe_close(e);
}

TEST(counts_what_expires_though_it_is_never_read)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *c = new_cache(e, 1 << 16);
    for (uint64_t i = 0; i < 20; i++)
        EXPECT_OK(
            mpe_cache_put(e, c, number_key(i), value_of(10), 0, i % 2 ? MS : 0, MPE_CACHE_SET));
    uint64_t until = mpe_now() + 2 * MS;
    while (mpe_now() < until)
        ;
    EXPECT_EQ(stats_of(e, c).entries, 10);
    EXPECT_EQ(stats_of(e, c).expired, 10);
    EXPECT_EQ(stats_of(e, c).expired, 10);
    mpe_close(e);
}

TEST(a_value_larger_than_the_cache_changes_nothing)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *c = new_cache(e, 1 << 16);
    for (uint64_t i = 0; i < 20; i++)
        put_sized(e, c, i, 100);
    EXPECT_EQ(mpe_cache_put(e, c, number_key(0), value_of(1 << 16), 0, 0, MPE_CACHE_SET),
              MPE_ERANGE);
    for (uint64_t i = 0; i < 20; i++)
        EXPECT(has_whole(e, c, i));
    EXPECT_OK(mpe_cache_put(e, c, number_key(0), value_of(50000), 0, 0, MPE_CACHE_SET));
    EXPECT(has_whole(e, c, 0));
    mpe_close(e);
}

/* With every mix of sizes, the items take what the cache has, but for a few cells. */
TEST_LIMIT(no_memory_belongs_to_a_size, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *c = new_cache(e, 4 << 20);
    static const size_t sizes[] = {100, 10240, 30, 3000, 100000, 64, 500};
    uint64_t used = mpe_test_used(e), key = 0;
    uint32_t random = 1;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        uint64_t put = 0;
        for (; put < 12u << 20; put += sizes[s] + 40)
            put_sized(e, c, key++, sizes[s] + mpe_test_random(&random) % 20);
        EXPECT(stats_of(e, c).bytes > 3600u << 10);
        uint64_t whole = 0, last = key;
        for (uint64_t i = last - (3u << 20) / (sizes[s] + 200) / 2; i < last; i++)
            whole += has_whole(e, c, i);
        EXPECT(whole > 0);
        EXPECT_EQ(mpe_test_used(e), used);
    }
    expect_no_cell_lost(e, c);
    mpe_test_check(e);
    mpe_close(e);
}

TEST(an_item_that_is_read_outlives_any_number_that_are_not)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *c = new_cache(e, 1 << 20);
    put_sized(e, c, 0, 100);
    for (uint64_t i = 1; i < 50000; i++) {
        put_sized(e, c, i, 100);
        if (i % 100 == 0)
            EXPECT(has_whole(e, c, 0));
    }
    EXPECT(stats_of(e, c).evictions > 40000);
    mpe_close(e);
}

TEST(long_chains_of_the_index_grow_and_shrink)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *c = new_cache(e, 256 << 10);
    for (int round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < 8000; i++)
            put_sized(e, c, i, 4); /* one cell each: more than the first buckets hold */
        uint64_t found = 0;
        for (uint64_t i = 0; i < 8000; i++)
            found += has_whole(e, c, i);
        EXPECT_EQ(found, stats_of(e, c).entries);
        expect_no_cell_lost(e, c);
    }
    mpe_close(e);
}

TEST(clears)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *c = new_cache(e, 32 << 20);
    for (uint64_t i = 0; i < 3000; i++)
        put_sized(e, c, i, 100);
    EXPECT_EQ(stats_of(e, c).entries, 3000);
    mpe_cache_clear(e, c);
    EXPECT_EQ(stats_of(e, c).entries, 0);
    EXPECT_EQ(stats_of(e, c).bytes, 0);
    for (uint64_t i = 0; i < 3000; i++)
        EXPECT(!has_whole(e, c, i));
    put_sized(e, c, 1, 100);
    EXPECT(has_whole(e, c, 1));
    mpe_close(e);
}

TEST(lists_at_most_so_many_keys)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *c = new_cache(e, 1 << 20);
    mpe_buf b;
    uint64_t count;
    mpe_buf_init(&b);
    for (uint64_t i = 0; i < 100; i++)
        put_sized(e, c, i, 10);
    EXPECT_OK(mpe_cache_keys(e, c, 7, &b, &count));
    EXPECT_EQ(count, 7);
    EXPECT_OK(mpe_cache_keys(e, c, 0, &b, &count));
    EXPECT_EQ(count, 0);
    mpe_buf_free(&b);
    mpe_close(e);
}

static int
append_x(const uint8_t *value, size_t size, uint8_t out[16], size_t *out_size, void *ud)
{
    (void)ud;
    if (!value)
        return MPE_ENOENT;
    memcpy(out, value, size);
    out[size] = 'x';
    *out_size = size + 1;
    return MPE_OK;
}

TEST(an_edit_keeps_the_time_to_live)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *c = new_cache(e, 1 << 16);
    mpe_bytes k = mpe_test_bytes("k");
    uint64_t ttl;
    EXPECT_EQ(mpe_cache_edit(e, c, k, 0, append_x, NULL), MPE_ENOENT);
    EXPECT_OK(mpe_cache_put(e, c, k, mpe_test_bytes("v"), 0, 1000 * MS, MPE_CACHE_SET));
    EXPECT_OK(mpe_cache_edit(e, c, k, 0, append_x, NULL));
    EXPECT_STR(get(e, c, "k"), "vx");
    EXPECT_OK(mpe_cache_ttl(e, c, k, &ttl));
    EXPECT(ttl <= 1000 * MS);
    mpe_close(e);
}

TEST(an_object_in_a_value_lives_as_long_as_the_item)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *c = new_cache(e, 1 << 16), *event = mpe_test_event(e), *same;
    mpe_handle h = mpe_handle_of(e, event);
    mpe_buf b;
    mpe_bytes v = mpe_test_handle_bytes(&b, h);
    EXPECT_OK(mpe_cache_put(e, c, mpe_test_bytes("k"), v, 1, 0, MPE_CACHE_SET));
    mpe_drop(e, event);
    mpe_sweep(e);
    uint32_t mark = mpe_pin_mark(e);
    b.len = 0;
    EXPECT_OK(mpe_cache_get(e, c, mpe_test_bytes("k"), &b));
    EXPECT_OK(mpe_hold(e, h, &same));
    mpe_unpin(e, mark);
    mpe_drop(e, same);
    for (uint64_t i = 0; i < 3000; i++) /* it leaves for others */
        put_sized(e, c, i, 300);
    EXPECT(!has_whole(e, c, 10000));
    mpe_cache_remove(e, c, mpe_test_bytes("k"));
    mpe_sweep(e);
    EXPECT_EQ(mpe_hold(e, h, &same), MPE_ESTALE);
    mpe_buf_free(&b);
    mpe_close(e);
}

struct crowd {
    mpe_object *cache;
    uint32_t seed;
};

/* Puts, reads and removes some of a few keys, of all sizes. */
static void
churn(mpe_engine *e, void *arg)
{
    struct crowd *a = arg;
    uint32_t r = a->seed;
    for (int i = 0; i < 30000; i++) {
        uint64_t key = mpe_test_random(&r) % 200;
        switch (mpe_test_random(&r) % 8) {
        case 0:
        case 1:
            put_sized(e, a->cache, key, mpe_test_random(&r) % 3000);
            break;
        case 2:
            mpe_cache_remove(e, a->cache, number_key(key));
            break;
        case 3:
            if (mpe_test_random(&r) % 500 == 0)
                mpe_cache_clear(e, a->cache);
            break;
        default:
            has_whole(e, a->cache, key);
        }
    }
}

TEST_LIMIT(readers_never_see_half_an_item, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    struct crowd a[3];
    mpe_process *p[3];
    mpe_object *c = new_cache(e, 128 << 10);
    for (uint32_t i = 0; i < 3; i++) {
        a[i] = (struct crowd){c, i + 1};
        p[i] = mpe_test_start(e, churn, &a[i]);
    }
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(mpe_test_join(e, p[i]), 0);
    expect_no_cell_lost(e, c);
    mpe_test_check(e);
    mpe_close(e);
}

TEST(refuses_what_is_no_cache_or_too_small)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o;
    EXPECT_EQ(mpe_cache_create(e, 100, MPE_FOREVER, &o), MPE_EINVAL);
    EXPECT_EQ(mpe_cache_create(e, 1 << 20, 0, &o), MPE_EINVAL);
    EXPECT_OK(mpe_cache_create(e, MPE_CACHE_MIN_BYTES, MPE_FOREVER, &o));
    EXPECT_OK(put(e, o, "k", "v"));
    EXPECT_STR(get(e, o, "k"), "v");
    EXPECT_EQ(put(e, mpe_test_event(e), "k", "v"), MPE_ETYPE);
    mpe_close(e);
}
