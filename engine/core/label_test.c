/* SPDX-License-Identifier: MIT */
/* Names of objects and the places where they were made. */
#include "core/label.h"
#include "core/object.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <stdio.h>
#include <string.h>

static void
expect_name(mpe_engine *e, mpe_object *o, const char *text)
{
    mpe_bytes name = mpe_object_name(e, o);
    if (EXPECT_EQ(name.size, strlen(text)))
        EXPECT(memcmp(name.data, text, name.size) == 0);
}

TEST(an_object_has_the_name_that_its_maker_gave)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o, *plain;
    REQUIRE_OK(mpe_event_create(e, &o));
    REQUIRE_OK(mpe_event_create(e, &plain));
    REQUIRE_OK(mpe_object_label(e, o, mpe_test_bytes("jobs"), 0));
    expect_name(e, o, "jobs");
    EXPECT(mpe_object_name(e, plain).data == NULL);
    REQUIRE_OK(mpe_object_label(e, o, mpe_test_bytes("another"), 0));
    expect_name(e, o, "another");
    REQUIRE_OK(mpe_object_label(e, o, (mpe_bytes){NULL, 0}, 3));
    EXPECT(mpe_object_name(e, o).data == NULL);
    EXPECT_EQ(mpe_object_label(e, NULL, mpe_test_bytes("x"), 0), MPE_EINVAL);
    mpe_close(e);
}

TEST(a_name_is_freed_with_its_object)
{
    mpe_engine *e = mpe_test_engine(0);
    uint64_t before = mpe_test_used(e);
    for (int i = 0; i < 100; i++) {
        mpe_object *o;
        REQUIRE_OK(mpe_lock_create(e, 0, &o));
        REQUIRE_OK(mpe_object_label(e, o, mpe_test_bytes("a name of some length"), 0));
        mpe_drop(e, o);
    }
    EXPECT_EQ(mpe_test_used(e), before);
    mpe_test_check(e);
    mpe_close(e);
}

TEST(a_new_object_in_a_used_entry_has_no_label)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o, *next;
    REQUIRE_OK(mpe_lock_create(e, 0, &o));
    REQUIRE_OK(mpe_object_label(e, o, mpe_test_bytes("first"), mpe_place_note(e, "a.lua:1")));
    mpe_drop(e, o);
    REQUIRE_OK(mpe_lock_create(e, 0, &next));
    EXPECT(next == o);
    EXPECT(mpe_object_name(e, next).data == NULL);
    EXPECT_EQ(mpe__load64(&next->label), 0);
    mpe_close(e);
}

TEST(a_place_is_kept_once)
{
    mpe_engine *e = mpe_test_engine(0);
    char text[300];
    uint32_t first = mpe_place_note(e, "script.lua:12");
    EXPECT(strcmp(mpe_place_text(e, first), "script.lua:12") == 0);
    EXPECT(mpe_place_text(e, 0) == NULL && mpe_place_text(e, first + 1) == NULL);
    EXPECT(first != 0);
    EXPECT(mpe_place_note(e, "script.lua:13") != first);
    EXPECT_EQ(mpe_place_note(e, "script.lua:12"), first);
    EXPECT(strcmp(mpe__place_text(e, first), "script.lua:12") == 0);
    EXPECT(mpe__place_text(e, 0) == NULL);
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    uint32_t longest = mpe_place_note(e, text);
    EXPECT_EQ(strlen(mpe__place_text(e, longest)), MPE__PLACE_BYTES - 1);
    EXPECT_EQ(mpe_place_note(e, text), longest);
    mpe_close(e);
}

TEST(places_that_find_no_room_have_no_number)
{
    mpe_engine *e = mpe_test_engine(0);
    char text[32];
    for (uint32_t i = 1; i <= MPE__PLACES; i++) {
        snprintf(text, sizeof text, "script.lua:%u", i);
        EXPECT_EQ(mpe_place_note(e, text), i);
    }
    EXPECT_EQ(mpe_place_note(e, "one more"), 0);
    EXPECT_EQ(mpe_place_note(e, "script.lua:7"), 7);
    mpe_test_check(e);
    mpe_close(e);
}
