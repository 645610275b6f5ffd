/* SPDX-License-Identifier: MIT */
/* What a process has of the engines that it inherited by fork(2): it may free them. */
#include "loop/loop.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static mpe_object *lock, *queue;
static const mpe_bytes text = {"text", 4};
static mpe_waiter filed;
static int fired;
static uv_loop_t host_loop;

static void
run_child(mpe_engine *e, void (*body)(mpe_engine *e))
{
    int status;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        body(e);
        _exit(0);
    }
    REQUIRE(waitpid(pid, &status, 0) == pid);
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void
demand(int holds)
{
    if (!holds)
        _exit(1);
}

/* The engine of the parent is as it was: its slot, its lock, its waits by futex and by loop. */
static void
expect_whole(mpe_engine *e)
{
    mpe_slot_info info;
    mpe_stats s;
    mpe_waiter w = {.fire = NULL};
    mpe_message m;
    EXPECT_OK(mpe_slot_get(e, mpe_self_slot(e), &info));
    EXPECT_EQ(info.pid, getpid());
    EXPECT_OK(mpe_lock_release(e, lock));
    EXPECT_OK(mpe_lock_acquire(e, lock, 1));
    EXPECT(!mpe_queue_is_closed(e, queue));
    mpe_stats_get(e, &s);
    EXPECT_EQ(s.objects, 2);
    EXPECT_OK(mpe_wait_object(e, &w, queue, MPE_EVENT_READY, MPE_FOREVER));
    mpe_wait_stop(e, &w);
    EXPECT_OK(mpe_queue_put(e, queue, &text, 1, 0));
    EXPECT_OK(mpe_test_get(e, queue, &m));
    mpe_message_free(e, &m);
    mpe_test_check(e);
}

static unsigned flags; /* of the config */

static mpe_engine *
begin(uv_loop_t *loop)
{
    mpe_config config = MPE_CONFIG_INIT;
    config.flags = flags;
    mpe_engine *e;
    config.loop = loop;
    REQUIRE_OK(mpe_open(&config, &e));
    REQUIRE_OK(mpe_lock_create(e, 0, &lock));
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &queue));
    REQUIRE_OK(mpe_lock_acquire(e, lock, 1));
    return e;
}

static void
on_filed(mpe_engine *e, mpe_waiter *w, int status)
{
    (void)e, (void)w, (void)status;
    fired = 1;
}

static void
close_it(mpe_engine *e)
{
    mpe_close(e);
}

static void
leave_it(mpe_engine *e)
{
    mpe_leave(e);
    mpe_leave(e);
}

static void
leave_and_close_it(mpe_engine *e)
{
    mpe_leave(e);
    mpe_close(e);
}

static void
exit_with_it(mpe_engine *e)
{
    (void)e;
    exit(0);
}

static void
have_another(mpe_engine *e)
{
    mpe_engine *own;
    mpe_object *o;
    mpe_message m;
    demand(mpe_open(NULL, &own) == MPE_OK);
    demand(mpe_queue_create(own, 0, 0, &o) == MPE_OK);
    demand(mpe_queue_put(own, o, &text, 1, 0) == MPE_OK);
    demand(mpe_queue_get(own, o, &m) == MPE_OK);
    demand(mpe_queue_get(e, queue, &m) == MPE_EPERM);
    mpe_close(own);
    mpe_close(e);
}

static void
nothing(mpe_engine *e, void *ud)
{
    (void)e, (void)ud;
}

static void
be_refused(mpe_engine *e)
{
    mpe_object *o;
    mpe_engine *own;
    mpe_process *p;
    mpe_slot_info info;
    int is_child = 0, done = 0;
    demand(mpe_queue_put(e, queue, &text, 1, 0) == MPE_EPERM);
    demand(mpe_lock_release(e, lock) == MPE_EPERM);
    demand(mpe_hold(e, 1, &o) == MPE_EPERM);
    demand(mpe_queue_create(e, 0, 0, &o) == MPE_EPERM);
    demand(mpe_run_until(e, &done) == MPE_EPERM);
    demand(mpe_poll(e) == MPE_EPERM);
    demand(mpe_send(e, nothing, NULL) == MPE_EPERM);
    demand(mpe_open_thread(e, "thread", &own) == MPE_EPERM);
    demand(mpe_process_fork(e, "child", 0, text, &p, &is_child) == MPE_EPERM && !is_child);
    demand(mpe_slot_get(e, 0, &info) == MPE_EPERM);
    demand(!mpe_loop(e));
    mpe_wait_stop(e, &filed);
    mpe_queue_close(e, queue);
    mpe_drop(e, queue);
    mpe_sweep(e);
    mpe_interrupt_clear(e);
}

static void (*const bodies[])(mpe_engine *e) = {
    close_it, leave_it, leave_and_close_it, exit_with_it, have_another, be_refused,
};

TEST(a_child_may_end_or_free_what_it_inherited_and_no_more)
{
    for (size_t i = 0; i < MPE__COUNTOF(bodies); i++) {
        mpe_engine *e = begin(NULL);
        fired = 0;
        filed = (mpe_waiter){.fire = on_filed};
        REQUIRE_OK(mpe_wait_object(e, &filed, queue, MPE_EVENT_READY, MPE_FOREVER));
        run_child(e, bodies[i]);
        REQUIRE_OK(mpe_queue_put(e, queue, &text, 1, 0));
        EXPECT_OK(mpe_run_until(e, &fired)); /* what the parent waits for is still waited for */
        mpe_message m;
        EXPECT_OK(mpe_queue_get(e, queue, &m));
        mpe_message_free(e, &m);
        mpe_wait_done(e, &filed);
        expect_whole(e);
        mpe_close(e);
    }
}

