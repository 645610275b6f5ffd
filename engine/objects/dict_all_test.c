/* SPDX-License-Identifier: MIT */
/* Dicts: many keys in one step. */
#include "testing/dicts.h"

#include <stdio.h>
#include <stdlib.h>

TEST(updates_many_keys)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *d = new_dict(e);
    EXPECT_OK(put(e, d, "0", "before"));
    EXPECT_OK(put(e, d, "mine", "stays"));
    EXPECT_OK(update(e, d, 0, ""));
    EXPECT_OK(update(e, d, 1, "one"));
    EXPECT_STR(get(e, d, "0"), "one");
    EXPECT_OK(update(e, d, 1000, "a value of some length"));
    EXPECT_EQ(mpe_dict_count(e, d), 1001);
    EXPECT_STR(get(e, d, "0"), "a value of some length");
    EXPECT_STR(get(e, d, "999"), "a value of some length");
    EXPECT_STR(get(e, d, "mine"), "stays");
    mpe_test_check(e);
    mpe_drop(e, d);
    EXPECT_EQ(mpe_test_used(e), 0);
    mpe_close(e);
}

TEST(an_update_takes_the_last_of_two_records_of_a_key)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *d = new_dict(e);
    mpe_buf b;
    mpe_buf_init(&b);
    add_record(&b, "k", "one");
    add_record(&b, "other", "");
    add_record(&b, "k", "two");
    EXPECT_OK(mpe_dict_update(e, d, b.data, 3, 0));
    EXPECT_STR(get(e, d, "k"), "two");
    EXPECT_EQ(mpe_dict_count(e, d), 2);
    mpe_buf_free(&b);
    mpe_drop(e, d);
    EXPECT_EQ(mpe_test_used(e), 0);
    mpe_close(e);
}

TEST(an_update_that_does_not_fit_changes_nothing)
{
    mpe_engine *e = mpe_test_engine(3u << 20);
    mpe_object *d = new_dict(e);
    static char value[3000];
    EXPECT_OK(put(e, d, "0", "before"));
    uint64_t used = mpe_test_used(e);
    memset(value, 'v', sizeof value - 1);
    EXPECT_EQ(update(e, d, 2000, value), MPE_EARENA);
    EXPECT_EQ(mpe_dict_count(e, d), 1);
    EXPECT_STR(get(e, d, "0"), "before");
    EXPECT(mpe_test_used(e) < used + 32 * 1024); /* tables may have grown */
    EXPECT_OK(put(e, d, "1", value));
    EXPECT_OK(update(e, d, 100, "small"));
    EXPECT_EQ(mpe_dict_count(e, d), 100);
    mpe_test_check(e);
    mpe_close(e);
}

#define MANY 40

/* Keys 0 to 39 get the same number, which increases; sometimes they are all removed first. */
static void
update_all(mpe_engine *e, void *arg)
{
    for (int n = 1000; n <= 1700; n++) {
        char value[16];
        snprintf(value, sizeof value, "%d", n);
        if (n % 10 == 0)
            mpe_dict_clear(e, arg);
        REQUIRE_OK(update(e, arg, MANY, value));
    }
}

static int
number_at(mpe_engine *e, mpe_object *d, const char *key)
{
    const char *value = get(e, d, key);
    return value ? atoi(value) : 0;
}

static void
check_all_or_none(mpe_engine *e, mpe_object *d)
{
    mpe_buf b;
    uint64_t count, of_all;
    mpe_buf_init(&b);
    REQUIRE_OK(mpe_dict_snapshot(e, d, &b, &count));
    REQUIRE(count == 0 || count == MANY);
    for (size_t at = 0; at < b.len;) {
        uint32_t sizes[2];
        memcpy(sizes, b.data + at, sizeof sizes);
        REQUIRE(sizes[1] == 4);
        if (at == 0)
            memcpy(&of_all, b.data + at + 8 + sizes[0], 4);
        REQUIRE(memcmp(&of_all, b.data + at + 8 + sizes[0], 4) == 0);
        at += (8 + (size_t)sizes[0] + sizes[1] + 7) & ~(size_t)7;
    }
    mpe_buf_free(&b);
}

TEST_LIMIT(no_reader_sees_a_part_of_an_update_or_a_clear, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *d = new_dict(e);
    mpe_process *p = mpe_test_start(e, update_all, d);
    for (int first = 0; first < 1700;) {
        check_all_or_none(e, d);
        first = number_at(e, d, "0"); /* key by key too, a later value is never older */
        int last = number_at(e, d, "39");
        REQUIRE(last == 0 || last >= first);
        EXPECT(mpe_dict_count(e, d) <= MANY);
    }
    EXPECT_EQ(mpe_test_join(e, p), 0);
    mpe_close(e);
}
