/* SPDX-License-Identifier: MIT */
/* Tracing: a process is killed at each store of what it notes, of how it gets its ring, and where the
 * ring begins a step or is full. The reader has all that was noted before, in order and whole,
 * counts what it has missed, and has what the next process in the slot notes in the same ring.
 *
 * And the reader is killed at each store by which it gets, pauses and leaves the program: the next one gets it. */
#include "core/trace.h"
#include "testing/deaths.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <string.h>
#include <unistd.h>

#define ROOM 512
#define TITLE "a title of more than twenty-four bytes"
#define MANY 6 /* records of the victim that are looked at one by one */

static mpe_view *view;
static mpe_tracer *tracer;
static mpe_trace_record got[ROOM];

/* What was read of the ring of a process since it was looked at last. */
static struct {
    uint32_t pid; /* of the last process that has noted its name */
    uint32_t beginnings, exits;
    uint32_t next;    /* number of its next record */
    uint32_t records; /* all that were read */
    uint64_t lost, at;
    int is_behind_loss;
    char text[64]; /* the last one */
} seen;

static void
begin(void)
{
    int by = 0;
    REQUIRE_OK(mpe_view_open(getpid(), &view));
    REQUIRE_OK(mpe_tracer_new(&tracer));
    REQUIRE_OK(mpe_tracer_start(tracer, view, &by));
}

static void
finish(mpe_engine *e)
{
    mpe_tracer_free(tracer);
    mpe_view_close(view);
    mpe_close(e);
}

/* ---- what is noted ---- */

static uint32_t noted; /* by this process */

static uint64_t
object_of(uint32_t n)
{
    return (uint64_t)n * 0x9e3779b97f4a7c15u;
}

static void
note_next(mpe_engine *e)
{
    mpe_trace_add(e, MPE_TRACE_RUN, noted, object_of(noted), ~object_of(noted));
    noted++;
}

static void
note_some(mpe_engine *e, void *arg)
{
    (void)arg;
    for (int i = 0; i < MANY; i++)
        note_next(e);
    mpe_trace_add(e, MPE_TRACE_SITE, 0, object_of(0), ~object_of(0));
    mpe_trace_text(e, TITLE, strlen(TITLE));
}

/* Until there are few records before one whose number is a multiple of that. */
static void
note_up_to(mpe_engine *e, uint32_t multiple)
{
    do
        note_next(e);
    while (mpe__load64(&e->trace.ring->count) % multiple != multiple - MANY / 2);
}

static void
go_up_to_a_step(mpe_engine *e, void *arg)
{
    (void)arg;
    note_up_to(e, MPE__TRACE_STEP);
}

static void
go_twice_round(mpe_engine *e, void *arg)
{
    (void)arg;
    note_up_to(e, MPE__TRACE_RECORDS);
    note_up_to(e, MPE__TRACE_RECORDS);
}

/* ---- what is read ---- */

static void
look_at(const mpe_trace_record *r)
{
    if (r->what == MPE_TRACE_LOST) {
        seen.lost += r->more;
        seen.is_behind_loss = 1;
        return;
    }
    seen.records++;
    if (r->what == MPE_TRACE_TEXT) {
        EXPECT(r->number > 0 && r->number <= MPE_TRACE_TEXT_BYTES);
        size_t length = strlen(seen.text);
        REQUIRE(length + r->number < sizeof seen.text);
        memcpy(seen.text + length, r, r->number);
        return;
    }
    seen.text[0] = '\0';
    memset(seen.text, 0, sizeof seen.text);
    EXPECT(r->at >= seen.at);
    seen.at = r->at;
    if (r->what == MPE_TRACE_PROCESS) {
        seen.pid = r->number;
        seen.beginnings++;
        seen.next = 0;
    } else if (r->what == MPE_TRACE_STILL) {
        EXPECT(seen.pid == r->number || (seen.pid == 0 && seen.lost > 0));
        seen.pid = r->number;
    } else if (r->what == MPE_TRACE_RUN) {
        EXPECT(r->object == object_of(r->number) && r->more == ~object_of(r->number));
        EXPECT(r->number == seen.next || seen.is_behind_loss);
        seen.next = r->number + 1;
        seen.is_behind_loss = 0;
    } else if (r->what == MPE_TRACE_EXIT) {
        EXPECT_EQ(r->number, seen.pid);
        seen.exits++;
    } else {
        EXPECT_EQ(r->what, MPE_TRACE_SITE);
        EXPECT(r->object == object_of(0) && r->more == ~object_of(0));
    }
}

/* Reads what is new in the rings of all slots but this process's; one of them was in use. */
static void
look(void)
{
    memset(&seen, 0, sizeof seen);
    for (uint32_t slot = 1; slot < MPE__SLOTS && seen.records == 0; slot++)
        for (size_t n; (n = mpe_tracer_read(tracer, slot, got, ROOM)) > 0;)
            for (size_t i = 0; i < n; i++)
                look_at(&got[i]);
}

