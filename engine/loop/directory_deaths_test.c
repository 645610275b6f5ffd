/* SPDX-License-Identifier: MIT */
/* A process that gives a name, takes it back, or makes the directory with it, may be killed at any
 * point: the name is there or not, and those that look for it hear of it. */
#include "loop/loop.h"

#include "testing/deaths.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

static void
name_it(mpe_engine *e, void *o)
{
    EXPECT_OK(mpe_name(e, "it", o));
}

static void
take_it_back(mpe_engine *e, void *o)
{
    (void)o;
    EXPECT_OK(mpe_name(e, "it", NULL));
}

static void
check_and_forget(mpe_engine *e, void *o, bool has_ended)
{
    mpe_object *found;
    mpe_test_reap(e);
    int rc = mpe_find(e, "it", MPE_NOW, &found);
    EXPECT(rc == MPE_OK || (rc == MPE_ENOENT && !has_ended));
    if (rc == MPE_OK) {
        EXPECT(found == o);
        mpe_drop(e, found);
        EXPECT_OK(mpe_name(e, "it", NULL));
    }
    EXPECT_OK(mpe_name(e, "it", o));
    EXPECT_OK(mpe_name(e, "it", NULL));
}

static void *
unnamed(mpe_engine *e)
{
    if (!mpe_test_it)
        mpe_test_it = mpe_test_event(e);
    return mpe_test_it;
}

TEST_LIMIT(a_name_is_given_or_not, 60)
{
    mpe_test_deaths_of_reapers(
        (struct mpe_test_deaths){.fresh = unnamed, .body = name_it, .check = check_and_forget});
}

static void *
named(mpe_engine *e)
{
    mpe_object *o = unnamed(e);
    EXPECT_OK(mpe_name(e, "it", o));
    return o;
}

static void
check_taken(mpe_engine *e, void *o, bool has_ended)
{
    mpe_test_reap(e);
    int rc = mpe_name(e, "it", NULL);
    EXPECT(rc == MPE_ENOENT || (rc == MPE_OK && !has_ended));
    (void)o;
}

TEST_LIMIT(a_name_is_taken_back_or_not, 60)
{
    mpe_test_deaths_of_reapers(
        (struct mpe_test_deaths){.fresh = named, .body = take_it_back, .check = check_taken});
}

static void
find_it(mpe_engine *e, void *o)
{
    mpe_object *found;
    (void)o;
    if (mpe_find(e, "it", MPE_FOREVER, &found) == MPE_OK)
        mpe_drop(e, found);
}

static bool
is_named(mpe_engine *e, void *o)
{
    mpe_object *found;
    (void)o;
    int rc = mpe_find(e, "it", MPE_NOW, &found);
    if (rc == MPE_OK)
        mpe_drop(e, found);
    return rc == MPE_OK;
}

static void
name_unless_named(mpe_engine *e, void *o)
{
    int rc = mpe_name(e, "it", o);
    EXPECT(rc == MPE_OK || rc == MPE_EEXIST);
}

TEST_LIMIT(a_process_that_looks_for_a_name_hears_of_it, 60)
{
    mpe_test_deaths_beside_a_waiter((struct mpe_test_wait){
        .deaths = {.fresh = unnamed, .body = name_it, .check = check_and_forget},
        .wait = find_it,
        .is_due = is_named,
        .release = name_unless_named});
}

TEST_LIMIT(the_directory_is_made_or_not, 60)
{
    for (long point = 1;; point = mpe_test_next_point(point)) {
        mpe_engine *e = mpe_test_engine(0);
        mpe_object *o = mpe_test_event(e);
        bool has_ended = mpe_test_kill_at(e, NULL, name_it, o, point);
        check_and_forget(e, o, has_ended);
        mpe_sweep(e);
        EXPECT_EQ(mpe_test_objects(e), 1);
        mpe_test_check(e);
        mpe_drop(e, o);
        mpe_close(e);
        if (has_ended)
            break;
    }
}
