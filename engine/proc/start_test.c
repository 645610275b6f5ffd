/* SPDX-License-Identifier: MIT */
/* The start methods spawn and forkserver: this program starts itself as a child and as the fork
 * server. A constructor handles those before the cases would run. */
#include "mpengine_core.h"
#include "mpengine_wire.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LEAVE_WITH_7, TELL, STAY, KILL_ITSELF, START_DAEMON, START_BOUND };

#define OWN "/proc/self/exe"
static const char *const arguments[] = {"start_test", NULL};

typedef int (*starter)(mpe_engine *e, const mpe_start *s, mpe_process **out);
static const starter starters[] = {mpe_process_spawn, mpe_process_request};
#define EACH_METHOD(m) for (int m = 0; m < 2; m++)

/* ---- messages ---- */

static void
put_int(mpe_engine *e, mpe_object *queue, int64_t value)
{
    mpe_buf b;
    mpe_buf_init(&b);
    REQUIRE_OK(mpe_wire_put_int(&b, value));
    mpe_bytes part = {b.data, b.len};
    REQUIRE_OK(mpe_queue_put(e, queue, &part, 1, 0));
    mpe_buf_free(&b);
}

static mpe_wire_item
first_item(mpe_engine *e, mpe_message *m)
{
    mpe_wire_reader r;
    mpe_wire_item item;
    mpe_wire_open(&r, m->data, m->size);
    REQUIRE(mpe_wire_read(&r, &item) == 1);
    mpe_message_free(e, m);
    return item;
}

static int64_t
get_int(mpe_engine *e, mpe_object *queue)
{
    mpe_message m;
    REQUIRE_OK(mpe_test_get(e, queue, &m));
    return first_item(e, &m).u.i;
}

/* ---- the child ---- */

static int
open_descriptors(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    REQUIRE(d != NULL);
    for (struct dirent *f; (f = readdir(d)) != NULL;)
        n += f->d_name[0] != '.' && atoi(f->d_name) != dirfd(d);
    closedir(d);
    return n;
}

static int
start(mpe_engine *e, int method, int what, mpe_object *queue, unsigned flags, mpe_process **out)
{
    mpe_buf b[2];
    mpe_start s = MPE_START_INIT;
    for (int i = 0; i < 2; i++)
        mpe_buf_init(&b[i]);
    REQUIRE_OK(mpe_wire_put_int(&b[0], what));
    REQUIRE_OK(mpe_wire_put_handle(&b[1], mpe_handle_of(e, queue)));
    const mpe_bytes messages[] = {{b[0].data, b[0].len}, {b[1].data, b[1].len}};
    s.name = "child";
    s.flags = flags;
    s.messages = messages;
    s.count = 2;
    s.executable = OWN;
    s.argv = arguments;
    int rc = starters[method](e, &s, out);
    for (int i = 0; i < 2; i++)
        mpe_buf_free(&b[i]);
    return rc;
}

static void
tell(mpe_engine *e, mpe_object *queue)
{
    int alive;
    put_int(e, queue, getpid());
    put_int(e, queue, mpe_parent_pid(e, &alive));
    put_int(e, queue, alive);
    put_int(e, queue, strcmp(mpe_self_name(e), "child"));
    put_int(e, queue, strcmp(mpe_parent_name(e), "MainProcess"));
    put_int(e, queue, open_descriptors());
    put_int(e, queue, getenv("MPENGINE_CHILD") != NULL);
}

static _Noreturn void
stay(mpe_engine *e, mpe_object *queue)
{
    put_int(e, queue, getpid());
    for (;;)
        pause();
}

static int
act(mpe_engine *e)
{
    mpe_message m;
    mpe_object *queue;
    REQUIRE_OK(mpe_next_message(e, &m));
    int64_t what = first_item(e, &m).u.i;
    REQUIRE_OK(mpe_next_message(e, &m));
    mpe_wire_reader r;
    mpe_wire_item item;
    mpe_wire_open(&r, m.data, m.size);
    REQUIRE(mpe_wire_read(&r, &item) == 1);
    REQUIRE_OK(mpe_hold(e, item.u.h, &queue));
    mpe_message_free(e, &m);
    EXPECT_EQ(mpe_next_message(e, &m), MPE_ENOENT);
    mpe_process *p;
    switch (what) {
    case TELL:
        tell(e, queue);
        return 0;
    case STAY:
        stay(e, queue);
    case KILL_ITSELF:
        raise(SIGKILL);
        return 0;
    case START_DAEMON:
    case START_BOUND: /* by spawn and by the server in turn, and waits with them */
        EACH_METHOD(method)
        REQUIRE_OK(start(e, method, STAY, queue,
                         what == START_BOUND ? MPE_PROCESS_BOUND : MPE_PROCESS_DAEMON, &p));
        stay(e, queue);
    default:
        return 7;
    }
}

