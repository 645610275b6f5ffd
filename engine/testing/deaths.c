/* SPDX-License-Identifier: MIT */
/* Kill points and mutants; see deaths.h. */
#define MPE_TEST_KILL_POINTS_OWN
#include "testing/deaths.h"

#include "testing/kill_points.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the victim leaves, in memory shared with its parent. */
static struct grave {
    const char *file;
    int line;
    long passed;
    bool has_ended;
} * grave;

static long left;     /* points until the one that kills; 0: none does */
static pid_t planner; /* is spared itself */

static _Noreturn void
die(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* ---- mutants ---- */

static const char *mutant;
static enum mpe_test_mutation mutation;

static struct {
    mpe__a32 *p32;
    mpe__a64 *p64;
    uint64_t v;
} delayed;

static void
do_delayed(void)
{
    if (delayed.p32)
        mpe__store32(delayed.p32, (uint32_t)delayed.v);
    if (delayed.p64)
        mpe__store64(delayed.p64, delayed.v);
    delayed.p32 = NULL;
    delayed.p64 = NULL;
}

static bool
is_mutant(const char *text)
{
    return MPE__UNLIKELY(mutant != NULL) && strcmp(mutant, text) == 0;
}

void
mpe_test_mutate(enum mpe_test_mutation what, const char *store)
{
    mutant = store;
    mutation = what;
}

/* ---- points ---- */

/* Of a loop over one point the first four and each 2^k-th pass count. */
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
    if (left == 0 || getpid() == planner || is_one_of_many(file, line))
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
    pass(file, line);
    if (!is_mutant(text))
        mpe__store32(p, v);
    do_delayed();
    if (is_mutant(text) && mutation == MPE_TEST_DELAY) {
        delayed.p32 = p;
        delayed.v = v;
    }
}

void
mpe_test_store64(const char *file, int line, const char *text, mpe__a64 *p, uint64_t v)
{
    pass(file, line);
    if (!is_mutant(text))
        mpe__store64(p, v);
    do_delayed();
    if (is_mutant(text) && mutation == MPE_TEST_DELAY) {
        delayed.p64 = p;
        delayed.v = v;
    }
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
    if (!grave)
        grave = mmap(NULL, sizeof *grave, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                     0);
    REQUIRE(grave != MAP_FAILED);
    *grave = (struct grave){NULL, 0, 0, false};
    left = point;
}

static void
run_victim(mpe_engine *e, void *arg)
{
    struct victim *v = arg;
    if (v->prepare)
        v->prepare(e, v->arg);
    planner = 0;
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
    free(p); /* not mpe_process_free: what it knows would be reaped */
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

void
mpe_test_kill_everywhere(mpe_engine *e, void *(*fresh)(mpe_engine *e), mpe_test_body *body,
                         void (*check)(mpe_engine *e, void *arg, bool has_ended))
{
    bool has_ended = false;
    for (long point = 1; !has_ended; point = mpe_test_next_point(point)) {
        void *arg = fresh(e);
        int before = mpe_test_failures();
        has_ended = mpe_test_kill_at(e, NULL, body, arg, point);
        check(e, arg, has_ended);
        if (mpe_test_failures() > before)
            printf("      after a death before %s\n", mpe_test_death());
    }
}
