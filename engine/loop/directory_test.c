/* SPDX-License-Identifier: MIT */
/* Names of objects. */
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include "loop/loop.h"

#include <sched.h>
#include <string.h>

TEST(an_object_is_found_by_its_name_until_that_is_taken_back)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *queue, *found = NULL;
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &queue));
    EXPECT_EQ(mpe_find(e, "jobs", MPE_NOW, &found), MPE_ENOENT);
    EXPECT_EQ(mpe_name(e, "jobs", NULL), MPE_ENOENT);
    EXPECT_OK(mpe_name(e, "jobs", queue));
    EXPECT_OK(mpe_find(e, "jobs", MPE_NOW, &found));
    EXPECT(found == queue);
    mpe_drop(e, found);
    EXPECT_EQ(mpe_name(e, "jobs", queue), MPE_EEXIST);
    EXPECT_EQ(mpe_find(e, "job", MPE_NOW, &found), MPE_ENOENT);
    EXPECT_OK(mpe_name(e, "jobs", NULL));
    EXPECT_EQ(mpe_find(e, "jobs", MPE_NOW, &found), MPE_ENOENT);
    EXPECT_EQ(mpe_name(e, "jobs", NULL), MPE_ENOENT);
    mpe_test_check(e);
    mpe_close(e);
}

TEST(a_name_keeps_its_object_alive)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *queue, *found;
    mpe_message m;
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &queue));
    EXPECT_OK(mpe_name(e, "jobs", queue));
    EXPECT_OK(mpe_test_put(e, queue, "x", 1));
    mpe_drop(e, queue);
    mpe_sweep(e);
    REQUIRE_OK(mpe_find(e, "jobs", MPE_FOREVER, &found));
    EXPECT_OK(mpe_queue_get(e, found, &m));
    mpe_message_free(e, &m);
    mpe_drop(e, found);
    EXPECT_EQ(mpe_test_objects(e), 1);
    EXPECT_OK(mpe_name(e, "jobs", NULL));
    mpe_sweep(e);
    EXPECT_EQ(mpe_test_objects(e), 0);
    mpe_test_check(e);
    mpe_close(e);
}

TEST(names_that_can_be_none_are_invalid)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *event = mpe_test_event(e), *found;
    char longest[257];
    memset(longest, 'n', 256);
    longest[256] = '\0';
    EXPECT_EQ(mpe_name(e, longest, event), MPE_EINVAL);
    EXPECT_EQ(mpe_find(e, longest, MPE_NOW, &found), MPE_EINVAL);
    longest[255] = '\0';
    EXPECT_OK(mpe_name(e, longest, event));
    EXPECT_OK(mpe_find(e, longest, MPE_NOW, &found));
    EXPECT_EQ(mpe_name(e, "", event), MPE_EINVAL);
    EXPECT_EQ(mpe_name(e, NULL, event), MPE_EINVAL);
    EXPECT_EQ(mpe_name(NULL, "x", event), MPE_EINVAL);
    EXPECT_EQ(mpe_find(e, "", MPE_NOW, &found), MPE_EINVAL);
    EXPECT_EQ(mpe_find(e, NULL, MPE_NOW, &found), MPE_EINVAL);
    EXPECT_EQ(mpe_find(e, "x", MPE_NOW, NULL), MPE_EINVAL);
    EXPECT_EQ(mpe_find(NULL, "x", MPE_NOW, &found), MPE_EINVAL);
    mpe_close(e);
}

TEST(a_search_can_be_made_of_steps)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *changed, *event = mpe_test_event(e), *found;
    struct mpe_test_waiter w = mpe_test_waiter_new();
    EXPECT_EQ(mpe_names_changed(e, NULL), MPE_EINVAL);
    REQUIRE_OK(mpe_names_changed(e, &changed));
    EXPECT_OK(mpe_wait_object(e, &w.w, changed, MPE_EVENT_READY, MPE_FOREVER));
    EXPECT_OK(mpe_name(e, "x", event));
    EXPECT_OK(mpe_run_until(e, &w.fired));
    EXPECT_OK(mpe_find(e, "x", MPE_NOW, &found));
    mpe_wait_done(e, &w.w);
    mpe_close(e);
}

TEST(an_object_of_another_arena_gets_no_name)
{
    mpe_engine *e = mpe_test_engine(0), *f = mpe_test_engine(0);
    EXPECT_EQ(mpe_name(e, "x", mpe_test_event(f)), MPE_ESTALE);
    mpe_close(f);
    mpe_close(e);
}

TEST(a_search_ends_at_its_deadline)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *found;
    EXPECT_EQ(mpe_find(e, "x", mpe_now() + 1000000, &found), MPE_ETIMEDOUT);
    EXPECT_EQ(mpe_find(e, "x", MPE_FOREVER, &found), MPE_EDEADLK);
    mpe_interrupt(e);
    mpe_keep_alive(e, 1);
    EXPECT_EQ(mpe_find(e, "x", MPE_FOREVER, &found), MPE_EINTR);
    mpe_close(e);
}

static void
find_and_answer(mpe_engine *e, void *ud)
{
    mpe_object *queue;
    (void)ud;
    EXPECT_OK(mpe_find(e, "answers", MPE_FOREVER, &queue));
    EXPECT_OK(mpe_test_put(e, queue, "x", 1));
    mpe_drop(e, queue);
    mpe_leave(e);
}

static void
wait_until_asleep(mpe_engine *e, uint32_t slot)
{
    while (mpe__load32(&e->slots[slot].sleep) != MPE__IN_FUTEX)
        sched_yield();
}

TEST(a_name_wakes_all_that_look_for_it)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_process *p[3];
    mpe_object *queue;
    mpe_message m;
    for (int i = 0; i < 3; i++)
        p[i] = mpe_test_start(e, find_and_answer, NULL);
    for (uint32_t i = 1; i < 4; i++)
        wait_until_asleep(e, i);
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &queue));
    EXPECT_OK(mpe_name(e, "answers", queue));
    for (int i = 0; i < 3; i++) {
        EXPECT_OK(mpe_test_get(e, queue, &m));
        mpe_message_free(e, &m);
        EXPECT_EQ(mpe_test_join(e, p[i]), 0);
    }
    mpe_test_check(e);
    mpe_close(e);
}
