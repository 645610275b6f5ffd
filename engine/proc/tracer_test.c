/* SPDX-License-Identifier: MIT */
/* Tracing: the rings of a tracer, and the switch in the arena. */
#include "mpengine_core.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <string.h>
#include <unistd.h>

#define ROOM 64
#define RING 65536

static mpe_trace_record got[ROOM];

static mpe_tracer *
start(mpe_view *v)
{
    mpe_tracer *t = NULL;
    int by = 0;
    REQUIRE_OK(mpe_tracer_new(&t));
    REQUIRE_OK(mpe_tracer_start(t, v, &by));
    return t;
}

static mpe_view *
own_view(void)
{
    mpe_view *v = NULL;
    REQUIRE_OK(mpe_view_open(getpid(), &v));
    return v;
}

static void
finish(mpe_engine *e, mpe_view *v, mpe_tracer *t)
{
    mpe_tracer_free(t);
    mpe_view_close(v);
    mpe_close(e);
}

/* The records of slot 0 that were not read yet; none may be lost. */
static size_t
read_all(mpe_tracer *t)
{
    size_t n = mpe_tracer_read(t, 0, got, ROOM);
    EXPECT(n == 0 || got[0].what != MPE_TRACE_LOST);
    return n;
}

TEST(items_and_locks_are_noted_while_a_tracer_wants_it)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *queue, *lock;
    mpe_message m;
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &queue));
    REQUIRE_OK(mpe_lock_create(e, 0, &lock));
    REQUIRE_OK(mpe_test_put(e, queue, "x", 1));
    EXPECT_EQ(*mpe_trace_word(e), 0);
    mpe_view *v = own_view();
    mpe_tracer *t = start(v);
    EXPECT_EQ(*mpe_trace_word(e), mpe_tracer_word(t));
    REQUIRE_OK(mpe_test_put(e, queue, "y", 1));
    REQUIRE_OK(mpe_queue_get(e, queue, &m));
    mpe_message_free(e, &m);
    REQUIRE_OK(mpe_lock_acquire(e, lock, 5));
    REQUIRE_OK(mpe_lock_release(e, lock));
    REQUIRE_OK(mpe_object_label(e, lock, mpe_test_bytes("till"), 0));
    EXPECT_EQ(read_all(t), 8);
    EXPECT(got[0].what == MPE_TRACE_PROCESS && got[0].number == (uint32_t)getpid());
    EXPECT(got[1].what == MPE_TRACE_TEXT && memcmp(&got[1], "MainProcess", 11) == 0);
    EXPECT(got[2].what == MPE_TRACE_PUT && got[2].number == 1);
    EXPECT(got[3].what == MPE_TRACE_GET && got[3].number == 0);
    EXPECT(got[3].object == mpe_handle_of(e, queue) && got[3].at >= got[2].at);
    EXPECT(got[4].what == MPE_TRACE_LOCK && got[4].number == 5);
    EXPECT(got[5].what == MPE_TRACE_UNLOCK && got[5].object == mpe_handle_of(e, lock));
    EXPECT(got[6].what == MPE_TRACE_OBJECT && got[7].number == 6);
    mpe_tracer_free(t);
    EXPECT_EQ(*mpe_trace_word(e), 0);
    REQUIRE_OK(mpe_test_put(e, queue, "z", 1));
    mpe_view_close(v);
    mpe_close(e);
}

/* Reads the ring of a slot to its end: RUN records have numbers that go up to `last`. What is missing
 * between two of them was said to be lost, and names of the process come between. */
static uint64_t
expect_in_order(mpe_tracer *t, uint32_t slot, uint64_t expected, uint64_t last)
{
    uint64_t lost = 0, others = 0;
    for (size_t n = 1; n > 0;) {
        n = mpe_tracer_read(t, slot, got, ROOM);
        for (size_t i = 0; i < n; i++) {
            if (got[i].what == MPE_TRACE_LOST)
                lost += got[i].more;
            else if (got[i].what != MPE_TRACE_RUN)
                others++;
            else if (lost > 0 && got[i].number > expected)
                expected = got[i].number + 1;
            else
                EXPECT_EQ(got[i].number, expected++);
        }
    }
    EXPECT_EQ(expected, last);
    EXPECT(others > 0);
    return lost;
}

static void
note_runs(mpe_engine *e, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++)
        mpe_trace_add(e, MPE_TRACE_RUN, i, 0, 0);
}

TEST(a_ring_that_is_full_counts_what_is_lost)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_view *v = own_view();
    mpe_tracer *t = start(v);
    note_runs(e, 0, RING + 100);
    /* pid and name, at the beginning and at 16 steps, each in two records; and the oldest one, which may
     * be being overwritten */
    EXPECT_EQ(expect_in_order(t, 0, 0, RING + 100), 100 + 17 * 2 + 1);
    note_runs(e, RING + 100, RING + 200); /* from here on it is fast enough */
    EXPECT_EQ(mpe_tracer_skip(t, 0), 100);
    note_runs(e, 0, 10);
    EXPECT_EQ(read_all(t), 10);
    finish(e, v, t);
}

