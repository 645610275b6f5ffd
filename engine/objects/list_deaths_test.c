/* SPDX-License-Identifier: MIT */
/* Every change of a list, killed at every point: it has happened or it has not, the rest is
 * unchanged, no block is lost, and the list works. */
#include "core/object.h"
#include "testing/deaths.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <string.h>

#define LAST UINT64_MAX

static uint64_t empty; /* used when it was new */

/* Items of 100 bytes, numbered from 1. */
static mpe_bytes
item(int i)
{
    static uint8_t bytes[100];
    bytes[0] = (uint8_t)i;
    return (mpe_bytes){bytes, sizeof bytes};
}

static void *
list_of_eight(mpe_engine *e)
{
    mpe_test_forget(e);
    REQUIRE_OK(mpe_list_create(e, &mpe_test_it));
    empty = mpe_test_used(e);
    for (int i = 1; i <= 8; i++)
        REQUIRE_OK(mpe_list_insert(e, mpe_test_it, LAST, item(i), 0));
    return mpe_test_it;
}

/* The contents of the list, as a text of digits. */
static const char *
contents(mpe_engine *e)
{
    static char text[64];
    mpe_buf b;
    uint64_t count, version;
    mpe_buf_init(&b);
    EXPECT_OK(mpe_list_snapshot(e, mpe_test_it, &b, &count, &version));
    REQUIRE(count < sizeof text && b.len == count * 112);
    for (size_t i = 0; i < count; i++) {
        EXPECT_EQ(*(const uint32_t *)(b.data + i * 112 + 4), 100);
        text[i] = (char)('0' + b.data[i * 112 + 8]);
    }
    text[count] = '\0';
    mpe_buf_free(&b);
    return text;
}

static const char *before = "12345678", *after;

static void
check_list(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg;
    mpe_test_reap(e);
    const char *is = contents(e);
    if (has_ended)
        EXPECT_STR(is, after);
    else
        EXPECT(strcmp(is, before) == 0 || strcmp(is, after) == 0);
    EXPECT_OK(mpe_list_insert(e, mpe_test_it, 3, item(9), 0));
    while (mpe_list_remove(e, mpe_test_it, LAST, NULL) == MPE_OK)
        ;
    EXPECT(mpe_test_used(e) <= empty + 64);
    mpe_test_check(e);
}

/* One item after the other: a prefix of them is there. */
static void
check_extended(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg;
    mpe_test_reap(e);
    const char *is = contents(e);
    EXPECT(strncmp(is, after, strlen(is)) == 0 && strlen(is) >= 8);
    before = is;
    check_list(e, arg, has_ended);
    before = "12345678";
}

static void
check_list_cleared(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg;
    mpe_test_reap(e);
    const char *is = contents(e);
    EXPECT(strncmp(is, before, strlen(is)) == 0);
    EXPECT(!has_ended || !*is);
    EXPECT_OK(mpe_list_insert(e, mpe_test_it, LAST, item(9), 0));
    while (mpe_list_remove(e, mpe_test_it, LAST, NULL) == MPE_OK)
        ;
    EXPECT(mpe_test_used(e) <= empty + 64);
}

static void
append_ninth(mpe_engine *e, void *arg)
{
    mpe_list_insert(e, arg, LAST, item(9), 0);
}

static void
insert_first(mpe_engine *e, void *arg)
{
    mpe_list_insert(e, arg, 0, item(9), 0);
}

static void
set_third(mpe_engine *e, void *arg)
{
    mpe_list_set(e, arg, 2, item(9), 0);
}

static void
remove_first(mpe_engine *e, void *arg)
{
    mpe_list_remove(e, arg, 0, NULL);
}

static void
remove_last(mpe_engine *e, void *arg)
{
    mpe_list_remove(e, arg, LAST, NULL);
}

static void
reverse(mpe_engine *e, void *arg)
{
    static const uint64_t order[] = {7, 6, 5, 4, 3, 2, 1, 0};
    mpe_list_reorder(e, arg, mpe__load64(&((mpe_object *)arg)->word), order, 8);
}

static void
extend(mpe_engine *e, void *arg)
{
    uint8_t bytes[3][100] = {{9}, {10}, {11}};
    mpe_bytes items[3] = {{bytes[0], 100}, {bytes[1], 100}, {bytes[2], 100}};
    mpe_list_extend(e, arg, items, 3, 0);
}

static void
clear_list(mpe_engine *e, void *arg)
{
    mpe_list_clear(e, arg);
}

static void
change_list(mpe_test_body *body, const char *result)
{
    after = result;
    mpe_test_deaths_everywhere((struct mpe_test_deaths){list_of_eight, NULL, body, check_list});
}

TEST_LIMIT(appending_to_a_list, 60)
{
    change_list(append_ninth, "123456789");
}

TEST_LIMIT(inserting_into_a_list, 60)
{
    change_list(insert_first, "912345678");
}

TEST_LIMIT(replacing_an_item_of_a_list, 60)
{
    change_list(set_third, "12945678");
}

TEST_LIMIT(removing_from_a_list, 60)
{
    change_list(remove_first, "2345678");
    change_list(remove_last, "1234567");
}

TEST_LIMIT(reordering_a_list, 60)
{
    change_list(reverse, "87654321");
}

TEST_LIMIT(extending_a_list, 60)
{
    after = "12345678"
            "9:;";
    mpe_test_deaths_everywhere(
        (struct mpe_test_deaths){list_of_eight, NULL, extend, check_extended});
}

TEST_LIMIT(clearing_a_list, 60)
{
    mpe_test_deaths_everywhere(
        (struct mpe_test_deaths){list_of_eight, NULL, clear_list, check_list_cleared});
}

TEST_LIMIT(changing_a_list_while_reapers_die, 60)
{
    after = "912345678";
    mpe_test_deaths_of_reapers(
        (struct mpe_test_deaths){list_of_eight, NULL, insert_first, check_list});
    after = "2345678";
    mpe_test_deaths_of_reapers(
        (struct mpe_test_deaths){list_of_eight, NULL, remove_first, check_list});
}
