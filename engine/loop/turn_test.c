/* SPDX-License-Identifier: MIT */
/* The effect of callbacks of libuv's own handles on a sleep in its poll. Timers, idle and
 * prepare handles run in the turn that polls. What they post, end or wait for must not be left
 * until the poll ends for another reason. */
#include "loop/loop.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <string.h>
#include <unistd.h>

#define SOON_NS (MPE_NS_PER_S * 2) /* far from immediate, and from HOUR_MS */
#define HOUR_MS (3600u * 1000)

static uv_loop_t loop; /* the host's */
static mpe_engine *engine;
static int done;
static uint64_t began;

static void
set_done(mpe_engine *e, mpe_job *job)
{
    (void)e, (void)job;
    done = 1;
}

static mpe_job job = {.run = set_done};

/* ---- the handles of a host ---- */

enum handle { TIMER, PREPARE, IDLE, CHECK, HANDLES };

static union uv_any_handle handles[HANDLES], other;
static void (*action)(void);

static void
on_timer(uv_timer_t *t)
{
    (void)t;
    action();
}

static void
on_prepare(uv_prepare_t *h)
{
    uv_prepare_stop(h);
    action();
}

static void
on_idle(uv_idle_t *h)
{
    uv_idle_stop(h);
    action();
}

static void
on_check(uv_check_t *h)
{
    uv_check_stop(h);
    action();
}

static void
on_far_away(uv_timer_t *t)
{
    (void)t;
}

/* A timer that is due, or one of the others, and one that is far away: the poll is long. */
static void
start(enum handle kind)
{
    union uv_any_handle *h = &handles[kind];
    uv_timer_init(&loop, &other.timer);
    uv_timer_start(&other.timer, on_far_away, HOUR_MS, 0);
    if (kind == TIMER) {
        uv_timer_init(&loop, &h->timer);
        uv_timer_start(&h->timer, on_timer, 0, 0);
    } else if (kind == PREPARE) {
        uv_prepare_init(&loop, &h->prepare);
        uv_prepare_start(&h->prepare, on_prepare);
    } else if (kind == IDLE) {
        uv_idle_init(&loop, &h->idle);
        uv_idle_start(&h->idle, on_idle);
    } else {
        uv_check_init(&loop, &h->check);
        uv_check_start(&h->check, on_check);
    }
}

static void
open_engine(void)
{
    mpe_config config = MPE_CONFIG_INIT;
    config.loop = &loop;
    REQUIRE_OK(mpe_open(&config, &engine));
}

static void
close_all(void)
{
    for (int i = 0; i < HANDLES; i++)
        if (handles[i].handle.loop)
            uv_close(&handles[i].handle, NULL);
    uv_close(&other.handle, NULL);
    mpe_close(engine);
    uv_run(&loop, UV_RUN_DEFAULT);
    EXPECT_EQ(uv_loop_close(&loop), 0);
}

/* The callback ends the wait of mpe_run_until at once, whether the handle is older than the
 * engine or not. */
static void
check(enum handle kind, void (*does)(void))
{
    for (int is_older = 0; is_older < 2; is_older++) {
        memset(handles, 0, sizeof handles);
        done = 0;
        action = does;
        uv_loop_init(&loop);
        if (is_older)
            start(kind);
        open_engine();
        if (!is_older)
            start(kind);
        began = mpe_now();
        EXPECT_OK(mpe_run_until(engine, &done));
        EXPECT(mpe_now() - began < SOON_NS);
        close_all();
    }
}

/* ---- what they do ---- */

static void
post(void)
{
    mpe_post(engine, &job);
}

static void
say_done(void)
{
    done = 1;
}

static struct mpe_test_waiter waiter;
static mpe_waitlist list;

static void
on_fire(mpe_engine *e, mpe_waiter *w, int status)
{
    (void)e, (void)w, (void)status;
    done = 1;
}

static void
file_timer(void)
{
    waiter.w.fire = on_fire;
    EXPECT_OK(mpe_wait_timer(engine, &waiter.w, mpe_now() + 1000000));
}

static void
wait_in_list_and_wake(void)
{
    waiter.w.fire = on_fire;
    EXPECT_OK(mpe_wait_list(engine, &waiter.w, &list, MPE_FOREVER));
    EXPECT_EQ(mpe_waitlist_wake(engine, &list, 1), 1);
}

static void
interrupt(void)
{
    mpe_interrupt(engine);
}

