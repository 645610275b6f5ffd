/* SPDX-License-Identifier: MIT */
/* The changes of many keys of a dict, killed at every point: all of them have happened, or none. */
#include "testing/deaths.h"
#include "testing/dicts.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <stdio.h>
#include <string.h>

static mpe_object *dict;

/* The first byte of a key's value, 0 when it is absent. */
static int
initial_of(mpe_engine *e, const char *key)
{
    mpe_buf b;
    mpe_buf_init(&b);
    int rc = mpe_dict_get(e, dict, mpe_test_bytes(key), &b, NULL);
    int initial = rc == MPE_OK && b.len > 0 ? b.data[0] : 0;
    mpe_buf_free(&b);
    return initial;
}

static void *
dict_of_three(mpe_engine *e)
{
    REQUIRE_OK(mpe_dict_create(e, &dict));
    EXPECT_OK(update(e, dict, 3, "old"));
    return dict;
}

static void
update_some(mpe_engine *e, void *arg)
{
    update(e, arg, 5, "new");
}

static void
clear(mpe_engine *e, void *arg)
{
    mpe_dict_clear(e, arg);
}

/* The same for readers of single keys; nothing is lost, and the dict works. */
static void
check_whole(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg, (void)has_ended;
    mpe_test_reap(e);
    int first = initial_of(e, "0"), fifth = initial_of(e, "4");
    EXPECT(first == 'n' ? fifth == 'n' : fifth == 0 && (first == 'o' || first == 0));
    EXPECT_EQ(mpe_dict_count(e, dict), first == 'n' ? 5 : first == 'o' ? 3 : 0);
    EXPECT_OK(update(e, dict, 20, "afterwards"));
    EXPECT_EQ(mpe_dict_count(e, dict), 20);
    mpe_drop(e, dict);
    mpe_test_check(e);
    EXPECT_EQ(mpe_test_used(e), 0);
}

static void
kill_with_reapers(mpe_test_body *body)
{
    mpe_engine *e = mpe_test_engine(0);
    const struct mpe_test_deaths d = {dict_of_three, NULL, body, check_whole};
    mpe_test_kill_everywhere(e, &d);
    mpe_test_kill_reapers_everywhere(e, &d);
    mpe_close(e);
}

TEST_LIMIT(an_update_dies_as_a_whole_or_happens, 60)
{
    kill_with_reapers(update_some);
}

TEST_LIMIT(a_clear_dies_as_a_whole_or_happens, 60)
{
    kill_with_reapers(clear);
}
