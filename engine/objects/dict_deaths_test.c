/* SPDX-License-Identifier: MIT */
/* Every change of one key of a dict, killed at every point: it has happened or it has not, the
 * rest is unchanged, counts are right, no block is lost, and the dict works. */
#include "core/object.h"
#include "testing/deaths.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <stdio.h>
#include <string.h>

static uint64_t empty; /* used when it was new */
static uint8_t large[3000];

static mpe_bytes
key_of(int i)
{
    static char text[16];
    snprintf(text, sizeof text, "%d", i);
    return mpe_test_bytes(text);
}

/* The key k has the value i % 2 ? large, of 1000 + i bytes : "old" */
static mpe_bytes
old_value(int i)
{
    return i % 2 ? (mpe_bytes){large, 1000 + (size_t)i} : mpe_test_bytes("old");
}

static void *
dict_of(mpe_engine *e, int count)
{
    mpe_test_forget(e);
    REQUIRE_OK(mpe_dict_create(e, &mpe_test_it));
    empty = mpe_test_used(e);
    for (int i = 0; i < count; i++)
        REQUIRE_OK(mpe_dict_put(e, mpe_test_it, key_of(i), old_value(i), 0));
    return mpe_test_it;
}

static void *
dict_of_3(mpe_engine *e)
{
    return dict_of(e, 3);
}

static void *
dict_of_4(mpe_engine *e)
{
    return dict_of(e, 4);
}

static void *
dict_of_30(mpe_engine *e)
{
    return dict_of(e, 30);
}

static void *
dict_of_200(mpe_engine *e)
{
    return dict_of(e, 200);
}

/* Keys below first have their old values; the others have one or none. Emptied, it has no more
 * memory than the tables of its stripes. */
static void
check_dict(mpe_engine *e, int first)
{
    mpe_buf key, value;
    uint64_t count;
    mpe_test_reap(e);
    mpe_buf_init(&key);
    mpe_buf_init(&value);
    EXPECT_OK(mpe_dict_snapshot(e, mpe_test_it, &key, &count));
    EXPECT_EQ(mpe_dict_count(e, mpe_test_it), count);
    for (int i = 0; i < first; i++) {
        value.len = 0;
        mpe_bytes old = old_value(i);
        EXPECT_OK(mpe_dict_get(e, mpe_test_it, key_of(i), &value, NULL));
        EXPECT(value.len == old.size && memcmp(value.data, old.data, old.size) == 0);
    }
    EXPECT_OK(
        mpe_dict_put(e, mpe_test_it, mpe_test_bytes("more"), mpe_test_bytes("afterwards"), 0));
    EXPECT_OK(mpe_dict_remove(e, mpe_test_it, mpe_test_bytes("more"), NULL));
    uint64_t removed = 0;
    for (; mpe_dict_pop_any(e, mpe_test_it, &key, &value) == MPE_OK; removed++)
        ;
    EXPECT_EQ(removed, count);
    EXPECT_EQ(mpe_dict_count(e, mpe_test_it), 0);
    EXPECT(mpe_test_used(e) <= empty + 32 * 256);
    mpe_test_check(e);
    mpe_buf_free(&key);
    mpe_buf_free(&value);
}

/* The victim changes the last key, or adds one. */
static int
value_size(mpe_engine *e, mpe_bytes key)
{
    mpe_buf b;
    mpe_buf_init(&b);
    int rc = mpe_dict_get(e, mpe_test_it, key, &b, NULL), size = rc == MPE_OK ? (int)b.len : -1;
    mpe_buf_free(&b);
    return size;
}

static void
put_new(mpe_engine *e, void *arg)
{
    mpe_dict_put(e, arg, mpe_test_bytes("new"), mpe_test_bytes("value"), 0);
}

static void
check_new(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg;
    int size = value_size(e, mpe_test_bytes("new"));
    EXPECT(size == 5 || (!has_ended && size == -1));
    check_dict(e, 3);
}

static void
replace(mpe_engine *e, void *arg)
{
    mpe_dict_put(e, arg, key_of(2), (mpe_bytes){large, 3000}, 0);
}

static void
check_replaced(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg;
    int size = value_size(e, key_of(2));
    EXPECT(size == 3000 || (!has_ended && size == 3));
    check_dict(e, 2);
}

/* Into the node of the old one: some words of it. */
static void
write_over(mpe_engine *e, void *arg)
{
    mpe_dict_put(e, arg, key_of(2), mpe_test_bytes("new value, longer"), 0);
}

/* Never a part of the new one, not even for readers without the lock, which continue when the
 * change is over. */
static void
check_written_over(mpe_engine *e, void *arg, bool has_ended)
{
    mpe_buf b;
    mpe_buf_init(&b);
    EXPECT_OK(mpe_dict_get(e, arg, key_of(2), &b, NULL));
    REQUIRE_OK(mpe_buf_append(&b, "", 1));
    if (has_ended || b.len > 4)
        EXPECT_STR((const char *)b.data, "new value, longer");
    else
        EXPECT_STR((const char *)b.data, "old");
    mpe_buf_free(&b);
    check_dict(e, 2);
}

static void
take_out(mpe_engine *e, void *arg)
{
    mpe_dict_remove(e, arg, key_of(2), NULL);
}

static void
check_taken_out(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg;
    int size = value_size(e, key_of(2));
    EXPECT(size == -1 || (!has_ended && size == 3));
    check_dict(e, 2);
}

static int
edit(const uint8_t *old, size_t old_size, uint8_t *bytes, size_t *size, void *ud)
{
    (void)old, (void)old_size, (void)ud;
    memcpy(bytes, "edited", 6);
    *size = 6;
    return MPE_OK;
}