/* Sleeps in the loop itself, inside a turn of it. */
static void
sleep_inside(void)
{
    struct mpe_test_waiter w = mpe_test_waiter_new();
    EXPECT_OK(mpe_wait_timer(engine, &w.w, mpe_now() + 2000000));
    EXPECT_OK(mpe_run_until(engine, &w.fired));
    file_timer();
}

TEST(a_job_that_a_due_timer_posts_runs_at_once)
{
    check(TIMER, post);
}

TEST(a_job_that_a_prepare_handle_posts_runs_at_once)
{
    check(PREPARE, post);
}

TEST(a_job_that_an_idle_handle_posts_runs_at_once)
{
    check(IDLE, post);
}

TEST(a_wait_may_be_ended_by_a_due_timer)
{
    check(TIMER, say_done);
    check(TIMER, wait_in_list_and_wake);
}

TEST(a_wait_may_be_ended_by_a_prepare_handle)
{
    check(PREPARE, say_done);
    check(PREPARE, wait_in_list_and_wake);
}

TEST(a_wait_may_be_ended_by_an_idle_handle)
{
    check(IDLE, say_done);
    check(IDLE, wait_in_list_and_wake);
}

TEST(a_wait_that_one_of_them_files_has_its_deadline_kept)
{
    check(TIMER, file_timer);
    check(PREPARE, file_timer);
    check(IDLE, file_timer);
}

TEST(one_of_them_may_sleep_itself)
{
    check(TIMER, sleep_inside);
    check(PREPARE, sleep_inside);
    check(IDLE, sleep_inside);
}

TEST(an_interrupt_by_one_of_them_ends_the_sleep)
{
    uv_loop_init(&loop);
    open_engine();
    action = interrupt;
    start(TIMER);
    EXPECT_EQ(mpe_run_until(engine, &done), MPE_EINTR);
    close_all();
}

TEST(a_check_handle_runs_after_the_poll_and_has_its_jobs_run)
{
    uv_loop_init(&loop);
    open_engine();
    action = post;
    start(CHECK);
    uv_timer_start(&other.timer, on_far_away, 1, 1); /* ends the poll, and no more */
    EXPECT_OK(mpe_run_until(engine, &done));
    close_all();
}

/* ---- what others have on the loop ---- */

static void
on_closed(uv_handle_t *h)
{
    (void)h;
}

static void
stay(mpe_engine *e, void *arg)
{
    (void)e, (void)arg;
    mpe_test_gate_wait(mpe_test_gate_new());
}

static void
work(void *ud)
{
    (void)ud;
}

static void
work_done(mpe_engine *e, void *ud, int status)
{
    (void)e, (void)ud, (void)status;
    done = 1;
}

TEST(the_engines_own_handles_are_not_counted_as_others)
{
    struct mpe_test_waiter w = mpe_test_waiter_new(), end = mpe_test_waiter_new();
    int fds[2];
    mpe_engine *e = mpe_test_engine(0);
    EXPECT_EQ(mpe_loop_others(e), 0);
    REQUIRE(mpe_loop(e) != NULL);
    REQUIRE(pipe(fds) == 0);
    mpe_process *p = mpe_test_start(e, stay, NULL);
    EXPECT_OK(mpe_wait_fd(e, &w.w, fds[0], MPE_READABLE, MPE_FOREVER));
    EXPECT_OK(mpe_process_wait(e, p, &end.w, MPE_FOREVER));
    EXPECT_OK(mpe_offload(e, work, work_done, NULL));
    EXPECT_EQ(mpe_loop_others(e), 0);
    EXPECT_OK(mpe_run_until(e, &done)); /* with all of it on libuv's loop */
    EXPECT_EQ(mpe_loop_others(e), 0);
    mpe_fd_closing(e, fds[0]);
    EXPECT_EQ(w.fired, 1);
    EXPECT_EQ(mpe_loop_others(e), 0); /* its handle is being closed */
    mpe_test_kill(p);
    EXPECT_OK(mpe_run_until(e, &end.fired));
    EXPECT_EQ(mpe_loop_others(e), 0);
    mpe_process_free(e, p);
    mpe_close(e);
}