TEST(a_reader_that_is_late_once_has_all_before_and_after)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_view *v = own_view();
    mpe_tracer *t = start(v);
    note_runs(e, 0, 1000);
    EXPECT_EQ(expect_in_order(t, 0, 0, 1000), 0);
    note_runs(e, 1000, 3 * RING);
    uint64_t steps = 3 * RING / 4096;
    uint64_t lost = expect_in_order(t, 0, 1000, 3 * RING);
    EXPECT(lost > 2 * RING - 1000 && lost < 2 * RING - 1000 + 2 * steps + 2);
    note_runs(e, 0, 5000);
    EXPECT_EQ(expect_in_order(t, 0, 0, 5000), 0);
    finish(e, v, t);
}

TEST(each_step_of_a_ring_says_whose_it_is)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_view *v = own_view();
    mpe_tracer *t = start(v);
    uint32_t seen = 0;
    EXPECT_EQ(mpe_trace_part(e), 0);
    note_runs(e, 0, 2 * RING);
    EXPECT_EQ(mpe_trace_part(e), 4); /* halves of the ring */
    for (size_t n = 1; n > 0;) {
        n = mpe_tracer_read(t, 0, got, ROOM);
        for (size_t i = 0; i < n; i++)
            if (got[i].what == MPE_TRACE_STILL)
                seen += got[i].number == (uint32_t)getpid();
    }
    EXPECT_EQ(seen, RING / 4096);
    finish(e, v, t);
}

TEST(times_are_told_by_the_clock_of_the_tracer)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_view *v = own_view();
    mpe_tracer *t = start(v);
    uint64_t ticks[2], ns[2];
    mpe_tracer_clock(t, &ticks[0], &ns[0]);
    mpe_trace_add(e, MPE_TRACE_RUN, 1, 0, 0);
    mpe_tracer_clock(t, &ticks[1], &ns[1]);
    EXPECT(ns[1] > ns[0] && ticks[1] > ticks[0]);
    EXPECT_EQ(read_all(t), 3);
    EXPECT(got[2].at + 100 >= ticks[0] && got[2].at <= ticks[1]);
    finish(e, v, t);
}

TEST(texts_follow_what_they_belong_to)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_view *v = own_view();
    mpe_tracer *t = start(v);
    mpe_trace_add(e, MPE_TRACE_SITE, 3, 0, 30);
    mpe_trace_text(e, "abcdefghijklmnopqrstuvwxyz0123", 30);
    EXPECT_EQ(read_all(t), 5);
    EXPECT(got[2].what == MPE_TRACE_SITE && got[2].number == 3);
    EXPECT(got[3].number == 24 && memcmp(&got[3], "abcdefghijklmnopqrstuvwx", 24) == 0);
    EXPECT(got[4].number == 6 && memcmp(&got[4], "yz0123", 6) == 0);
    finish(e, v, t);
}

TEST(one_tracer_at_a_time_has_the_program)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_view *v = own_view();
    mpe_tracer *first = start(v), *second = NULL;
    int by = 0;
    REQUIRE_OK(mpe_tracer_new(&second));
    EXPECT_EQ(mpe_tracer_start(second, v, &by), MPE_EAGAIN);
    EXPECT_EQ(by, getpid());
    mpe_tracer_free(first);
    EXPECT_OK(mpe_tracer_start(second, v, &by));
    mpe_trace_add(e, MPE_TRACE_RUN, 1, 0, 0);
    EXPECT_EQ(read_all(second), 3);
    mpe_tracer_free(second);
    mpe_tracer_free(NULL);
    mpe_view_close(v);
    mpe_close(e);
}

TEST(nothing_is_noted_in_a_pause_and_the_program_stays_the_tracers)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_view *v = own_view();
    mpe_tracer *t = start(v), *other = NULL;
    int by = 0;
    REQUIRE_OK(mpe_tracer_new(&other));
    for (uint32_t round = 0; round < 3; round++) {
        mpe_trace_add(e, MPE_TRACE_RUN, round, 0, 0);
        mpe_tracer_pause(t, 1);
        EXPECT_EQ(*mpe_trace_word(e), 0);
        mpe_trace_add(e, MPE_TRACE_RUN, 100, 0, 0);
        EXPECT_EQ(mpe_tracer_start(other, v, &by), MPE_EAGAIN);
        EXPECT_EQ(by, getpid());
        mpe_tracer_pause(t, 0);
        EXPECT_EQ(*mpe_trace_word(e), mpe_tracer_word(t));
        EXPECT_EQ(read_all(t), round == 0 ? 3 : 1); /* the process tells its name once */
        EXPECT_EQ(got[round == 0 ? 2 : 0].number, round);
    }
    mpe_tracer_pause(t, 1);
    mpe_tracer_free(t);
    EXPECT_EQ(*mpe_trace_word(e), 0);
    EXPECT_OK(mpe_tracer_start(other, v, &by));
    mpe_tracer_pause(NULL, 1);
    finish(e, v, other);
}

TEST(only_the_process_that_started_this_one_may_trace_it_from_the_first_line)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_tracer *t = NULL;
    REQUIRE_OK(mpe_tracer_new(&t));
    EXPECT_EQ(mpe_trace_begin(e, mpe_tracer_word(t)), MPE_EPERM);
    EXPECT_EQ(*mpe_trace_word(e), 0);
    mpe_tracer_free(t);
    uint64_t gone = 1ull << 48 | 9ull << 32 | (uint32_t)getppid(); /* no file of a tracer */
    EXPECT_OK(mpe_trace_begin(e, gone));
    mpe_trace_add(e, MPE_TRACE_RUN, 1, 0, 0);
    EXPECT_EQ(*mpe_trace_word(e), 0);
    mpe_close(e);
}
