/* SPDX-License-Identifier: MIT */
/* Kill points and mutants; see deaths.h. */
#define MPE_TEST_KILL_POINTS_OWN
#include "testing/deaths.h"

#include "proc/proc.h"
#include "core/arena.h"
#include "core/object.h"
#include "core/death.h"
#include "core/slot.h"
#include "testing/kill_points.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* The data that the victim leaves, in memory shared with its parent. */
static struct grave {
    const char *file;
    int line;
    uint32_t slot, generation;
    long passed;
    bool has_ended;
} * grave;

static long left;     /* points until the one that kills; 0: none does */
static pid_t planner; /* is spared itself */
static pid_t chosen;  /* the only one to be killed, 0: all but the planner */

static _Noreturn void
die(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* ---- mutants ---- */

/* MPE_TEST_MUTANT is "leave out: STORE" or "delay: STORE", with the store's arguments as
 * written. */
static const char *left_out, *late;

__attribute__((constructor)) static void
read_mutant(void)
{
    const char *text = getenv("MPE_TEST_MUTANT");
    if (text && strncmp(text, "leave out: ", 11) == 0)
        left_out = text + 11;
    else if (text && strncmp(text, "delay: ", 7) == 0)
        late = text + 7;
}

/* A delayed store is done after the next one, with a death possible between the two. */
static struct {
    int points; /* until it is done */
    mpe__a32 *p32;
    mpe__a64 *p64;
    uint64_t v;
} delayed;

static void
do_delayed(void)
{
    if (delayed.points == 0 || --delayed.points > 0)
        return;
    if (delayed.p32)
        mpe__store32(delayed.p32, (uint32_t)delayed.v);
    else
        mpe__store64(delayed.p64, delayed.v);
}

/* True when the store is to be left out. */
static bool
is_changed(const char *text, mpe__a32 *p32, mpe__a64 *p64, uint64_t v)
{
    if (MPE__LIKELY(!left_out && !late))
        return false;
    if (left_out)
        return strcmp(text, left_out) == 0;
    if (strcmp(text, late) != 0)
        return false;
    delayed.points = 2;
    delayed.p32 = p32;
    delayed.p64 = p64;
    delayed.v = v;
    return true;
}

/* ---- points ---- */

/* Of a loop over one point, the first four passes and each 2^k-th pass count. */
static bool
is_one_of_many(const char *file, int line)
{
    static long same;
    same = grave->file == file && grave->line == line ? same + 1 : 0;
    return same >= 4 && (same & (same - 1)) != 0;
}

static void
pass(const char *file, int line)
{
    if (left == 0 || getpid() == planner || (chosen && getpid() != chosen) ||
        is_one_of_many(file, line))
        return;
    grave->file = file;
    grave->line = line;
    grave->passed++;
    if (--left == 0)
        die();
}

void
mpe_test_point(const char *file, int line)
{
    pass(file, line);
    do_delayed();
}

void
mpe_test_store32(const char *file, int line, const char *text, mpe__a32 *p, uint32_t v)
{
    mpe_test_point(file, line);
    if (!is_changed(text, p, NULL, v))
        mpe__store32(p, v);
}

void
mpe_test_store64(const char *file, int line, const char *text, mpe__a64 *p, uint64_t v)
{
    mpe_test_point(file, line);
    if (!is_changed(text, NULL, p, v))
        mpe__store64(p, v);
}

/* ---- killing ---- */

struct victim {
    mpe_test_body *prepare, *body;
    void *arg;
    long point;
};

static void
plan(long point)
{
    mpe_test_needs_deaths();
    if (!grave)
        grave = mmap(NULL, sizeof *grave, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                     0);
    REQUIRE(grave != MAP_FAILED);
    *grave = (struct grave){NULL, 0, 0, 0, 0, false};
    left = point;
}

static void
run_victim(mpe_engine *e, void *arg)
{
    struct victim *v = arg;
    if (v->prepare)
        v->prepare(e, v->arg);
    planner = 0;
    chosen = getpid();
    grave->slot = e->slot;
    grave->generation = mpe__load32(&e->self->generation);
    left = v->point;
    v->body(e, v->arg);
    left = 0;
    grave->has_ended = true;
    die();
}

static void
wait_for_end(mpe_process *p)
{
    siginfo_t info;
    while (waitid(P_PID, (id_t)mpe_process_pid(p), &info, WEXITED | WNOWAIT) != 0)
        REQUIRE(errno == EINTR);
}

bool
mpe_test_kill_at(mpe_engine *e, mpe_test_body *prepare, mpe_test_body *body, void *arg, long point)
{
    struct victim v = {prepare, body, arg, point};
    int status;
    plan(0);
    mpe_process *p = mpe_test_start(e, run_victim, &v);
    while (waitpid(mpe_process_pid(p), &status, 0) < 0)
        REQUIRE(errno == EINTR);
    EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    mpe_process_free(e, p); /* reaped by other means: nothing is reaped here */
    return grave->has_ended;
}

static void
run_and_leave(mpe_engine *e, void *arg)
{
    struct victim *v = arg;
    v->body(e, v->arg);
    mpe_close(e);
    left = 0;
    grave->has_ended = true;
}

bool
mpe_test_kill_child_at(mpe_engine *e, mpe_test_body *body, void *arg, long point, mpe_process **p)
{
    struct victim v = {NULL, body, arg, 0};
    planner = getpid();
    plan(point);
    *p = mpe_test_start(e, run_and_leave, &v);
    left = 0;
    wait_for_end(*p);
    return grave->has_ended;
}

const char *
mpe_test_death(void)
{
    static char text[160];
    const char *file = grave && grave->file ? grave->file : "no point";
    snprintf(text, sizeof text, "%s:%d, point %ld%s", file, grave ? grave->line : 0,
             grave ? grave->passed : 0, grave && grave->has_ended ? ", at its end" : "");
    return text;
}

long
mpe_test_next_point(long point)
{
    const char *slow = getenv("MPE_TEST_SLOW");
    long stride = slow ? atol(slow) : 1;
    return point + (stride > 1 && point > 1 ? stride : 1);
}

static void
say_where(int failures_before)
{
    if (mpe_test_failures() > failures_before)
        printf("      after a death before %s\n", mpe_test_death());
}

static bool
kill_once(mpe_engine *e, const struct mpe_test_deaths *d, long point)
{
    int before = mpe_test_failures();
    void *arg = d->fresh(e);
    bool has_ended = mpe_test_kill_at(e, d->prepare, d->body, arg, point);
    d->check(e, arg, has_ended);
    say_where(before);
    return has_ended;
}

/* Each death must start from the same state as the one before it, or points are missed. So
 * memory is committed by a child that is not killed, or returned before each death. */
void
mpe_test_kill_everywhere(mpe_engine *e, const struct mpe_test_deaths *d)
{
    kill_once(e, d, 0);
    for (long point = 1; !kill_once(e, d, point); point = mpe_test_next_point(point))
        ;
}

void
mpe_test_kill_in_an_empty_heap(mpe_engine *e, const struct mpe_test_deaths *d)
{
    mpe__trim(e);
    for (long point = 1; !kill_once(e, d, point); point = mpe_test_next_point(point))
        mpe__trim(e);
}

/* ---- reapers ---- */

static void
reap_body(mpe_engine *e, void *arg)
{
    (void)arg;
    mpe_reap_dead(e);
}

/* A process that starts a child reaps the dead whose slots it meets while it looks for a free
 * one. So that the reapers find them instead, their slots are kept free below those of the dead. */
struct kept_slot {
    uint32_t slot, generation;
};

static struct kept_slot
keep_slot(mpe_engine *e)
{
    struct kept_slot k;
    REQUIRE_OK(mpe__slot_reserve(e, "kept", &k.slot));
    k.generation = mpe__load32(&e->slots[k.slot].generation);
    return k;
}

static bool
reap_and_die_at(mpe_engine *e, struct kept_slot k, long point)
{
    mpe__slot_unreserve(e, k.slot, k.generation);
    return mpe_test_kill_at(e, NULL, reap_body, NULL, point);
}

/* One death of the call, one of its reaper, and perhaps one of a second reaper. True when the
 * first reaper had ended. */
static bool
kill_reapers(mpe_engine *e, const struct mpe_test_deaths *d, long first, long second,
             bool *has_ended)
{
    char victim[160];
    int before = mpe_test_failures();
    void *arg = d->fresh(e);
    struct kept_slot low = keep_slot(e), high = keep_slot(e);
    *has_ended = mpe_test_kill_at(e, d->prepare, d->body, arg, first);
    snprintf(victim, sizeof victim, "%s", mpe_test_death());
    bool is_reaped = reap_and_die_at(e, high, second);
    if (!is_reaped && second / 7 % 2)
        reap_and_die_at(e, low, second);
    else
        mpe__slot_unreserve(e, low.slot, low.generation);
    mpe_test_reap(e);
    d->check(e, arg, *has_ended);
    say_where(before);
    if (mpe_test_failures() > before)
        printf("      of the reaper of one that died before %s\n", victim);
    return is_reaped;
}

void
mpe_test_kill_reapers_everywhere(mpe_engine *e, const struct mpe_test_deaths *d)
{
    bool has_ended = false;
    kill_once(e, d, 0);
    for (long first = 1; !has_ended; first = mpe_test_next_point(first)) {
        bool is_reaped = false;
        for (long second = 1 + first % 7; !is_reaped; second = mpe_test_next_point(second + 6))
            is_reaped = kill_reapers(e, d, first, second, &has_ended);
    }
}

/* ---- waiters ---- */

void
mpe_test_wait_until_asleep(mpe_engine *e, const mpe_process *p)
{
    struct mpe__slot *s = &e->slots[p->slot];
    for (;;) {
        uint32_t sleep = mpe__load32(&s->sleep);
        if ((sleep != MPE__AWAKE && sleep != MPE__SPINNING) || mpe__is_dead(s))
            return;
        sched_yield();
    }
}

/* Until the last one that was killed has been reaped. */
static void
wait_until_reaped(mpe_engine *e)
{
    while (mpe__load32(&e->slots[grave->slot].generation) == grave->generation) {
        mpe__reap(e, grave->slot);
        sched_yield();
    }
}

void
mpe_test_expect_end(mpe_engine *e, mpe_process *p, const char *after)
{
    int code = -1, rc = mpe_process_join(e, p, mpe_now() + 5 * MPE_NS_PER_S, &code);
    if (rc != MPE_OK) {
        mpe_test_fail(__FILE__, __LINE__, "the waiter still sleeps after %s", after);
        mpe_test_kill(p);
        mpe_process_join(e, p, MPE_FOREVER, &code);
    }
    mpe_process_free(e, p);
}

static bool
kill_beside(mpe_engine *e, const struct mpe_test_wait *w, long point)
{
    const struct mpe_test_deaths *d = &w->deaths;
    int before = mpe_test_failures();
    void *arg = d->fresh(e);
    mpe_process *partner = mpe_test_start(e, w->wait, arg);
    mpe_test_wait_until_asleep(e, partner);
    bool has_ended = mpe_test_kill_at(e, d->prepare, d->body, arg, point);
    wait_until_reaped(e);
    if (!w->is_due || w->is_due(e, arg)) {
        mpe_test_expect_end(e, partner, "the death");
    } else {
        w->release(e, arg);
        mpe_test_expect_end(e, partner, "its release");
    }
    mpe_test_reap(e);
    d->check(e, arg, has_ended);
    say_where(before);
    return has_ended;
}

void
mpe_test_kill_beside_a_waiter(mpe_engine *e, const struct mpe_test_wait *w)
{
    for (long point = 1; !kill_beside(e, w, point); point = mpe_test_next_point(point))
        ;
}

/* ---- whole cases ---- */

mpe_object *mpe_test_it;

void
mpe_test_forget(mpe_engine *e)
{
    int contains = mpe_test_it && atomic_load(&mpe_test_it->flags) & MPE__OBJECT_CONTAINS;
    if (mpe_test_it)
        mpe_drop(e, mpe_test_it);
    mpe_test_it = NULL;
    if (contains)
        mpe_test_sweep(e);
    EXPECT_EQ(mpe_test_used(e), 0);
}

static void
run_case(const struct mpe_test_deaths *d,
         void (*kill_all)(mpe_engine *e, const struct mpe_test_deaths *d))
{
    mpe_engine *e = mpe_test_engine(0);
    kill_all(e, d);
    mpe_test_forget(e);
    mpe_test_check(e);
    mpe_close(e);
}

void
mpe_test_deaths_everywhere(struct mpe_test_deaths d)
{
    run_case(&d, mpe_test_kill_everywhere);
}

void
mpe_test_deaths_in_an_empty_heap(struct mpe_test_deaths d)
{
    run_case(&d, mpe_test_kill_in_an_empty_heap);
}

void
mpe_test_deaths_of_reapers(struct mpe_test_deaths d)
{
    run_case(&d, mpe_test_kill_reapers_everywhere);
}

static void
kill_all_beside_a_waiter(mpe_engine *e, const struct mpe_test_deaths *d)
{
    mpe_test_kill_beside_a_waiter(e, MPE__CONTAINER(d, struct mpe_test_wait, deaths));
}

void
mpe_test_deaths_beside_a_waiter(struct mpe_test_wait w)
{
    run_case(&w.deaths, kill_all_beside_a_waiter);
}

/* ---- afterwards ---- */

void
mpe_test_reap(mpe_engine *e)
{
    while (mpe_reap_dead(e))
        ;
    mpe_test_check(e);
}

void
mpe_test_sweep(mpe_engine *e)
{
    atomic_store(&e->header->sweep_wanted, 1);
    mpe__sweep_if_wanted(e);
}
