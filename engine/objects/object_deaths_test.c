/* SPDX-License-Identifier: MIT */
/* Making, holding, storing, dropping and sweeping objects of every kind, and closing pipe ends,
 * killed at every point: an object is there whole or gone, and is freed when no process can
 * reach it. */
#include "core/object.h"
#include "objects/pipe.h"
#include "core/bell.h"
#include "testing/deaths.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

static uint64_t used; /* with it alone */

static void *
new_list(mpe_engine *e)
{
    mpe_test_forget(e);
    EXPECT_EQ(mpe_test_objects(e), 0);
    REQUIRE_OK(mpe_list_create(e, &mpe_test_it));
    used = mpe_test_used(e);
    return mpe_test_it;
}

static void
check_alone(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg, (void)has_ended;
    mpe_test_reap(e);
    mpe_test_sweep(e);
    EXPECT_EQ(mpe_test_objects(e), 1);
    EXPECT_EQ(mpe_test_used(e), used);
    mpe_test_check(e);
}

/* ---- making and dropping ---- */

static int
make_view(mpe_engine *e, mpe_object **out)
{
    mpe_object *array;
    int rc = mpe_array_create(e, 'd', 100, 0, &array);
    if (rc != MPE_OK)
        return rc;
    rc = mpe_array_view(e, array, &(mpe_part){.first = 9, .length = 10, .step = -1}, out);
    mpe_drop(e, array);
    return rc;
}

static int
make(mpe_engine *e, int kind, mpe_object **out)
{
    switch (kind) {
    case MPE_KIND_LOCK:
        return mpe_lock_create(e, 0, out);
    case MPE_KIND_SEMAPHORE:
        return mpe_semaphore_create(e, 1, 0, out);
    case MPE_KIND_EVENT:
        return mpe_event_create(e, out);
    case MPE_KIND_CONDITION:
        return mpe_condition_create(e, 0, out);
    case MPE_KIND_BARRIER:
        return mpe_barrier_create(e, 2, (mpe_bytes){NULL, 0}, out);
    case MPE_KIND_QUEUE:
        return mpe_queue_create(e, 0, MPE_QUEUE_JOINABLE, out);
    case MPE_KIND_ARRAY:
        return mpe_array_create(e, 'd', 100, 0, out);
    case MPE_KIND_RAW_ARRAY:
        return mpe_array_create(e, 'd', 100000, MPE_ARRAY_RAW, out);
    case MPE_KIND_RAW_VALUE:
        return mpe_struct_create(e, "x:d,y:i3", 1, 0, MPE_ARRAY_VALUE | MPE_ARRAY_RAW, out);
    case MPE_KIND_ARRAY_VIEW:
        return make_view(e, out);
    case MPE_KIND_DICT:
        return mpe_dict_create(e, out);
    case MPE_KIND_LIST:
        return mpe_list_create(e, out);
    case MPE_KIND_DESCRIPTOR:
        return mpe_descriptor_create(e, 2, (mpe_bytes){NULL, 0}, 0, out);
    default:
        return mpe_pipe_create(e, 1, out);
    }
}

static const int kinds[] = {
    MPE_KIND_LOCK,  MPE_KIND_SEMAPHORE,  MPE_KIND_EVENT,      MPE_KIND_BARRIER,  MPE_KIND_CONDITION,
    MPE_KIND_QUEUE, MPE_KIND_ARRAY,      MPE_KIND_RAW_ARRAY,  MPE_KIND_DICT,     MPE_KIND_LIST,
    MPE_KIND_PIPE,  MPE_KIND_DESCRIPTOR, MPE_KIND_ARRAY_VIEW, MPE_KIND_RAW_VALUE};
static int kind;

static void
put_something(mpe_engine *e, mpe_object *made)
{
    static uint8_t bytes[5000];
    mpe_bytes part = {bytes, sizeof bytes};
    if (mpe_kind_of(made) == MPE_KIND_QUEUE)
        mpe_queue_put(e, made, &part, 1, 0);
    if (mpe_kind_of(made) == MPE_KIND_DICT)
        mpe_dict_put(e, made, mpe_test_bytes("k"), part, 0);
    if (mpe_kind_of(made) == MPE_KIND_LIST)
        mpe_list_insert(e, made, 0, part, 0);
}

static void
make_and_drop(mpe_engine *e, void *arg)
{
    mpe_object *made;
    (void)arg;
    if (make(e, kind, &made) != MPE_OK)
        return;
    put_something(e, made);
    mpe_drop(e, made);
}

static void
make_label_and_drop(mpe_engine *e, void *arg)
{
    mpe_object *made;
    (void)arg;
    if (mpe_lock_create(e, 0, &made) != MPE_OK)
        return;
    mpe_object_label(e, made, mpe_test_bytes("a name"), mpe_place_note(e, "made.lua:1"));
    mpe_object_label(e, made, mpe_test_bytes("another"), mpe_place_note(e, "made.lua:2"));
    mpe_drop(e, made);
}

