/* SPDX-License-Identifier: MIT */
/* The ends of children, and what a host may do then. */
#include "mpengine_core.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void
end_with(mpe_engine *e, void *arg)
{
    mpe_leave(e);
    _exit((int)(intptr_t)arg);
}

/* ---- freeing from the callback ---- */

static mpe_process *running;
#define CHILDREN 12
static mpe_waiter end, also[CHILDREN + 1]; /* each of them waits for one child */
static int started, told, done;

static void
on_also(mpe_engine *e, mpe_waiter *w, int status)
{
    (void)e, (void)w;
    told += status == MPE_OK;
}

static void
start_next(mpe_engine *e)
{
    started++;
    running = mpe_test_start(e, end_with, (void *)(intptr_t)started);
    REQUIRE_OK(mpe_process_wait(e, running, &end, MPE_FOREVER));
    REQUIRE_OK(mpe_process_wait(e, running, &also[started], MPE_FOREVER));
}

static void
on_end(mpe_engine *e, mpe_waiter *w, int status)
{
    int code = -1;
    (void)w;
    EXPECT_OK(status);
    EXPECT_OK(mpe_process_poll(e, running, &code));
    EXPECT_EQ(code, started);
    mpe_process_free(e, running);
    if (code != started || started == CHILDREN)
        done = 1;
    else
        start_next(e);
}

TEST(a_process_may_be_freed_and_another_started_in_the_callback_of_its_end)
{
    mpe_engine *e = mpe_test_engine(0);
    for (int with_loop = 0; with_loop < 2; with_loop++) {
        started = done = told = 0;
        end = (mpe_waiter){.fire = on_end};
        for (int i = 0; i <= CHILDREN; i++)
            also[i] = (mpe_waiter){.fire = on_also};
        if (with_loop)
            REQUIRE(mpe_loop(e) != NULL);
        start_next(e);
        EXPECT_OK(mpe_run_until(e, &done));
        EXPECT_EQ(started, CHILDREN);
        mpe_wait_stop(e, &also[CHILDREN]);
        EXPECT(told >= CHILDREN - 1);
    }
    mpe_test_check(e);
    mpe_close(e);
}

/* ---- statuses that others take ---- */

static void
take_all(int sig)
{
    int saved = errno;
    (void)sig;
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    errno = saved;
}

TEST(a_status_that_the_host_has_taken_is_no_exit_code)
{
    mpe_engine *e = mpe_test_engine(0);
    int code = 77, rc;
    signal(SIGCHLD, take_all);
    mpe_process *p = mpe_test_start(e, end_with, (void *)3);
    while ((rc = mpe_process_join(e, p, MPE_FOREVER, &code)) == MPE_EINTR)
        ;
    EXPECT_EQ(rc, MPE_ESTALE);
    EXPECT_EQ(mpe_process_poll(e, p, &code), MPE_ESTALE);
    EXPECT_EQ(code, 77);
    signal(SIGCHLD, SIG_DFL);
    mpe_process_free(e, p);
    mpe_close(e);
}

/* ---- without a descriptor ---- */

TEST(without_a_descriptor_an_end_is_seen_at_the_deadline_at_the_latest)
{
    static const uint64_t limits[] = {MPE_NOW, MPE_NS_PER_S / 100, MPE_NS_PER_S / 10};
    mpe_engine *e = mpe_test_engine(0);
    struct rlimit normal, none;
    siginfo_t info;
    REQUIRE(getrlimit(RLIMIT_NOFILE, &normal) == 0);
    none = (struct rlimit){0, normal.rlim_max};
    for (int i = 0; i < 3; i++) {
        int code = -1;
        mpe_process *p = mpe_test_start(e, end_with, (void *)5);
        REQUIRE(waitid(P_PID, (id_t)mpe_process_pid(p), &info, WEXITED | WNOWAIT) == 0);
        REQUIRE(setrlimit(RLIMIT_NOFILE, &none) == 0);
        int rc = mpe_process_join(e, p, limits[i] ? mpe_now() + limits[i] : MPE_NOW, &code);
        REQUIRE(setrlimit(RLIMIT_NOFILE, &normal) == 0);
        EXPECT_OK(rc);
        EXPECT_EQ(code, 5);
        mpe_process_free(e, p);
    }
    mpe_close(e);
}

/* A child that ends while the join without a descriptor sleeps. */
static void
end_soon(mpe_engine *e, void *arg)
{
    struct mpe_test_gate *g = arg;
    mpe_test_gate_wait(*g);
    usleep(5000);
    end_with(e, (void *)6);
}

