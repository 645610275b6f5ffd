/* SPDX-License-Identifier: MIT */
/* Processes: starting, ending, being waited for; and objects that are there before and after. */
#include "mpengine_core.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct wait {
    mpe_waiter w;
    int fired, status;
};

static void
on_fire(mpe_engine *e, mpe_waiter *w, int status)
{
    struct wait *x = (struct wait *)w;
    (void)e;
    x->fired = 1;
    x->status = status;
}

/* Waits for the end of p on the loop; its code. */
static int
wait_on_loop(mpe_engine *e, mpe_process *p)
{
    int code = 99;
    while (mpe_process_poll(e, p, &code) == MPE_EAGAIN) {
        struct wait w = {.w = {.fire = on_fire}};
        REQUIRE_OK(mpe_process_wait(e, p, &w.w, MPE_FOREVER));
        REQUIRE_OK(mpe_run_until(e, &w.fired));
        EXPECT_OK(w.status);
    }
    mpe_process_free(e, p);
    return code;
}

static void
exit_with(mpe_engine *e, void *arg)
{
    (void)e;
    _exit(*(int *)arg);
}

static void
kill_itself(mpe_engine *e, void *arg)
{
    (void)e;
    raise(*(int *)arg);
}

TEST(the_code_of_a_child_is_its_status_or_its_signal)
{
    mpe_engine *e = mpe_test_engine(0);
    static int codes[] = {0, 1, 7, 255}, signals[] = {SIGKILL, SIGTERM};
    for (int i = 0; i < 4; i++)
        EXPECT_EQ(wait_on_loop(e, mpe_test_start(e, exit_with, &codes[i])), codes[i]);
    for (int i = 0; i < 2; i++)
        EXPECT_EQ(wait_on_loop(e, mpe_test_start(e, kill_itself, &signals[i])), -signals[i]);
    mpe_close(e);
}

static void
stay(mpe_engine *e, void *arg)
{
    (void)e, (void)arg;
    mpe_test_gate_wait(mpe_test_gate_new());
}

TEST(a_child_that_runs_can_be_polled_and_signalled)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_process *p = mpe_test_start(e, stay, NULL);
    int code = 99;
    EXPECT(mpe_process_is_mine(p));
    EXPECT_EQ(mpe_process_poll(e, p, &code), MPE_EAGAIN);
    EXPECT_EQ(code, 99);
    EXPECT_OK(mpe_process_signal(e, p, SIGTERM));
    EXPECT_EQ(mpe_test_join(e, p), -SIGTERM);
    mpe_close(e);
}

TEST(signalling_one_that_has_ended_is_fine)
{
    mpe_engine *e = mpe_test_engine(0);
    int zero = 0, code;
    mpe_process *p = mpe_test_start(e, exit_with, &zero);
    while (mpe_process_poll(e, p, &code) == MPE_EAGAIN)
        ;
    EXPECT_OK(mpe_process_poll(e, p, &code));
    EXPECT_OK(mpe_process_signal(e, p, SIGTERM));
    struct wait w = {.w = {.fire = on_fire}};
    EXPECT_OK(mpe_process_wait(e, p, &w.w, MPE_FOREVER));
    EXPECT_OK(mpe_run_until(e, &w.fired));
    mpe_process_free(e, p);
    mpe_close(e);
}

TEST(a_wait_for_a_child_has_a_deadline)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_process *p = mpe_test_start(e, stay, NULL);
    struct wait w = {.w = {.fire = on_fire}};
    EXPECT_OK(mpe_process_wait(e, p, &w.w, mpe_now() + 1000000));
    EXPECT_OK(mpe_run_until(e, &w.fired));
    EXPECT_EQ(w.status, MPE_ETIMEDOUT);
    EXPECT_OK(mpe_process_signal(e, p, SIGKILL));
    EXPECT_EQ(wait_on_loop(e, p), -SIGKILL);
    mpe_close(e);
}