TEST_LIMIT(an_object_is_labelled_and_dropped, 60)
{
    mpe_test_deaths_everywhere(
        (struct mpe_test_deaths){new_list, NULL, make_label_and_drop, check_alone});
    mpe_test_deaths_of_reapers(
        (struct mpe_test_deaths){new_list, NULL, make_label_and_drop, check_alone});
}

TEST_LIMIT(an_object_of_any_kind_is_made_and_dropped, 100)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        kind = kinds[i];
        mpe_test_deaths_everywhere(
            (struct mpe_test_deaths){new_list, NULL, make_and_drop, check_alone});
    }
}

TEST_LIMIT(an_object_is_made_in_memory_not_yet_opened, 60)
{
    kind = MPE_KIND_LIST;
    mpe_test_deaths_in_an_empty_heap(
        (struct mpe_test_deaths){new_list, NULL, make_and_drop, check_alone});
}

TEST_LIMIT(an_object_is_made_and_dropped_while_reapers_die, 60)
{
    kind = MPE_KIND_DICT;
    mpe_test_deaths_of_reapers(
        (struct mpe_test_deaths){new_list, NULL, make_and_drop, check_alone});
}

/* ---- containers and sweeps ---- */

static void
append_handle(mpe_engine *e, mpe_object *list, mpe_handle h)
{
    mpe_buf b;
    mpe_buf_init(&b);
    mpe_wire_put_handle(&b, h);
    mpe_list_insert(e, list, UINT64_MAX, (mpe_bytes){b.data, b.len}, 1);
    mpe_buf_free(&b);
}

static void
store_and_remove(mpe_engine *e, void *arg)
{
    mpe_object *made;
    mpe_buf b;
    mpe_buf_init(&b);
    if (mpe_event_create(e, &made) != MPE_OK)
        return;
    append_handle(e, arg, mpe_handle_of(e, made));
    mpe_drop(e, made);
    uint32_t mark = mpe_pin_mark(e);
    mpe_list_remove(e, arg, UINT64_MAX, &b);
    mpe_unpin(e, mark);
    mpe_test_sweep(e);
    mpe_buf_free(&b);
}

static void
check_emptied(mpe_engine *e, void *arg, bool has_ended)
{
    mpe_test_reap(e);
    mpe_list_clear(e, arg);
    check_alone(e, arg, has_ended);
}

TEST_LIMIT(an_object_is_stored_and_removed, 60)
{
    mpe_test_deaths_everywhere(
        (struct mpe_test_deaths){new_list, NULL, store_and_remove, check_emptied});
    mpe_test_deaths_of_reapers(
        (struct mpe_test_deaths){new_list, NULL, store_and_remove, check_emptied});
}

/* Two containers that are mentioned only by each other; and one object that stays. */
static void *
list_and_garbage(mpe_engine *e)
{
    mpe_object *a, *b, *kept;
    new_list(e);
    REQUIRE_OK(mpe_event_create(e, &kept));
    append_handle(e, mpe_test_it, mpe_handle_of(e, kept));
    REQUIRE_OK(mpe_list_create(e, &a));
    REQUIRE_OK(mpe_list_create(e, &b));
    append_handle(e, a, mpe_handle_of(e, b));
    append_handle(e, b, mpe_handle_of(e, a));
    mpe_drop(e, a);
    mpe_drop(e, b);
    mpe_drop(e, kept);
    return mpe_test_it;
}

static void
sweep(mpe_engine *e, void *arg)
{
    (void)arg;
    mpe_test_sweep(e);
}

/* By the death alone, without an explicit sweep. */
static void
check_swept(mpe_engine *e, void *arg, bool has_ended)
{
    (void)has_ended;
    mpe_test_reap(e);
    mpe__sweep_if_wanted(e);
    EXPECT_EQ(mpe_test_objects(e), 2);
    mpe_list_clear(e, arg);
    check_alone(e, arg, has_ended);
}

TEST_LIMIT(a_sweep_that_dies_is_done_again, 60)
{
    mpe_test_deaths_everywhere(
        (struct mpe_test_deaths){list_and_garbage, NULL, sweep, check_swept});
    mpe_test_deaths_of_reapers(
        (struct mpe_test_deaths){list_and_garbage, NULL, sweep, check_swept});
}

/* Holds an object that only a container mentions, and drops it. */
static void
hold_and_drop(mpe_engine *e, void *arg)
{
    mpe_object *held;
    mpe_buf b;
    mpe_buf_init(&b);
    uint32_t mark = mpe_pin_mark(e);
    if (mpe_list_get(e, arg, 0, &b) == MPE_OK) {
        mpe_handle h = 0;
        for (uint32_t i = 1; i < mpe__load32(&e->header->objects_top); i++)
            if (mpe_kind_of(&e->objects[i]) == MPE_KIND_EVENT)
                h = mpe_handle_of(e, &e->objects[i]);
        if (mpe_hold(e, h, &held) == MPE_OK)
            mpe_drop(e, held);
    }
    mpe_unpin(e, mark);
    mpe_buf_free(&b);
}

