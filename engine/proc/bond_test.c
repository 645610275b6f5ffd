/* SPDX-License-Identifier: MIT */
/* Bonds: what becomes of a process when the one that it is bound to is killed. */
#include "mpengine_core.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static void
stay(mpe_engine *e, void *arg)
{
    (void)e, (void)arg;
    mpe_test_gate_wait(mpe_test_gate_new());
}

struct family {
    unsigned flags;
    int pipe[2]; /* its writing end is open in the grandchild alone */
    struct mpe_test_gate ready;
};

static void
start_and_stay(mpe_engine *e, void *arg)
{
    struct family *f = arg;
    mpe_process *p;
    int is_child;
    REQUIRE_OK(mpe_process_fork(e, "grandchild", f->flags, (mpe_bytes){NULL, 0}, &p, &is_child));
    if (is_child)
        mpe_test_gate_open(f->ready);
    else
        close(f->pipe[1]);
    stay(e, NULL);
}

static void
kill_parent_of(unsigned flags, int goes_too)
{
    mpe_engine *e = mpe_test_engine(0);
    struct family f = {.flags = flags, .ready = mpe_test_gate_new()};
    char byte;
    REQUIRE(pipe(f.pipe) == 0);
    mpe_process *p = mpe_test_start(e, start_and_stay, &f);
    close(f.pipe[1]);
    mpe_test_gate_wait(f.ready);
    mpe_test_kill(p);
    EXPECT_EQ(mpe_test_join(e, p), -SIGKILL);
    if (goes_too)
        EXPECT_EQ(read(f.pipe[0], &byte, 1), 0); /* blocks while the grandchild lives */
    REQUIRE(fcntl(f.pipe[0], F_SETFL, O_NONBLOCK) == 0);
    EXPECT_EQ(read(f.pipe[0], &byte, 1), goes_too ? 0 : -1);
    mpe_close(e);
}

TEST(a_daemon_dies_with_its_parent)
{
    kill_parent_of(MPE_PROCESS_DAEMON, 1);
}

TEST(a_bound_child_is_terminated_with_its_parent)
{
    kill_parent_of(MPE_PROCESS_BOUND, 1);
}

static mpe_engine *bound;
static int told_fd;

static void
on_bound_end(int number)
{
    (void)number;
    mpe_bound_signal(bound);
    if (write(told_fd, "x", 1) != 1)
        _exit(1);
}

/* The first child counts its signals until the other one, which has the write end of a pipe, is gone. */
static void
start_two_bound(mpe_engine *e, void *arg)
{
    struct family *f = arg;
    int other[2], is_child;
    mpe_process *p;
    REQUIRE(pipe(other) == 0);
    for (int i = 0; i < 2; i++) {
        REQUIRE_OK(
            mpe_process_fork(e, "bound", MPE_PROCESS_BOUND, (mpe_bytes){NULL, 0}, &p, &is_child));
        if (!is_child)
            continue;
        struct sigaction a = {.sa_handler = on_bound_end, .sa_flags = SA_RESTART};
        char byte;
        bound = e;
        told_fd = f->pipe[1];
        sigfillset(&a.sa_mask);
        if (i == 0) {
            sigaction(SIGTERM, &a, NULL);
            close(other[1]);
        }
        mpe_test_gate_open(f->ready);
        if (i == 0 && read(other[0], &byte, 1) == 0)
            _exit(0);
        stay(e, NULL);
    }
    close(f->pipe[1]);
    close(other[1]);
    stay(e, NULL);
}

TEST(a_handler_gets_the_signal_of_its_bond_once)
{
    mpe_engine *e = mpe_test_engine(0);
    struct family f = {.ready = mpe_test_gate_new()};
    char bytes[8];
    ssize_t n, count = 0;
    REQUIRE(pipe(f.pipe) == 0);
    mpe_process *p = mpe_test_start(e, start_two_bound, &f);
    close(f.pipe[1]);
    mpe_test_gate_wait(f.ready);
    mpe_test_gate_wait(f.ready);
    mpe_test_kill(p);
    EXPECT_EQ(mpe_test_join(e, p), -SIGKILL);
    while ((n = read(f.pipe[0], bytes, sizeof bytes)) > 0)
        count += n;
    EXPECT_EQ(count, 1);
    mpe_close(e);
}

TEST(another_child_lives_on)
{
    kill_parent_of(0, 0);
}

/* ---- those that SIGTERM does not end ---- */

static void
do_nothing(int number)
{
    (void)number;
}

static void
on_continue(int number)
{
    (void)number;
    mpe_bound_continued(bound);
}

static void
ignore(void)
{
    signal(SIGTERM, SIG_IGN);
}

static void
block(void)
{
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, SIGTERM);
    sigprocmask(SIG_BLOCK, &one, NULL);
}

static void
handle(void)
{
    signal(SIGTERM, do_nothing);
}