/* Its descriptors are watched by an epoll set that the child shares. */
static int
reads(mpe_engine *e, const int ends[2])
{
    struct mpe_waiter w = {.fire = NULL};
    int rc = mpe_wait_fd(e, &w, ends[0], MPE_READABLE, mpe_now() + MPE_NS_PER_S);
    mpe_wait_stop(e, &w);
    mpe_fd_waiter_gone(e, ends[0]);
    return rc;
}

static int has_read;
static void
on_fire(mpe_engine *e, mpe_waiter *w, int status)
{
    (void)e, (void)w;
    has_read = status == MPE_OK ? 1 : 2;
}

static void
try_loop(uv_loop_t *loop)
{
    int ends[2];
    char c;
    mpe_waiter w = {.fire = on_fire};
    mpe_engine *e = begin(loop);
    REQUIRE(mpe_pipe(ends) == 0);
    REQUIRE(mpe_loop(e) != NULL);
    REQUIRE_OK(reads(e, ends));
    has_read = 0;
    REQUIRE_OK(mpe_wait_fd(e, &w, ends[0], MPE_READABLE, mpe_now() + 5 * MPE_NS_PER_S));
    mpe_poll(e);
    for (size_t i = 0; i < MPE__COUNTOF(bodies); i++)
        run_child(e, bodies[i]);
    REQUIRE(write(ends[1], "x", 1) == 1);
    EXPECT_OK(mpe_run_until(e, &has_read));
    EXPECT_EQ(has_read, 1);
    REQUIRE(read(ends[0], &c, 1) == 1);
    expect_whole(e);
    mpe_close(e);
    close(ends[0]);
    close(ends[1]);
}

TEST(the_loop_of_the_parent_goes_on_after_its_copy_is_freed)
{
    try_loop(NULL);
}

TEST(the_loop_of_the_host_goes_on_after_the_copy_of_the_engine_is_freed)
{
    REQUIRE(uv_loop_init(&host_loop) == 0);
    try_loop(&host_loop);
    flags = MPE_SERVED_BY_LOOP;
    try_loop(&host_loop);
    flags = 0;
    uv_run(&host_loop, UV_RUN_DEFAULT);
    EXPECT_EQ(uv_loop_close(&host_loop), 0);
}

static int ticks;
static void
on_tick(uv_timer_t *timer)
{
    ticks++;
    uv_close((uv_handle_t *)timer, NULL);
}

/* A child that makes the loop of the host its own goes on with it, before or after. */
static void
go_on_with_loop(mpe_engine *e)
{
    uv_timer_t timer;
    demand(uv_loop_fork(&host_loop) == 0);
    mpe_close(e);
    uv_timer_init(&host_loop, &timer);
    uv_timer_start(&timer, on_tick, 1, 0);
    uv_run(&host_loop, UV_RUN_DEFAULT);
    demand(ticks == 1 && uv_loop_close(&host_loop) == 0);
}

static void
free_it_before_the_loop(mpe_engine *e)
{
    mpe_close(e);
    demand(uv_loop_fork(&host_loop) == 0);
    uv_run(&host_loop, UV_RUN_DEFAULT);
    demand(uv_loop_close(&host_loop) == 0);
}

/* It never closes the engine. */
static void
keep_it(mpe_engine *e)
{
    (void)e;
    demand(uv_loop_fork(&host_loop) == 0);
    uv_run(&host_loop, UV_RUN_DEFAULT);
}

static void
try_child_with_loop(void)
{
    REQUIRE(uv_loop_init(&host_loop) == 0);
    mpe_engine *e = begin(&host_loop);
    expect_whole(e);
    run_child(e, go_on_with_loop);
    run_child(e, free_it_before_the_loop);
    run_child(e, keep_it);
    expect_whole(e);
    mpe_close(e);
    uv_run(&host_loop, UV_RUN_DEFAULT);
    EXPECT_EQ(uv_loop_close(&host_loop), 0);
}

TEST(a_child_goes_on_with_the_loop_of_its_host_without_the_engine)
{
    try_child_with_loop();
    flags = MPE_SERVED_BY_LOOP;
    try_child_with_loop();
    flags = 0;
}

static void *
fork_and_close(void *arg)
{
    run_child(arg, close_it);
    return NULL;
}

TEST(a_child_of_another_thread_may_free_it_too)
{
    pthread_t t;
    mpe_engine *e = begin(NULL);
    REQUIRE(pthread_create(&t, NULL, fork_and_close, e) == 0);
    pthread_join(t, NULL);
    expect_whole(e);
    mpe_close(e);
}

static void
fork_in_a_child(mpe_engine *e, void *arg)
{
    (void)arg;
    run_child(e, close_it);
    run_child(e, be_refused);
    EXPECT_OK(mpe_queue_put(e, queue, &text, 1, 0));
}

TEST(a_process_that_the_engine_has_forked_owns_its_own)
{
    mpe_message m;
    mpe_engine *e = begin(NULL);
    EXPECT_EQ(mpe_test_join(e, mpe_test_start(e, fork_in_a_child, NULL)), 0);
    EXPECT_OK(mpe_test_get(e, queue, &m));
    mpe_message_free(e, &m);
    expect_whole(e);
    mpe_close(e);
}