/* The next process in the slot notes behind what the dead one has left. */
static void
check_next(mpe_engine *e)
{
    mpe_test_reap(e);
    mpe_process *p = mpe_test_start(e, note_some, NULL);
    uint32_t pid = (uint32_t)mpe_process_pid(p);
    EXPECT_EQ(mpe_test_join(e, p), 0);
    look();
    EXPECT_EQ(seen.pid, pid);
    EXPECT(seen.beginnings == 1 && seen.exits <= 1);
    EXPECT_EQ(seen.next, MANY);
    EXPECT_EQ(seen.lost, 0);
}

static void *
nothing(mpe_engine *e)
{
    (void)e;
    return NULL;
}

/* ---- cases ---- */

static void
check_some(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg;
    look();
    EXPECT_EQ(seen.lost, 0);
    EXPECT_EQ(seen.beginnings, 1);
    EXPECT(seen.next <= MANY);
    EXPECT(!has_ended || (seen.next == MANY && strcmp(seen.text, TITLE) == 0));
    check_next(e);
}

TEST_LIMIT(a_process_killed_while_it_notes_leaves_whole_records, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    struct mpe_test_deaths d = {nothing, NULL, note_some, check_some};
    begin();
    mpe_test_kill_everywhere(e, &d);
    finish(e);
}

static void
check_step(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg;
    look();
    EXPECT_EQ(seen.lost, 0);
    EXPECT_EQ(seen.beginnings, 1);
    EXPECT(!has_ended || strcmp(seen.text, TITLE) == 0);
    check_next(e);
}

TEST_LIMIT(a_process_killed_at_a_step_of_its_ring_leaves_whole_records, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    struct mpe_test_deaths d = {nothing, go_up_to_a_step, note_some, check_step};
    begin();
    mpe_test_kill_everywhere(e, &d);
    finish(e);
}

/* The ring has been overwritten once and more: what is there and what is lost is all of it. */
static void
check_full(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg;
    look();
    uint32_t steps = seen.next / MPE__TRACE_STEP + 2;
    EXPECT(seen.lost > 0 && seen.records < MPE__TRACE_RECORDS);
    EXPECT(seen.records + seen.lost >= seen.next);
    EXPECT(seen.records + seen.lost <= seen.next + 2 * steps + 4);
    EXPECT(!has_ended || strcmp(seen.text, TITLE) == 0);
    check_next(e);
}

TEST_LIMIT(a_process_killed_in_a_ring_that_is_full_leaves_whole_records, 120)
{
    mpe_engine *e = mpe_test_engine(0);
    struct mpe_test_deaths d = {nothing, go_twice_round, note_some, check_full};
    begin();
    mpe_test_kill_everywhere(e, &d);
    finish(e);
}

TEST_LIMIT(a_process_killed_while_it_gets_or_leaves_its_ring_leaves_whole_records, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    bool has_ended = false;
    begin();
    for (long point = 1; !has_ended; point = mpe_test_next_point(point)) {
        mpe_process *p;
        int before = mpe_test_failures();
        has_ended = mpe_test_kill_child_at(e, note_some, NULL, point, &p);
        mpe_test_join(e, p);
        look();
        EXPECT(seen.lost == 0 && seen.beginnings <= 1 && seen.next <= MANY);
        EXPECT(!has_ended || (seen.next == MANY && seen.exits == 1));
        check_next(e);
        if (mpe_test_failures() > before)
            mpe_test_fail(__FILE__, __LINE__, "  after a death before %s", mpe_test_death());
    }
    finish(e);
}

/* ---- the reader ---- */

static void
trace_the_parent(mpe_engine *e, void *arg)
{
    mpe_tracer *t = NULL;
    mpe_view *v = NULL;
    int by = 0;
    (void)e, (void)arg;
    REQUIRE_OK(mpe_view_open(getppid(), &v));
    REQUIRE_OK(mpe_tracer_new(&t));
    REQUIRE_OK(mpe_tracer_start(t, v, &by));
    mpe_tracer_pause(t, 1);
    mpe_tracer_pause(t, 0);
    mpe_tracer_free(t);
    mpe_view_close(v);
}

/* What the dead reader has left keeps neither the program from going on nor the next reader out. */
static void
check_next_reader(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg, (void)has_ended;
    mpe_trace_add(e, MPE_TRACE_RUN, 1, 0, 0);
    EXPECT_EQ(*mpe_trace_word(e), 0);
    begin();
    mpe_trace_add(e, MPE_TRACE_RUN, 2, 0, 0);
    size_t n = mpe_tracer_read(tracer, 0, got, ROOM);
    EXPECT(n > 0 && got[n - 1].what == MPE_TRACE_RUN && got[n - 1].number == 2);
    mpe_tracer_free(tracer);
    mpe_view_close(view);
    EXPECT_EQ(*mpe_trace_word(e), 0);
}

TEST_LIMIT(a_reader_killed_at_any_store_leaves_the_program_to_the_next_one, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    struct mpe_test_deaths d = {nothing, NULL, trace_the_parent, check_next_reader};
    mpe_test_kill_everywhere(e, &d);
    mpe_close(e);
}