__attribute__((constructor)) static void
be_a_child(void)
{
    mpe_engine *e;
    if (!getenv("MPENGINE_CHILD"))
        return;
    if (mpe_attach(NULL, &e) != MPE_OK)
        _exit(70);
    if (mpe_is_server(e)) {
        int rc = mpe_serve(e);
        if (rc != MPE_OK)
            _exit(rc == MPE_ECLOSED ? 0 : 71);
    }
    int code = act(e);
    mpe_report_exit(e, code);
    mpe_leave(e);
    _exit(code);
}

/* ---- the cases ---- */

static int
join(mpe_engine *e, mpe_process *p)
{
    int code = 99;
    REQUIRE_OK(mpe_process_join(e, p, MPE_FOREVER, &code));
    mpe_process_free(e, p);
    return code;
}

static mpe_object *
new_queue(mpe_engine *e)
{
    mpe_object *queue;
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &queue));
    return queue;
}

TEST(the_code_of_a_child_is_its_exit_status)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *queue = new_queue(e);
    mpe_process *p;
    EACH_METHOD(m)
    {
        REQUIRE_OK(start(e, m, LEAVE_WITH_7, queue, 0, &p));
        EXPECT_EQ(join(e, p), 7);
        REQUIRE_OK(start(e, m, KILL_ITSELF, queue, 0, &p));
        EXPECT_EQ(join(e, p), -SIGKILL);
    }
    mpe_drop(e, queue);
    mpe_end_server(e);
    mpe_test_check(e);
    mpe_close(e);
}

TEST(a_child_has_its_messages_its_name_and_its_parent_and_nothing_else_of_it)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *queue = new_queue(e);
    int extra = open("/dev/null", O_RDONLY); /* not close-on-exec, but not inherited by any child */
    REQUIRE(extra >= 0);
    EACH_METHOD(m)
    {
        mpe_process *p;
        REQUIRE_OK(start(e, m, TELL, queue, 0, &p));
        EXPECT_EQ(get_int(e, queue), mpe_process_pid(p));
        EXPECT_EQ(get_int(e, queue), getpid());
        EXPECT_EQ(get_int(e, queue), 1);
        EXPECT_EQ(get_int(e, queue), 0);
        EXPECT_EQ(get_int(e, queue), 0);
        EXPECT(get_int(e, queue) <=
               6); /* the standard ones, the arena, the status pipe, a doorbell */
        EXPECT_EQ(get_int(e, queue), 0);
        EXPECT_EQ(join(e, p), 0);
    }
    close(extra);
    mpe_drop(e, queue);
    mpe_close(e);
}

static int
is_alive(int64_t pid)
{
    char path[40], state = 'X';
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "r");
    if (!f)
        return 0;
    if (fscanf(f, "%*d %*s %c", &state) != 1)
        state = 'X';
    fclose(f);
    return state != 'Z' && state != 'X';
}

static int
ends(int64_t pid)
{
    for (int i = 0; i < 500 && is_alive(pid); i++)
        usleep(10000);
    return !is_alive(pid);
}

TEST(a_daemon_dies_with_its_parent_by_every_start_method)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *queue = new_queue(e);
    mpe_process *p;
    int64_t pids[3];
    REQUIRE_OK(start(e, 0, START_DAEMON, queue, 0, &p));
    for (int i = 0; i < 3; i++)
        pids[i] = get_int(e, queue);
    REQUIRE_OK(mpe_process_signal(e, p, SIGKILL));
    EXPECT_EQ(join(e, p), -SIGKILL);
    for (int i = 0; i < 3; i++)
        EXPECT(ends(pids[i]));
    mpe_drop(e, queue);
    mpe_close(e);
}

TEST(the_server_can_be_killed_and_its_children_are_still_known)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *queue = new_queue(e);
    mpe_process *first, *second;
    REQUIRE_OK(start(e, 1, STAY, queue, 0, &first));
    int64_t pid = get_int(e, queue);
    EXPECT_EQ(pid, mpe_process_pid(first));
    mpe_end_server(e);
    EXPECT(is_alive(pid));
    REQUIRE_OK(start(e, 1, LEAVE_WITH_7, queue, 0, &second)); /* by another server */
    EXPECT_EQ(join(e, second), 7);
    REQUIRE_OK(mpe_process_signal(e, first, SIGKILL));
    EXPECT_EQ(join(e, first), -SIGKILL);
    mpe_end_server(e);
    mpe_drop(e, queue);
    mpe_close(e);
}

TEST(closing_ends_the_server_that_it_has_started)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *queue = new_queue(e);
    mpe_process *p;
    REQUIRE_OK(start(e, 1, LEAVE_WITH_7, queue, 0, &p));
    EXPECT_EQ(join(e, p), 7);
    mpe_drop(e, queue);
    mpe_close(e);
    EXPECT_EQ(waitpid(-1, NULL, WNOHANG), -1);
    EXPECT_EQ(errno, ECHILD);
}