TEST(without_a_descriptor_an_end_within_the_last_look_counts)
{
    mpe_engine *e = mpe_test_engine(0);
    struct mpe_test_gate g = mpe_test_gate_new();
    struct rlimit normal, none;
    int code = -1;
    REQUIRE(getrlimit(RLIMIT_NOFILE, &normal) == 0);
    none = (struct rlimit){0, normal.rlim_max};
    mpe_process *p = mpe_test_start(e, end_soon, &g);
    REQUIRE(setrlimit(RLIMIT_NOFILE, &none) == 0);
    mpe_test_gate_open(g);
    int rc = mpe_process_join(e, p, mpe_now() + 40 * (MPE_NS_PER_S / 1000), &code);
    if (rc == MPE_ETIMEDOUT) /* a machine so loaded that the child has not run */
        rc = mpe_process_join(e, p, MPE_FOREVER, &code);
    REQUIRE(setrlimit(RLIMIT_NOFILE, &normal) == 0);
    EXPECT_OK(rc);
    EXPECT_EQ(code, 6);
    mpe_process_free(e, p);
    mpe_close(e);
}

/* ---- closing ---- */

static mpe_process *
start_daemon(mpe_engine *e)
{
    mpe_process *p;
    int is_child;
    mpe_bytes none = {NULL, 0};
    int rc = mpe_process_fork(e, "daemon", MPE_PROCESS_DAEMON, none, &p, &is_child);
    while (is_child && rc == MPE_OK) /* else the parent has closed already */
        pause();
    if (is_child)
        _exit(1);
    REQUIRE_OK(rc);
    return p;
}

static int
open_descriptors(void)
{
    int n = 0;
    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

TEST(closing_ends_and_reaps_daemons_whether_freed_or_not)
{
    int before = open_descriptors();
    mpe_engine *e = mpe_test_engine(0);
    struct mpe_test_waiter w = mpe_test_waiter_new();
    for (int i = 0; i < 10; i++) {
        mpe_process *p = start_daemon(e);
        if (i == 6)
            EXPECT_OK(mpe_process_wait(e, p, &w.w, MPE_FOREVER));
        if (i % 2)
            mpe_process_free(e, p);
    }
    mpe_close(e);
    EXPECT_EQ(open_descriptors(), before);
    EXPECT_EQ(waitpid(-1, NULL, WNOHANG), -1);
    EXPECT_EQ(errno, ECHILD);
}

static void
open_and_stay(mpe_engine *e, void *gate)
{
    (void)e;
    mpe_test_gate_open(*(struct mpe_test_gate *)gate);
    pause();
}

TEST(closing_leaves_other_children_alone)
{
    mpe_engine *e = mpe_test_engine(0);
    struct mpe_test_gate attached = mpe_test_gate_new();
    mpe_process *p = mpe_test_start(e, open_and_stay, &attached);
    int pid = mpe_process_pid(p), status;
    mpe_test_gate_wait(attached); /* the start of one that has no starter any more fails */
    mpe_process_free(e, p);
    mpe_close(e);
    EXPECT_EQ(waitpid(pid, &status, WNOHANG), 0);
    kill(pid, SIGKILL);
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
}

/* ---- waits inside a task ---- */

static int
yes(void *ud)
{
    return *(int *)ud;
}

static int
never(mpe_engine *e, mpe_object *o, void *ud)
{
    (void)e, (void)o;
    return ++*(int *)ud < 3 ? MPE_EAGAIN : MPE_OK;
}

TEST(waits_of_the_host_are_refused_inside_a_task)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = mpe_test_event(e);
    int inside = 1, ready = 1, tries = 0;
    mpe_ask_in_task(e, yes, &inside);
    EXPECT_EQ(mpe_run_until(e, &ready), MPE_EDEADLK);
    EXPECT_EQ(mpe_poll(e), MPE_EDEADLK);
    EXPECT_EQ(mpe_await(e, o, MPE_EVENT_READY, MPE_FOREVER, never, &tries), MPE_EDEADLK);
    EXPECT_EQ(mpe_await(e, o, MPE_EVENT_READY, MPE_NOW, never, &tries), MPE_ETIMEDOUT);
    EXPECT_OK(mpe_await(e, o, MPE_EVENT_READY, MPE_FOREVER, never, &tries));
    EXPECT_OK(mpe_drive(e, &ready));
    inside = 0;
    EXPECT_OK(mpe_run_until(e, &ready));
    EXPECT_EQ(mpe_poll(e), 0);
    mpe_ask_in_task(e, NULL, NULL);
    mpe_drop(e, o);
    mpe_close(e);
}