TEST(many_children_are_waited_for_in_any_order)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_process *p[40];
    int codes[40];
    for (int i = 0; i < 40; i++) {
        codes[i] = i;
        p[i] = mpe_test_start(e, exit_with, &codes[i]);
    }
    for (int i = 39; i >= 0; i--)
        EXPECT_EQ(wait_on_loop(e, p[i]), i);
    mpe_close(e);
}

/* ---- what a child finds ---- */

struct facts {
    int parent;
    mpe_process *sibling;
};

static void
look_around(mpe_engine *e, void *arg)
{
    struct facts *f = arg;
    int alive = 0, code;
    EXPECT_EQ(mpe_parent_pid(e, &alive), f->parent);
    EXPECT_EQ(alive, 1);
    EXPECT_STR(mpe_parent_name(e), "MainProcess");
    EXPECT_STR(mpe_self_name(e), "child");
    mpe_self_set_name(e, "renamed");
    EXPECT_STR(mpe_self_name(e), "renamed");
    EXPECT_EQ(mpe_process_is_mine(f->sibling), 0);
    EXPECT_EQ(mpe_process_poll(e, f->sibling, &code), MPE_EPERM);
    struct wait w = {.w = {.fire = on_fire}};
    EXPECT_EQ(mpe_process_wait(e, f->sibling, &w.w, MPE_FOREVER), MPE_EPERM);
    mpe_process_free(e, f->sibling);
    REQUIRE_OK(mpe_wait_timer(e, &w.w, mpe_now()));
    EXPECT_OK(mpe_run_until(e, &w.fired)); /* no timer or job of the parent is here */
    EXPECT(mpe_loop(e) != NULL);
}

static void
fail(mpe_engine *e, mpe_job *job)
{
    (void)e, (void)job;
    EXPECT(!"a job of the parent runs in the child");
}

static void
do_nothing(mpe_engine *e, mpe_job *job)
{
    (void)e, (void)job;
}

static void
fail_waiter(mpe_engine *e, mpe_waiter *w, int status)
{
    (void)e, (void)w, (void)status;
    EXPECT(!"a waiter of the parent is fired in the child");
}

TEST(a_child_knows_its_parent_and_nothing_of_its_loop)
{
    mpe_engine *e = mpe_test_engine(0);
    struct facts f = {getpid(), NULL};
    f.sibling = mpe_test_start(e, stay, NULL);
    struct wait w = {.w = {.fire = on_fire}}, timer = {.w = {.fire = fail_waiter}};
    REQUIRE_OK(mpe_process_wait(e, f.sibling, &w.w, MPE_FOREVER));
    REQUIRE_OK(mpe_wait_timer(e, &timer.w, mpe_now()));
    mpe_job job = {.run = fail};
    mpe_post(e, &job);
    mpe_process *p = mpe_test_start(e, look_around, &f);
    job.run = do_nothing; /* it may run here */
    mpe_wait_stop(e, &timer.w);
    EXPECT_EQ(mpe_test_join(e, p), 0);
    EXPECT_OK(mpe_process_signal(e, f.sibling, SIGKILL));
    siginfo_t info; /* the watch of the parent still works */
    EXPECT_EQ(waitid(P_PID, (id_t)mpe_process_pid(f.sibling), &info, WEXITED | WNOWAIT), 0);
    mpe_poll(e);
    EXPECT_EQ(w.fired, 1);
    int code = 0;
    EXPECT_OK(mpe_process_poll(e, f.sibling, &code));
    EXPECT_EQ(code, -SIGKILL);
    mpe_process_free(e, f.sibling);
    mpe_close(e);
}

struct orphan {
    mpe_object *queue;
    struct mpe_test_gate ready;
};

/* poll, begun again when a signal interrupts it. */
static int
poll_until(struct pollfd *p, int timeout)
{
    int n;
    do
        n = poll(p, 1, timeout);
    while (n < 0 && errno == EINTR);
    return n;
}