TEST(a_start_that_fails_leaves_nothing_behind)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *queue = new_queue(e);
    mpe_process *p;
    EACH_METHOD(m)
    {
        mpe_start s = MPE_START_INIT;
        s.name = "child";
        s.executable = "/nonexistent/program";
        s.argv = arguments;
        int before = open_descriptors();
        EXPECT_EQ(starters[m](e, &s, &p), MPE_ESYS);
        EXPECT_EQ(errno, ENOENT);
        EXPECT(open_descriptors() <= before + 1); /* the socket that asks stays open */
        REQUIRE_OK(start(e, m, LEAVE_WITH_7, queue, 0, &p));
        EXPECT_EQ(join(e, p), 7);
    }
    mpe_slot_info info;
    uint32_t at = 0, slots = 0;
    while (mpe_slot_next(e, &at, &info) == MPE_OK)
        slots++;
    EXPECT_EQ(slots, 1);
    mpe_drop(e, queue);
    mpe_test_check(e);
    mpe_close(e);
}

TEST(without_descriptors_a_start_fails_and_the_next_one_works)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *queue = new_queue(e);
    mpe_process *p;
    EACH_METHOD(m)
    {
        struct rlimit few, normal;
        REQUIRE(getrlimit(RLIMIT_NOFILE, &normal) == 0);
        few = normal;
        few.rlim_cur = (rlim_t)open_descriptors();
        REQUIRE(setrlimit(RLIMIT_NOFILE, &few) == 0);
        int taken[64], n = 0;
        while (n < 64 && (taken[n] = dup(1)) >= 0)
            n++;
        EXPECT_EQ(start(e, m, LEAVE_WITH_7, queue, 0, &p), MPE_ESYS);
        EXPECT_EQ(errno, EMFILE);
        while (n > 0)
            close(taken[--n]);
        REQUIRE(setrlimit(RLIMIT_NOFILE, &normal) == 0);
        REQUIRE_OK(start(e, m, LEAVE_WITH_7, queue, 0, &p));
        EXPECT_EQ(join(e, p), 7);
    }
    mpe_drop(e, queue);
    mpe_close(e);
}

TEST(exit_codes_arrive_whatever_was_done_to_SIGCHLD_before)
{
    sigset_t chld;
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    sigprocmask(SIG_BLOCK, &chld, NULL);
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *queue = new_queue(e);
    mpe_process *p;
    EACH_METHOD(m)
    {
        REQUIRE_OK(start(e, m, LEAVE_WITH_7, queue, 0, &p));
        EXPECT_EQ(join(e, p), 7);
    }
    mpe_end_server(e);
    signal(SIGCHLD, SIG_IGN); /* the server waits for its children, this process does not */
    REQUIRE_OK(start(e, 1, LEAVE_WITH_7, queue, 0, &p));
    EXPECT_EQ(join(e, p), 7);
    mpe_drop(e, queue);
    mpe_close(e);
}

/* Its exit code, when only the signal makes this process check. */
static int
code_by_signal(mpe_engine *e, mpe_process *p, const sigset_t *usr1)
{
    const struct timespec limit = {10, 0};
    int code = 99;
    REQUIRE_OK(mpe_process_tell(e, p, SIGUSR1));
    while (mpe_process_poll(e, p, &code) == MPE_EAGAIN)
        REQUIRE(sigtimedwait(usr1, NULL, &limit) == SIGUSR1);
    mpe_process_free(e, p);
    return code;
}

TEST(the_end_of_a_child_of_the_server_is_reported_by_a_signal)
{
    sigset_t usr1;
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    sigprocmask(SIG_BLOCK, &usr1, NULL);
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *queue = new_queue(e);
    mpe_process *p;
    REQUIRE_OK(start(e, 1, LEAVE_WITH_7, queue, 0, &p));
    EXPECT_EQ(code_by_signal(e, p, &usr1), 7);
    REQUIRE_OK(start(e, 1, STAY, queue, 0, &p));
    get_int(e, queue);
    REQUIRE_OK(mpe_process_signal(e, p, SIGKILL));
    EXPECT_EQ(code_by_signal(e, p, &usr1), -SIGKILL);
    const struct timespec now = {0, 0};
    while (sigtimedwait(&usr1, NULL, &now) > 0) /* one for each report of the server */
        ;
    REQUIRE_OK(start(e, 0, LEAVE_WITH_7, queue, 0, &p));
    REQUIRE_OK(mpe_process_tell(e, p, SIGUSR1)); /* SIGCHLD does */
    EXPECT_EQ(join(e, p), 7);
    EXPECT_OK(sigpending(&usr1));
    EXPECT(!sigismember(&usr1, SIGUSR1));
    mpe_drop(e, queue);
    mpe_end_server(e);
    mpe_close(e);
}

TEST(other_programs_are_distinguished_from_a_server)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_process *p;
    mpe_start s = MPE_START_INIT;
    static const char *const nothing[] = {"true", NULL};
    s.name = "child";
    s.executable = "/bin/true";
    s.argv = nothing;
    EXPECT_EQ(mpe_process_request(e, &s, &p), MPE_ESERVER);
    mpe_close(e);
}
