/* SPDX-License-Identifier: MIT */
/* A process is killed before each store while it writes an element that is a struct: the next owner
 * of the lock finds the old element or the new one. */
#include "mpengine_core.h"

#include "testing/deaths.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <string.h>

struct item {
    int64_t x;
    char tag;
    short h[5];
    double y;
};
#define ITEM "x:q,tag:c,h:h5,y:d"
#define COUNT 5

/* The same for elements of another alignment. */
struct small {
    short a;
    char text[5];
};
#define SMALL "a:h,text:c5"

static struct item
item_of(int n)
{
    struct item t;
    memset(&t, 0, sizeof t);
    t.x = n;
    t.tag = (char)('a' + n);
    for (int i = 0; i < 5; i++)
        t.h[i] = (short)(100 * n + i);
    t.y = n / 4.0;
    return t;
}

static mpe_object *array;

static void *
new_items(mpe_engine *e)
{
    if (array)
        mpe_drop(e, array);
    REQUIRE_OK(mpe_struct_create(e, ITEM, COUNT, 0, 0, &array));
    for (int i = 0; i < COUNT; i++)
        ((struct item *)mpe_array_data(e, array, NULL, NULL))[i] = item_of(1);
    return array;
}

static void
store_third(mpe_engine *e, void *arg)
{
    struct item t = item_of(2);
    mpe_rlock_acquire(e, arg, 1);
    mpe_struct_store(e, arg, 2, &t);
    mpe_rlock_release(e, arg, 1);
}

static void
store_third_of_a_view(mpe_engine *e, void *arg)
{
    struct item t = item_of(2);
    mpe_object *view;
    if (mpe_array_view(e, arg, &(mpe_part){.first = 4, .length = 3, .step = -2}, &view) != MPE_OK)
        return;
    mpe_rlock_acquire(e, arg, 1);
    mpe_struct_store(e, view, 1, &t);
    mpe_rlock_release(e, arg, 1);
    mpe_drop(e, view);
}

static int
is_item(mpe_engine *e, uint64_t i, int n)
{
    struct item got, want = item_of(n);
    REQUIRE_OK(mpe_struct_load(e, array, i, &got));
    return memcmp(&got, &want, sizeof got) == 0;
}

static void
check_items(mpe_engine *e, void *arg, bool has_ended)
{
    mpe_test_reap(e);
    int rc = mpe_rlock_acquire(e, arg, 1);
    EXPECT(rc == MPE_OK || (!has_ended && rc == MPE_OWNER_DIED));
    EXPECT(is_item(e, 2, 2) || (!has_ended && is_item(e, 2, 1)));
    for (uint64_t i = 0; i < COUNT; i++)
        EXPECT(i == 2 || is_item(e, i, 1));
    EXPECT_STR(mpe_struct_layout(e, arg), ITEM);
    store_third(e, arg);
    EXPECT(is_item(e, 2, 2));
    EXPECT_OK(mpe_rlock_release(e, arg, 1));
}

static void
kill_in(mpe_test_body *body, void (*how)(mpe_engine *, const struct mpe_test_deaths *))
{
    mpe_engine *e = mpe_test_engine(0);
    how(e, &(struct mpe_test_deaths){new_items, NULL, body, check_items});
    mpe_drop(e, array);
    mpe_test_sweep(e);
    EXPECT_EQ(mpe_test_used(e), 0);
    mpe_test_check(e);
    mpe_close(e);
}

TEST_LIMIT(an_element_is_stored_or_not, 60)
{
    kill_in(store_third, mpe_test_kill_everywhere);
}

TEST_LIMIT(an_element_of_a_view_is_stored_or_not, 60)
{
    kill_in(store_third_of_a_view, mpe_test_kill_everywhere);
}

TEST_LIMIT(an_element_is_stored_or_not_though_reapers_die, 60)
{
    kill_in(store_third, mpe_test_kill_reapers_everywhere);
}

TEST(a_store_without_the_lock_leaves_that_of_its_owner)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *raw;
    struct small one = {1, "one"}, two = {2, "two"}, got;
    struct item t = item_of(3);
    REQUIRE_OK(mpe_struct_create(e, SMALL, 2, 0, MPE_ARRAY_RAW, &raw));
    EXPECT_OK(mpe_struct_store(e, raw, 0, &one));
    EXPECT_OK(mpe_struct_store(e, raw, 1, &two));
    EXPECT_OK(mpe_struct_load(e, raw, 0, &got));
    EXPECT(got.a == 1 && strcmp(got.text, "one") == 0);
    EXPECT_EQ(mpe_struct_store(e, raw, 2, &one), MPE_ERANGE);
    EXPECT_EQ(mpe_struct_load(e, raw, UINT64_MAX, &got), MPE_ERANGE);
    EXPECT_EQ(mpe_struct_load(e, raw, 0, NULL), MPE_EINVAL);
    EXPECT_EQ(mpe_struct_store(e, raw, 0, NULL), MPE_EINVAL);
    new_items(e);
    EXPECT_OK(mpe_struct_store(e, array, 4, &t));
    EXPECT(is_item(e, 4, 3) && is_item(e, 3, 1));
    mpe_object *number;
    REQUIRE_OK(mpe_array_create(e, 'd', 1, 0, &number));
    EXPECT_EQ(mpe_struct_store(e, number, 0, &t), MPE_ETYPE);
    mpe_close(e);
}

TEST(a_lock_is_left_as_that_of_the_dead)
{
    mpe_engine *e = mpe_test_engine(0);
    new_items(e);
    EXPECT_EQ(mpe_rlock_abandon(e, array, 1), MPE_EPERM);
    EXPECT_OK(mpe_rlock_acquire(e, array, 1));
    EXPECT_EQ(mpe_rlock_abandon(e, array, 2), MPE_EPERM);
    EXPECT_OK(mpe_rlock_acquire(e, array, 1));
    EXPECT_EQ(mpe_rlock_abandon(e, array, 1), MPE_EPERM);
    EXPECT_OK(mpe_rlock_release(e, array, 1));
    EXPECT_OK(mpe_rlock_abandon(e, array, 1));
    EXPECT_EQ(mpe_rlock_acquire(e, array, 2), MPE_OWNER_DIED);
    EXPECT_OK(mpe_rlock_release(e, array, 2));
    mpe_close(e);
}
