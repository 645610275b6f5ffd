/* SPDX-License-Identifier: MIT */
/* Looking at an arena: what is told of objects and of this process. */
#include "mpengine_core.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

TEST(an_object_tells_its_kind_handle_and_depth)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *queue;
    mpe_object_info before, after;
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &queue));
    mpe_object_info_get(e, queue, &before);
    EXPECT_EQ(before.kind, MPE_KIND_QUEUE);
    EXPECT_EQ(before.handle, mpe_handle_of(e, queue));
    EXPECT_EQ(before.holders, 1);
    EXPECT_EQ(before.depth, 0);
    for (int i = 0; i < 3; i++)
        REQUIRE_OK(mpe_test_put(e, queue, "item", 4));
    mpe_object_info_get(e, queue, &after);
    EXPECT_EQ(after.depth, 3);
    EXPECT(after.bytes >= before.bytes);
    mpe_close(e);
}

TEST(an_object_grows_with_its_elements)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *few, *many;
    mpe_object_info a, b;
    REQUIRE_OK(mpe_array_create(e, 'd', 1, 0, &few));
    REQUIRE_OK(mpe_array_create(e, 'd', 10000, 0, &many));
    mpe_object_info_get(e, few, &a);
    mpe_object_info_get(e, many, &b);
    EXPECT_EQ(a.depth, 1);
    EXPECT_EQ(b.depth, 10000);
    EXPECT(b.bytes >= 80000 && a.bytes < 80000);
    mpe_close(e);
}

TEST(a_waiter_is_counted_once_per_process_and_object)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *event = mpe_test_event(e);
    mpe_object_info info;
    struct mpe_test_waiter first = mpe_test_waiter_new(), second = mpe_test_waiter_new();
    REQUIRE_OK(mpe_wait_object(e, &first.w, event, MPE_EVENT_READY, MPE_FOREVER));
    REQUIRE_OK(mpe_wait_object(e, &second.w, event, MPE_EVENT_READY, MPE_FOREVER));
    mpe_object_info_get(e, event, &info);
    EXPECT_EQ(info.waiters, 1);
    mpe_wait_stop(e, &first.w);
    mpe_wait_stop(e, &second.w);
    mpe_object_info_get(e, event, &info);
    EXPECT_EQ(info.waiters, 0);
    mpe_close(e);
}

static void
hold_until_told(mpe_engine *e, void *arg)
{
    struct mpe_test_gate *gates = arg;
    (void)e; /* a forked child holds what its parent held */
    mpe_test_gate_open(gates[0]);
    mpe_test_gate_wait(gates[1]);
}

TEST(each_process_that_holds_an_object_is_counted)
{
    mpe_test_needs_deaths();
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *event = mpe_test_event(e);
    mpe_object_info info;
    struct mpe_test_gate gates[2] = {mpe_test_gate_new(), mpe_test_gate_new()};
    mpe_process *child = mpe_test_start(e, hold_until_told, gates);
    mpe_test_gate_wait(gates[0]);
    mpe_object_info_get(e, event, &info);
    EXPECT_EQ(info.holders, 2);
    mpe_test_gate_open(gates[1]);
    EXPECT_EQ(mpe_test_join(e, child), 0);
    mpe_reap_dead(e);
    mpe_object_info_get(e, event, &info);
    EXPECT_EQ(info.holders, 1);
    mpe_close(e);
}
