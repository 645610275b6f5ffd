/* SPDX-License-Identifier: MIT */
/* Single steps; see steps.h. */
#include "testing/steps.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

struct stepped {
    void (*prepare)(mpe_engine *e, void *arg);
    void (*body)(mpe_engine *e, void *arg);
    void *arg;
};

static void
run_stepped(mpe_engine *e, void *arg)
{
    struct stepped *s = arg;
    if (s->prepare)
        s->prepare(e, s->arg);
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
        _exit(77);
    raise(SIGSTOP);
    s->body(e, s->arg);
    raise(SIGSTOP);
}

static bool
is_stopped_with(pid_t pid, int sig)
{
    int status;
    while (waitpid(pid, &status, 0) != pid)
        REQUIRE(errno == EINTR);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        mpe_test_skip("ptrace is not allowed here");
    return WIFSTOPPED(status) && WSTOPSIG(status) == sig;
}

/* mpe_test_kill_at; says in *taken how many steps it took. */
static bool
kill_at(mpe_engine *e, struct stepped s, long steps, long *taken)
{
    mpe_process *p = mpe_test_start(e, run_stepped, &s);
    pid_t pid = mpe_process_pid(p);
    bool is_running = true;
    long i = 0;
    REQUIRE(is_stopped_with(pid, SIGSTOP));
    for (; i < steps && is_running; i++) {
        REQUIRE(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) == 0);
        is_running = is_stopped_with(pid, SIGTRAP);
    }
    *taken = i;
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) != pid)
        REQUIRE(errno == EINTR);
    free(p); /* not mpe_process_free: what it knows would be reaped */
    return is_running;
}

bool
mpe_test_kill_at(mpe_engine *e, void (*prepare)(mpe_engine *e, void *arg),
                 void (*body)(mpe_engine *e, void *arg), void *arg, long steps)
{
    long taken;
    return kill_at(e, (struct stepped){prepare, body, arg}, steps, &taken);
}

void
mpe_test_kill_everywhere(mpe_engine *e, void *(*fresh)(mpe_engine *e),
                         void (*body)(mpe_engine *e, void *arg),
                         void (*check)(mpe_engine *e, void *arg, bool has_ended), long deaths)
{
    const char *factor = getenv("MPE_TEST_DEATHS");
    long all, taken;
    void *arg = fresh(e);
    EXPECT(!kill_at(e, (struct stepped){NULL, body, arg}, LONG_MAX, &all));
    check(e, arg, true);
    deaths *= factor ? atol(factor) : 1;
    deaths = deaths < all ? deaths : all;
    for (long i = 0; i < deaths; i++) {
        arg = fresh(e);
        bool has_ended = !kill_at(e, (struct stepped){NULL, body, arg}, i * all / deaths, &taken);
        check(e, arg, has_ended);
    }
}