/* Waits for the exit of its parent, and says what the descriptor told of it. */
static void
outlive_parent(mpe_engine *e, void *arg)
{
    struct orphan *o = arg;
    int alive = 0;
    const char *said = "yes";
    struct pollfd p = {.fd = mpe_parent_fd(e, &alive), .events = POLLIN};
    if (p.fd <= 2 || !alive)
        said = "no parent";
    else if (poll_until(&p, 0) != 0)
        said = "readable while the parent runs";
    mpe_test_gate_open(o->ready);
    if (poll_until(&p, -1) != 1 || !(p.revents & POLLIN))
        said = "poll failed";
    else if (mpe_parent_fd(e, &alive) != p.fd || alive)
        said = "alive after its exit";
    REQUIRE_OK(mpe_test_put(e, o->queue, said, strlen(said) + 1));
}

static void
start_and_exit(mpe_engine *e, void *arg)
{
    struct orphan *o = arg;
    mpe_process_free(e, mpe_test_start(e, outlive_parent, o));
    mpe_test_gate_wait(o->ready);
}

TEST(a_child_has_a_descriptor_that_tells_of_its_parents_exit)
{
    mpe_engine *e = mpe_test_engine(0);
    struct orphan o = {NULL, mpe_test_gate_new()};
    mpe_message m;
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &o.queue));
    EXPECT_EQ(mpe_test_join(e, mpe_test_start(e, start_and_exit, &o)), 0);
    REQUIRE_OK(mpe_test_get(e, o.queue, &m));
    EXPECT_STR((const char *)m.data, "yes");
    mpe_message_free(e, &m);
    mpe_close(e);
}

struct objects {
    mpe_object *before, *to_child, *from_child;
};

static mpe_handle
handle_in(mpe_message *m)
{
    mpe_handle h;
    EXPECT_EQ(m->size, sizeof h);
    memcpy(&h, m->data, sizeof h);
    return h;
}

/* Sets the event it gets; answers with the handle of an event of its own. */
static void
set_what_comes(mpe_engine *e, void *arg)
{
    struct objects *o = arg;
    mpe_object *event, *own;
    mpe_message m;
    mpe_event_set(e, o->before);
    REQUIRE_OK(mpe_test_get(e, o->to_child, &m));
    REQUIRE_OK(mpe_hold(e, handle_in(&m), &event));
    mpe_event_set(e, event);
    REQUIRE_OK(mpe_event_create(e, &own));
    mpe_event_set(e, own);
    mpe_handle h = mpe_handle_of(e, own);
    REQUIRE_OK(mpe_test_put(e, o->from_child, &h, sizeof h));
    REQUIRE_OK(mpe_test_get(e, o->to_child, &m)); /* until it has been held */
}

TEST(objects_of_before_and_after_the_fork_are_the_same_everywhere)
{
    mpe_engine *e = mpe_test_engine(0);
    struct objects o;
    mpe_object *after, *theirs;
    mpe_message m;
    REQUIRE_OK(mpe_event_create(e, &o.before));
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &o.to_child));
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &o.from_child));
    mpe_process *p = mpe_test_start(e, set_what_comes, &o);
    for (int i = 0; i < 2000; i++) /* the arena grows meanwhile */
        REQUIRE_OK(mpe_array_create(e, 'd', 100, 0, &after));
    REQUIRE_OK(mpe_event_create(e, &after));
    mpe_handle h = mpe_handle_of(e, after);
    REQUIRE_OK(mpe_test_put(e, o.to_child, &h, sizeof h));
    REQUIRE_OK(mpe_test_get(e, o.from_child, &m));
    EXPECT(mpe_event_is_set(e, o.before));
    EXPECT(mpe_event_is_set(e, after));
    REQUIRE_OK(mpe_hold(e, handle_in(&m), &theirs));
    EXPECT(mpe_event_is_set(e, theirs));
    REQUIRE_OK(mpe_test_put(e, o.to_child, &h, sizeof h));
    EXPECT_EQ(mpe_test_join(e, p), 0);
    mpe_close(e);
}

struct late {
    mpe_handle h;
    struct mpe_test_gate go;
};

