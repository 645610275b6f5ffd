/* SPDX-License-Identifier: MIT */
/* The table of kinds: names, numbers, which events can be waited for, which handles name what. */
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <string.h>

/* Numbers are in handles that other versions may have written: those that were released stay. */
TEST(every_kind_has_its_number_and_name)
{
    static const char *const released[] = {
        NULL,        "Lock",    "RLock",         "Semaphore",       "Event",
        "Condition", "Barrier", "Queue",         "Array",           "Dict",
        "List",      "Pipe",    "Value",         "RawArray",        "RawValue",
        "Pipe",      "Blob",    "JoinableQueue", "BoundedSemaphore"};
    const int count = sizeof released / sizeof *released;
    EXPECT(MPE_KIND_COUNT >= count);
    for (int kind = 1; kind < MPE_KIND_COUNT; kind++)
        EXPECT(mpe_kind_name(kind) &&
               (kind >= count || strcmp(mpe_kind_name(kind), released[kind]) == 0));
    EXPECT(mpe_kind_name(MPE_KIND_NONE) == NULL);
    EXPECT(mpe_kind_name(MPE_KIND_COUNT) == NULL);
    EXPECT(mpe_kind_name(-1) == NULL);
}

static void
ignore(mpe_engine *e, mpe_waiter *w, int status)
{
    (void)e, (void)w, (void)status;
}

/* The events that can be waited for, as a set of bits. */
static unsigned
events_of(mpe_engine *e, mpe_object *o)
{
    unsigned set = 0;
    for (int event = -1; event <= MPE_EVENTS; event++) {
        mpe_waiter w = {.fire = ignore};
        int rc = mpe_wait_object(e, &w, o, event, MPE_FOREVER);
        EXPECT(rc == MPE_OK || rc == MPE_EINVAL);
        if (rc != MPE_OK)
            continue;
        EXPECT(event >= 0 && event < MPE_EVENTS);
        mpe_wait_stop(e, &w);
        set |= 1u << event;
    }
    mpe_drop(e, o);
    return set;
}

TEST(an_object_has_the_events_of_its_kind_and_no_others)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o;
    REQUIRE_OK(mpe_lock_create(e, 0, &o));
    EXPECT_EQ(events_of(e, o), 1);
    REQUIRE_OK(mpe_semaphore_create(e, 1, 1, &o));
    EXPECT_EQ(events_of(e, o), 1);
    REQUIRE_OK(mpe_barrier_create(e, 2, (mpe_bytes){NULL, 0}, &o));
    EXPECT_EQ(events_of(e, o), 1);
    REQUIRE_OK(mpe_condition_create(e, 0, &o));
    EXPECT_EQ(events_of(e, o), 1u << MPE_EVENT_READY | 1u << MPE_EVENT_NOTIFIED);
    REQUIRE_OK(mpe_queue_create(e, 1, MPE_QUEUE_JOINABLE, &o));
    EXPECT_EQ(events_of(e, o), 7);
    REQUIRE_OK(mpe_array_create(e, 'd', 1, MPE_ARRAY_VALUE, &o));
    EXPECT_EQ(events_of(e, o), 1);
    REQUIRE_OK(mpe_array_create(e, 'd', 1, MPE_ARRAY_RAW, &o));
    EXPECT_EQ(events_of(e, o), 0);
    REQUIRE_OK(mpe_dict_create(e, &o));
    EXPECT_EQ(events_of(e, o), 0);
    REQUIRE_OK(mpe_pipe_create(e, 1, &o));
    EXPECT_EQ(events_of(e, o), 0);
    mpe_close(e);
}

/* Which kinds a handle of the object may have, as a set of bits. */
static uint32_t
names_of(mpe_engine *e, mpe_object *o)
{
    uint32_t set = 0;
    mpe_handle h = mpe_handle_of(e, o) & ~(0xffull << 56);
    for (uint64_t kind = 0; kind < 256; kind++) {
        mpe_object *held;
        if (mpe_hold(e, h | kind << 56, &held) != MPE_OK)
            continue;
        EXPECT(held == o && kind < MPE_KIND_COUNT);
        set |= 1u << kind;
        mpe_drop(e, held);
    }
    mpe_drop(e, o);
    return set;
}

TEST(a_handle_names_its_kind_and_the_kinds_that_have_it_as_a_facet)
{
    mpe_engine *e = mpe_test_engine(0);
    const uint32_t lock = 1u << MPE_KIND_RLOCK;
    mpe_object *o;
    REQUIRE_OK(mpe_lock_create(e, 0, &o));
    EXPECT_EQ(names_of(e, o), 1u << MPE_KIND_LOCK);
    REQUIRE_OK(mpe_lock_create(e, 1, &o));
    EXPECT_EQ(names_of(e, o), lock);
    REQUIRE_OK(mpe_condition_create(e, 0, &o));
    EXPECT_EQ(names_of(e, o), 1u << MPE_KIND_CONDITION | lock);
    REQUIRE_OK(mpe_array_create(e, 'd', 1, 0, &o));
    EXPECT_EQ(names_of(e, o), 1u << MPE_KIND_ARRAY | lock);
    REQUIRE_OK(mpe_array_create(e, 'd', 1, MPE_ARRAY_VALUE, &o));
    EXPECT_EQ(names_of(e, o), 1u << MPE_KIND_VALUE | lock);
    REQUIRE_OK(mpe_array_create(e, 'd', 1, MPE_ARRAY_RAW, &o));
    EXPECT_EQ(names_of(e, o), 1u << MPE_KIND_RAW_ARRAY);
    REQUIRE_OK(mpe_pipe_create(e, 1, &o));
    EXPECT_EQ(names_of(e, o), 1u << MPE_KIND_PIPE | 1u << MPE_KIND_PIPE_OTHER);
    mpe_close(e);
}