TEST_LIMIT(an_object_is_held_and_dropped, 60)
{
    mpe_test_deaths_everywhere(
        (struct mpe_test_deaths){list_and_garbage, NULL, hold_and_drop, check_swept});
}

/* A process that tries to hold an object just freed sets its bit first. */
static mpe_object *freed;

static void *
list_and_free_entry(mpe_engine *e)
{
    new_list(e);
    REQUIRE_OK(mpe_event_create(e, &freed));
    mpe_drop(e, freed);
    return mpe_test_it;
}

static void
set_bit(mpe_engine *e, void *arg)
{
    (void)arg;
    mpe__set_add(&freed->holders, e->slot);
}

static void
check_entry(mpe_engine *e, void *arg, bool has_ended)
{
    mpe_object *next;
    (void)arg, (void)has_ended;
    mpe_test_reap(e);
    REQUIRE_OK(mpe_event_create(e, &next));
    EXPECT(next == freed);
    EXPECT_EQ(mpe__set_count(&next->holders), 1);
    mpe_drop(e, next);
    EXPECT_EQ(mpe_test_objects(e), 1);
}

TEST_LIMIT(a_dead_holder_of_a_freed_entry_does_not_hold_the_next_object, 60)
{
    mpe_test_deaths_everywhere(
        (struct mpe_test_deaths){list_and_free_entry, NULL, set_bit, check_entry});
    mpe_test_deaths_of_reapers(
        (struct mpe_test_deaths){list_and_free_entry, NULL, set_bit, check_entry});
}

/* ---- pipe ends ---- */

/* The parent made the pipe and no longer has either end: the victim has end 1, the waiter end 0. */
static void *
pipe_of_nobody(mpe_engine *e)
{
    mpe_test_forget(e);
    REQUIRE_OK(mpe_pipe_create(e, 1, &mpe_test_it));
    return mpe_test_it;
}

static void
take_end(mpe_engine *e, void *arg)
{
    struct mpe__pipe *p = mpe__body(e, arg);
    uint32_t parent = mpe__load32(&e->self->parent) - 1;
    mpe_pipe_use(e, arg, 1);
    mpe__set_remove(&p->users[1], parent);
}

static void *
stored_pipe(mpe_engine *e)
{
    pipe_of_nobody(e);
    atomic_fetch_or(&mpe_test_it->flags, MPE__OBJECT_STORED);
    return mpe_test_it;
}

static void
give_up_end(mpe_engine *e, void *arg)
{
    mpe_pipe_close(e, arg, 1);
}

static void
wait_for_end_of_file(mpe_engine *e, void *arg)
{
    mpe_message m;
    mpe_object *queue;
    REQUIRE_OK(mpe_hold(e, mpe_pipe_queue(e, arg, 1), &queue));
    EXPECT_EQ(mpe_test_get(e, queue, &m), MPE_ECLOSED);
}

static void
check_pipe(mpe_engine *e, void *arg, bool has_ended)
{
    mpe_object *queue;
    (void)has_ended;
    for (int end = 0; end < 2; end++) {
        REQUIRE_OK(mpe_hold(e, mpe_pipe_queue(e, arg, end), &queue));
        EXPECT(mpe_queue_is_closed(e, queue));
        mpe_drop(e, queue);
    }
}

static void
kill_beside_a_reader(void *(*fresh)(mpe_engine *e))
{
    mpe_test_deaths_beside_a_waiter((struct mpe_test_wait){
        {fresh, take_end, give_up_end, check_pipe}, wait_for_end_of_file, NULL, NULL});
}

TEST_LIMIT(the_reader_of_a_pipe_finds_its_end_though_the_last_writer_dies_closing_it, 60)
{
    kill_beside_a_reader(pipe_of_nobody);
}

TEST_LIMIT(the_reader_of_a_pipe_that_was_sent_finds_its_end_too, 60)
{
    kill_beside_a_reader(stored_pipe);
}

static void
close_both(mpe_engine *e, void *arg)
{
    take_end(e, arg);
    mpe_pipe_close(e, arg, 1);
}

static void
check_closed_pipe(mpe_engine *e, void *arg, bool has_ended)
{
    mpe_test_reap(e);
    mpe_pipe_close(e, arg, 1); /* when the victim had not begun */
    mpe__sweep_if_wanted(e);
    check_pipe(e, arg, has_ended);
}

TEST_LIMIT(a_pipe_is_closed_though_reapers_die, 60)
{
    mpe_test_deaths_of_reapers(
        (struct mpe_test_deaths){pipe_of_nobody, NULL, close_both, check_closed_pipe});
}