/* The conditional puts, one after the other. */
static void
change_conditionally(mpe_engine *e, void *arg)
{
    uint64_t version;
    mpe_buf b;
    mpe_buf_init(&b);
    mpe_dict_edit(e, arg, key_of(2), edit, NULL);
    mpe_dict_get(e, arg, key_of(2), &b, &version);
    mpe_dict_put_if(e, arg, key_of(2), version, mpe_test_bytes("put_if"), 0);
    mpe_dict_put_new(e, arg, key_of(2), mpe_test_bytes("never"), 0);
    mpe_dict_get(e, arg, key_of(2), &b, &version);
    mpe_dict_remove_if(e, arg, key_of(2), version);
    mpe_dict_put_new(e, arg, key_of(2), mpe_test_bytes("put_new"), 0);
    mpe_buf_free(&b);
}

static void
check_conditionally(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg;
    int size = value_size(e, key_of(2));
    EXPECT(size == 7 || (!has_ended && (size == 3 || size == 6 || size == -1)));
    check_dict(e, 2);
}

/* Some of these let a stripe grow. */
static void
put_many(mpe_engine *e, void *arg)
{
    for (int i = 200; i < 206; i++)
        mpe_dict_put(e, arg, key_of(i), old_value(i), 0);
}

static void
check_many(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg;
    EXPECT(!has_ended || mpe_dict_count(e, mpe_test_it) == 206);
    check_dict(e, 200);
}

/* And of these to shrink. */
static void
take_out_most(mpe_engine *e, void *arg)
{
    for (int i = 199; i >= 26; i--)
        mpe_dict_remove(e, arg, key_of(i), NULL);
}

static void
take_out_more(mpe_engine *e, void *arg)
{
    for (int i = 25; i >= 20; i--)
        mpe_dict_remove(e, arg, key_of(i), NULL);
}

static void
check_more(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg;
    EXPECT(!has_ended || mpe_dict_count(e, mpe_test_it) == 20);
    check_dict(e, 20);
}

static void
clear_dict(mpe_engine *e, void *arg)
{
    mpe_dict_clear(e, arg);
}

static void
check_cleared(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg;
    EXPECT(!has_ended || mpe_dict_count(e, mpe_test_it) == 0);
    check_dict(e, 0);
}

static void
pop_two(mpe_engine *e, void *arg)
{
    mpe_buf b;
    mpe_buf_init(&b);
    mpe_dict_pop_any(e, arg, &b, &b);
    mpe_dict_pop_any(e, arg, &b, &b);
    mpe_buf_free(&b);
}

static void
check_popped(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg;
    mpe_test_reap(e);
    uint64_t count = mpe_dict_count(e, mpe_test_it);
    EXPECT(count == 1 || (!has_ended && (count == 2 || count == 3)));
    check_dict(e, 0);
}

static void
snapshot(mpe_engine *e, void *arg)
{
    mpe_buf b;
    uint64_t count;
    mpe_buf_init(&b);
    mpe_dict_snapshot(e, arg, &b, &count);
    mpe_buf_free(&b);
}

static void
check_unchanged(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg, (void)has_ended;
    check_dict(e, 30);
}

TEST_LIMIT(putting_a_new_key_into_a_dict, 60)
{
    mpe_test_deaths_everywhere((struct mpe_test_deaths){dict_of_3, NULL, put_new, check_new});
    mpe_test_deaths_of_reapers((struct mpe_test_deaths){dict_of_3, NULL, put_new, check_new});
}

TEST_LIMIT(replacing_a_value_in_a_dict, 60)
{
    mpe_test_deaths_everywhere((struct mpe_test_deaths){dict_of_3, NULL, replace, check_replaced});
    mpe_test_deaths_of_reapers((struct mpe_test_deaths){dict_of_3, NULL, replace, check_replaced});
}

TEST_LIMIT(writing_over_a_value_in_a_dict, 60)
{
    mpe_test_deaths_everywhere(
        (struct mpe_test_deaths){dict_of_3, NULL, write_over, check_written_over});
    mpe_test_deaths_of_reapers(
        (struct mpe_test_deaths){dict_of_3, NULL, write_over, check_written_over});
}

TEST_LIMIT(removing_a_key_from_a_dict, 60)
{
    mpe_test_deaths_everywhere(
        (struct mpe_test_deaths){dict_of_3, NULL, take_out, check_taken_out});
    mpe_test_deaths_of_reapers(
        (struct mpe_test_deaths){dict_of_3, NULL, take_out, check_taken_out});
}

TEST_LIMIT(changing_a_dict_on_a_condition, 60)
{
    mpe_test_deaths_everywhere(
        (struct mpe_test_deaths){dict_of_3, NULL, change_conditionally, check_conditionally});
}

TEST_LIMIT(growing_a_dict, 60)
{
    mpe_test_deaths_everywhere((struct mpe_test_deaths){dict_of_200, NULL, put_many, check_many});
}

TEST_LIMIT(shrinking_a_dict, 60)
{
    mpe_test_deaths_everywhere(
        (struct mpe_test_deaths){dict_of_200, take_out_most, take_out_more, check_more});
}

TEST_LIMIT(clearing_a_dict, 60)
{
    mpe_test_deaths_everywhere(
        (struct mpe_test_deaths){dict_of_4, NULL, clear_dict, check_cleared});
}

TEST_LIMIT(popping_from_a_dict, 60)
{
    mpe_test_deaths_everywhere((struct mpe_test_deaths){dict_of_3, NULL, pop_two, check_popped});
}

TEST_LIMIT(taking_a_snapshot_of_a_dict, 60)
{
    mpe_test_deaths_everywhere(
        (struct mpe_test_deaths){dict_of_30, NULL, snapshot, check_unchanged});
}