static void
use_late(mpe_engine *e, void *arg)
{
    struct late *l = arg;
    mpe_object *o;
    mpe_test_gate_wait(l->go);
    REQUIRE_OK(mpe_hold(e, l->h, &o));
    mpe_event_set(e, o);
}

TEST(a_child_holds_the_objects_its_parent_held_at_the_start)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o;
    REQUIRE_OK(mpe_event_create(e, &o));
    struct late l = {mpe_handle_of(e, o), mpe_test_gate_new()};
    mpe_process *p = mpe_test_start(e, use_late, &l);
    mpe_drop(e, o);
    mpe_test_gate_open(l.go);
    EXPECT_EQ(mpe_test_join(e, p), 0);
    EXPECT_EQ(mpe_hold(e, l.h, &o), MPE_OK); /* until it is found dead and swept */
    mpe_close(e);
}

/* ---- families ---- */

static void
start_a_child(mpe_engine *e, void *arg)
{
    int code = *(int *)arg;
    if (code == 0)
        _exit(3);
    code--;
    mpe_process *p = mpe_test_start(e, start_a_child, &code);
    _exit(wait_on_loop(e, p) + 1);
}

TEST(children_have_children)
{
    mpe_engine *e = mpe_test_engine(0);
    int depth = 4;
    EXPECT_EQ(wait_on_loop(e, mpe_test_start(e, start_a_child, &depth)), 7);
    mpe_close(e);
}

TEST(starting_fails_when_no_slot_is_left_and_works_again_after)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_process *p[256], *one_more;
    int count = 0, is_child, rc;
    struct mpe_test_gate ready = mpe_test_gate_new();
    for (;; count++) {
        rc = mpe_process_fork(e, "x", 0, (mpe_bytes){NULL, 0}, &p[count], &is_child);
        if (rc != MPE_OK)
            break;
        if (is_child) {
            mpe_test_gate_open(ready);
            stay(e, NULL);
        }
    }
    EXPECT_EQ(rc, MPE_ESLOTS);
    EXPECT_EQ(count, 255);
    for (int i = 0; i < count; i++)
        mpe_test_gate_wait(ready);
    mpe_test_kill(p[100]);
    int code = 5;
    one_more = mpe_test_start(e, exit_with, &code);
    EXPECT_EQ(mpe_test_join(e, one_more), 5);
    for (int i = 0; i < count; i++)
        kill(mpe_process_pid(p[i]), SIGKILL);
    for (int i = 0; i < count; i++)
        mpe_test_join(e, p[i]);
    mpe_close(e);
}

/* ---- output ---- */

struct writing {
    int fd;
    char letter;
};

static void
write_lines(mpe_engine *e, void *arg)
{
    struct writing *w = arg;
    char line[10000];
    memset(line, w->letter, sizeof line);
    line[sizeof line - 1] = '\n';
    for (int i = 0; i < 100; i++)
        REQUIRE_OK(mpe_write_whole(e, w->fd, line, sizeof line));
}

TEST(long_lines_of_several_processes_do_not_mix)
{
    mpe_engine *e = mpe_test_engine(0);
    int fd[2], count = 0;
    mpe_process *p[3];
    REQUIRE(pipe(fd) == 0);
    for (int i = 0; i < 3; i++) {
        struct writing w = {fd[1], (char)('a' + i)};
        p[i] = mpe_test_start(e, write_lines, &w);
    }
    close(fd[1]);
    FILE *in = fdopen(fd[0], "r");
    char line[20000];
    for (; fgets(line, sizeof line, in); count++) {
        EXPECT_EQ(strlen(line), 10000);
        EXPECT_EQ(strspn(line, (char[]){line[0], 0}), 9999);
    }
    EXPECT_EQ(count, 300);
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(mpe_test_join(e, p[i]), 0);
    EXPECT_EQ(mpe_write_whole(e, -1, "x", 1), MPE_ESYS);
    EXPECT_EQ(errno, EBADF);
    fclose(in);
    mpe_close(e);
}