static void
ignore_and_handle_the_other(void)
{
    ignore();
    signal(SIGCONT, on_continue);
}

static void
ignore_as_another_user(void)
{
    ignore();
    if (geteuid() == 0)
        REQUIRE(setresuid(65534, 65534, 65534) == 0);
}

static void
ignore_and_stop(void)
{
    ignore();
    raise(SIGSTOP);
}

static void
stop(void)
{
    raise(SIGSTOP);
}

static const struct shape {
    void (*take)(void);
    int computes, stops;
} shapes[] = {{ignore, 0, 0},
              {ignore, 1, 0},
              {block, 0, 0},
              {handle, 0, 0},
              {ignore_and_stop, 0, 1},
              {ignore_and_handle_the_other, 0, 0},
              {stop, 0, 1},
              {ignore_as_another_user, 0, 0}};

static volatile int counter; /* computing changes it */

static _Noreturn void
be(mpe_engine *e, const struct shape *s, struct family *f)
{
    bound = e;
    s->take();
    if (!s->stops)
        mpe_test_gate_open(f->ready);
    for (;;)
        if (s->computes)
            counter++;
        else
            pause();
}

/* One child of each shape; those that stop have done so when the gate is opened. */
static void
start_shapes(mpe_engine *e, void *arg)
{
    struct family *f = arg;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        mpe_process *p;
        siginfo_t info;
        int is_child;
        REQUIRE_OK(mpe_process_fork(e, "shape", f->flags, (mpe_bytes){NULL, 0}, &p, &is_child));
        if (is_child)
            be(e, &shapes[i], f);
        if (!shapes[i].stops)
            continue;
        REQUIRE(waitid(P_PID, (id_t)mpe_process_pid(p), &info, WSTOPPED) == 0);
        mpe_test_gate_open(f->ready);
    }
    close(f->pipe[1]);
    stay(e, NULL);
}

static void
wait_for_shapes(const struct family *f)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        mpe_test_gate_wait(f->ready);
}

/* How long one of the children lives after their starter. */
static uint64_t
life_after_the_starter(unsigned flags)
{
    mpe_engine *e = mpe_test_engine(0);
    struct family f = {.flags = flags, .ready = mpe_test_gate_new()};
    char byte;
    REQUIRE(pipe(f.pipe) == 0);
    mpe_process *p = mpe_test_start(e, start_shapes, &f);
    close(f.pipe[1]);
    wait_for_shapes(&f);
    uint64_t before = mpe_now();
    mpe_test_kill(p);
    EXPECT_EQ(mpe_test_join(e, p), -SIGKILL);
    EXPECT_EQ(read(f.pipe[0], &byte, 1), 0); /* blocks while one of them lives */
    uint64_t took = mpe_now() - before;
    mpe_close(e);
    return took;
}

TEST_LIMIT(a_bound_child_that_its_signal_does_not_end_is_killed_after_five_seconds, 30)
{
    EXPECT(life_after_the_starter(MPE_PROCESS_BOUND) >= 5 * MPE_NS_PER_S);
}

TEST(daemons_of_all_shapes_die_at_once)
{
    EXPECT(life_after_the_starter(MPE_PROCESS_DAEMON) < 5 * MPE_NS_PER_S);
}

static void
on_continue_and_tell(int number)
{
    on_continue(number);
    if (write(told_fd, "x", 1) != 1)
        _exit(1);
}

static void
ignore_and_tell_of_the_other(void)
{
    ignore();
    signal(SIGCONT, on_continue_and_tell);
}

TEST(a_bound_child_that_another_continues_is_not_killed)
{
    static const struct shape telling = {ignore_and_tell_of_the_other, 0, 0};
    mpe_engine *e = mpe_test_engine(0);
    struct family f = {.ready = mpe_test_gate_new()};
    mpe_process *p;
    char path[40], line[100];
    int is_child;
    REQUIRE(pipe(f.pipe) == 0);
    told_fd = f.pipe[1];
    REQUIRE_OK(mpe_process_fork(e, "one", MPE_PROCESS_BOUND, (mpe_bytes){NULL, 0}, &p, &is_child));
    if (is_child)
        be(e, &telling, &f);
    mpe_test_gate_wait(f.ready);
    REQUIRE_OK(mpe_process_signal(e, p, SIGCONT));
    EXPECT_EQ(read(f.pipe[0], line, 1), 1); /* the handler has run */
    snprintf(path, sizeof path, "/proc/%d/timers", mpe_process_pid(p));
    FILE *timers = fopen(path, "re");
    if (timers) { /* some kernels have no such file */
        EXPECT(fgets(line, sizeof line, timers) == NULL);
        fclose(timers);
    }
    mpe_test_kill(p);
    EXPECT_EQ(mpe_test_join(e, p), -SIGKILL);
    mpe_close(e);
}