TEST(active_and_closing_handles_of_others_count)
{
    uv_loop_init(&loop);
    open_engine();
    EXPECT_EQ(mpe_loop_others(engine), 0);
    start(TIMER);
    EXPECT_EQ(mpe_loop_others(engine), 2);
    uv_unref(&other.handle);
    EXPECT_EQ(mpe_loop_others(engine), 1);
    uv_close(&handles[TIMER].handle, on_closed);
    EXPECT_EQ(mpe_loop_others(engine), 1);
    mpe_turn(engine);
    EXPECT_EQ(mpe_loop_others(engine), 0);
    handles[TIMER].handle.loop = NULL;
    close_all();
}

static int turns;

static void
end_with_the_others(mpe_engine *e, mpe_turn_hook *hook)
{
    (void)hook;
    turns++;
    if (mpe_loop_others(e) == 0)
        done = 1;
}

TEST(their_end_is_seen_before_the_next_sleep)
{
    mpe_turn_hook hook = {.turned = end_with_the_others};
    uv_loop_init(&loop);
    open_engine();
    mpe_on_turn(engine, &hook);
    mpe_keep_alive(engine, 1);
    EXPECT_OK(mpe_run_until(engine, &done)); /* by a sleep that does not block */
    EXPECT_EQ(turns, 1);
    done = 0;
    action = file_timer; /* which is the engine's own */
    start(TIMER);
    uv_unref(&other.handle);
    EXPECT_OK(mpe_run_until(engine, &done));
    mpe_wait_stop(engine, &waiter.w);
    mpe_keep_alive(engine, -1);
    mpe_off_turn(engine, &hook);
    turns = 0;
    EXPECT_EQ(mpe_run_until(engine, &(int){0}), MPE_EDEADLK);
    EXPECT_EQ(turns, 0);
    close_all();
}

static void
post_myself(mpe_engine *e, mpe_job *again)
{
    mpe_post(e, again);
}

TEST(their_end_is_seen_while_there_are_always_jobs)
{
    mpe_turn_hook hook = {.turned = end_with_the_others};
    mpe_job again = {.run = post_myself};
    mpe_engine *e = mpe_test_engine(0);
    mpe_on_turn(e, &hook);
    mpe_post(e, &again);
    EXPECT_OK(mpe_run_until(e, &done));
    done = 0;
    EXPECT_EQ(mpe_poll(e), 1);
    EXPECT_EQ(done, 1);
    mpe_close(e);
}

TEST(a_job_that_is_run_now_is_not_queued)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_run_now(e, &job);
    EXPECT_EQ(done, 1);
    EXPECT_EQ(mpe_poll(e), 0);
    mpe_close(e);
}

/* ---- with other processes ---- */

static mpe_object *lock;

static void
hold_until_told(mpe_engine *e, void *arg)
{
    mpe_object **queues = arg;
    mpe_message m;
    REQUIRE_OK(mpe_lock_acquire(e, lock, 1));
    REQUIRE_OK(mpe_test_put(e, queues[0], "held", 4));
    REQUIRE_OK(mpe_test_get(e, queues[1], &m));
    _exit(0); /* as dead as by a signal: the lock is held */
}

static mpe_object *queues[2];

static void
wait_for_lock(void)
{
    waiter.w.fire = on_fire;
    EXPECT_EQ(mpe_lock_acquire(engine, lock, 1), MPE_EAGAIN);
    EXPECT_OK(mpe_wait_object(engine, &waiter.w, lock, MPE_EVENT_READY, MPE_FOREVER));
    EXPECT_OK(mpe_test_put(engine, queues[1], "die", 3));
}

/* The sleep was begun with nothing shared to wait for, so no death was to be noticed. */
TEST(a_wait_for_an_object_that_a_timer_files_hears_of_its_owners_death)
{
    mpe_message m;
    uv_loop_init(&loop);
    open_engine();
    REQUIRE_OK(mpe_lock_create(engine, 0, &lock));
    REQUIRE_OK(mpe_queue_create(engine, 0, 0, &queues[0]));
    REQUIRE_OK(mpe_queue_create(engine, 0, 0, &queues[1]));
    mpe_process *p = mpe_test_start(engine, hold_until_told, queues);
    REQUIRE_OK(mpe_test_get(engine, queues[0], &m));
    action = wait_for_lock;
    start(TIMER);
    EXPECT_OK(mpe_run_until(engine, &done));
    EXPECT_EQ(mpe_lock_acquire(engine, lock, 1), MPE_OWNER_DIED);
    mpe_wait_done(engine, &waiter.w);
    EXPECT_EQ(mpe_test_join(engine, p), 0);
    close_all();
}
