/* SPDX-License-Identifier: MIT */
/* Processes that are killed while they start and exit: at each point of a child's life, from
 * before it has its slot until after it has left it, and of a parent that starts one. No slot,
 * hold or block is lost. */
#include "core/object.h"
#include "core/bell.h"
#include "core/slot.h"
#include "testing/deaths.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <sched.h>
#include <unistd.h>

static mpe_object *queue;
static unsigned flags; /* of a start */

static void
begin(mpe_engine *e)
{
    REQUIRE_OK(mpe_queue_create(e, 0, MPE_QUEUE_JOINABLE, &queue));
}

static uint32_t
slots_in_use(mpe_engine *e)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < MPE__SLOTS; i++)
        n += mpe__load32(&e->slots[i].state) != MPE__SLOT_FREE;
    return n;
}

/* Nothing is left but this process and its queue. */
static void
check_alone(mpe_engine *e, uint64_t used)
{
    EXPECT_EQ(slots_in_use(e), 1);
    mpe_test_reap(e);
    EXPECT_EQ(mpe__set_count(&queue->holders), 1);
    while (mpe_queue_size(e, queue) > 0) {
        mpe_message m;
        EXPECT_OK(mpe_queue_get(e, queue, &m));
        mpe_message_free(e, &m);
        EXPECT_OK(mpe_queue_task_done(e, queue));
    }
    mpe_test_sweep(e);
    EXPECT(mpe_test_used(e) <= used);
}

static void
make_and_put(mpe_engine *e, void *arg)
{
    mpe_object *list;
    mpe_bytes part = {"hello", 5};
    (void)arg;
    mpe_queue_put(e, queue, &part, 1, 0);
    mpe_list_create(e, &list); /* not dropped */
}

TEST_LIMIT(a_child_killed_anywhere_in_its_life_leaves_nothing, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    bool has_ended = false;
    begin(e);
    uint64_t used = mpe_test_used(e);
    for (long point = 1; !has_ended; point = mpe_test_next_point(point)) {
        mpe_process *p;
        int code = 0, before = mpe_test_failures();
        has_ended = mpe_test_kill_child_at(e, make_and_put, NULL, point, &p);
        EXPECT_OK(mpe_process_poll(e, p, &code));
        EXPECT_EQ(code, has_ended ? 0 : -9);
        mpe_process_free(e, p);
        check_alone(e, used);
        if (mpe_test_failures() > before)
            mpe_test_fail(__FILE__, __LINE__, "  after a death before %s", mpe_test_death());
    }
    mpe_close(e);
}

static void
nothing(mpe_engine *e, void *arg)
{
    (void)e, (void)arg;
}

static void
start_and_join(mpe_engine *e, void *arg)
{
    int code, is_child;
    mpe_process *p;
    mpe_buf b;
    mpe_buf_init(&b);
    mpe_wire_put_handle(&b, mpe_handle_of(e, queue));
    (void)arg;
    if (mpe_process_fork(e, "grandchild", flags, (mpe_bytes){b.data, b.len}, &p, &is_child) !=
        MPE_OK)
        return;
    if (is_child) {
        nothing(e, NULL);
        mpe_close(e);
        _exit(0);
    }
    mpe_process_join(e, p, MPE_FOREVER, &code);
    mpe_process_free(e, p);
    mpe_buf_free(&b);
}

static void
kill_starters(void)
{
    mpe_engine *e = mpe_test_engine(0);
    bool has_ended = false;
    begin(e);
    uint64_t used = mpe_test_used(e);
    for (long point = 1; !has_ended; point = mpe_test_next_point(point)) {
        int before = mpe_test_failures();
        has_ended = mpe_test_kill_at(e, NULL, start_and_join, NULL, point);
        while (slots_in_use(e) > 1) { /* a grandchild may still run, and leaves by itself */
            mpe_reap_dead(e);
            sched_yield();
        }
        check_alone(e, used);
        if (mpe_test_failures() > before)
            mpe_test_fail(__FILE__, __LINE__, "  after a death before %s", mpe_test_death());
    }
    mpe_close(e);
}

TEST_LIMIT(a_parent_killed_while_it_starts_a_child_leaves_nothing, 60)
{
    kill_starters();
}

TEST_LIMIT(a_parent_killed_while_it_starts_a_bound_child_leaves_nothing, 60)
{
    flags = MPE_PROCESS_BOUND;
    kill_starters();
}

/* Before it has its slot, and the parent never asks for it. */
TEST_LIMIT(children_that_die_at_once_use_up_no_slots, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_process *p;
    begin(e);
    for (int i = 0; i < 300; i++) {
        mpe_test_kill_child_at(e, nothing, NULL, 1, &p);
        mpe_process_free(e, p);
    }
    EXPECT(mpe_reap_dead(e) > 0);
    EXPECT_EQ(slots_in_use(e), 1);
    EXPECT_EQ(mpe__set_count(&queue->holders), 1);
    mpe_close(e);
}

TEST_LIMIT(objects_held_for_a_child_that_died_at_once_are_swept, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_process *p;
    begin(e);
    uint64_t used = mpe_test_used(e);
    mpe_object *list;
    REQUIRE_OK(mpe_list_create(e, &list));
    mpe_test_kill_child_at(e, nothing, NULL, 1, &p);
    mpe_process_free(e, p);
    mpe_drop(e, list);
    mpe_test_sweep(e);
    EXPECT_EQ(mpe_test_used(e), used);
    EXPECT_EQ(slots_in_use(e), 1);
    mpe_close(e);
}

static void *
alone(mpe_engine *e)
{
    (void)e;
    return NULL;
}

static void
reserve(mpe_engine *e, void *arg)
{
    uint32_t slot;
    (void)arg;
    mpe__slot_reserve(e, "child", &slot);
}

static void
check_slots(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg, (void)has_ended;
    mpe_test_reap(e);
    EXPECT_EQ(slots_in_use(e), 1);
}

TEST_LIMIT(a_slot_reserved_by_the_dead_is_free_again_though_reapers_die, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_test_kill_reapers_everywhere(e,
                                     &(struct mpe_test_deaths){alone, NULL, reserve, check_slots});
    mpe_close(e);
}
