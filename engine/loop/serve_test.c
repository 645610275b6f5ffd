/* SPDX-License-Identifier: MIT */
/* Engines that are driven by a loop of the host: libuv's, or another. */
#include "loop/loop.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <unistd.h>

static uv_loop_t loop;
static uv_prepare_t counter;
static int turns;

static void
count_turn(uv_prepare_t *p)
{
    (void)p;
    turns++;
}

static mpe_engine *
served(void)
{
    mpe_config config = MPE_CONFIG_INIT;
    mpe_engine *e;
    REQUIRE(uv_loop_init(&loop) == 0);
    uv_prepare_init(&loop, &counter);
    uv_prepare_start(&counter, count_turn);
    uv_unref((uv_handle_t *)&counter);
    config.loop = &loop;
    config.flags = MPE_SERVED_BY_LOOP;
    REQUIRE_OK(mpe_open(&config, &e));
    return e;
}

static void
close_loop(void)
{
    uv_close((uv_handle_t *)&counter, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    EXPECT_EQ(uv_loop_close(&loop), 0);
}

static void
close_both(mpe_engine *e)
{
    mpe_close(e);
    close_loop();
}

TEST(an_open_engine_does_not_keep_the_loop)
{
    mpe_engine *e = served();
    EXPECT_EQ(uv_run(&loop, UV_RUN_DEFAULT), 0);
    EXPECT(turns < 3);
    close_both(e);
}

TEST(a_timer_keeps_the_loop_until_it_fires)
{
    mpe_engine *e = served();
    struct mpe_test_waiter w = mpe_test_waiter_new();
    uint64_t due = mpe_now() + MPE_NS_PER_S / 20;
    for (int i = 0; i < 2; i++) { /* also when the loop has ended before */
        w = mpe_test_waiter_new();
        turns = 0;
        EXPECT_OK(mpe_wait_timer(e, &w.w, due));
        EXPECT_EQ(uv_run(&loop, UV_RUN_DEFAULT), 0);
        EXPECT(w.fired && w.at >= due);
        EXPECT(turns < 6);
        due = mpe_now() + MPE_NS_PER_S / 100;
    }
    close_both(e);
}

static mpe_engine *other;
static int jobs_left;

static void
run_job(mpe_engine *e, mpe_job *job)
{
    if (--jobs_left > 0)
        mpe_post(e, job);
}

TEST(jobs_run_and_then_the_loop_ends)
{
    mpe_engine *e = served();
    mpe_job job = {.run = run_job};
    jobs_left = 100;
    mpe_post(e, &job);
    EXPECT_EQ(uv_run(&loop, UV_RUN_DEFAULT), 0);
    EXPECT_EQ(jobs_left, 0);
    close_both(e);
}

TEST(a_wait_that_nothing_can_end_does_not_keep_the_loop)
{
    mpe_engine *e = served();
    mpe_object *event = mpe_test_event(e);
    struct mpe_test_waiter w = mpe_test_waiter_new();
    EXPECT_OK(mpe_wait_object(e, &w.w, event, MPE_EVENT_READY, MPE_FOREVER));
    EXPECT_EQ(uv_run(&loop, UV_RUN_DEFAULT), 0);
    EXPECT(!w.fired);
    mpe_wait_stop(e, &w.w);
    close_both(e);
}

/* A task that waits for an event. */
struct task {
    mpe_waiter w;
    mpe_object *event;
    int done;
};

static void
look_at_event(mpe_engine *e, mpe_waiter *w, int status)
{
    struct task *t = MPE__CONTAINER(w, struct task, w);
    (void)status;
    t->done = mpe_event_is_set(e, t->event);
    if (t->done)
        mpe_wait_done(e, w);
    else
        EXPECT_OK(mpe_wait_object(e, w, t->event, MPE_EVENT_READY, MPE_FOREVER));
}

static struct task
begin_task(mpe_object *event)
{
    return (struct task){.w = {.fire = look_at_event}, .event = event};
}

static struct mpe_test_gate gate;

static void
set_event(mpe_engine *e, void *event)
{
    mpe_test_gate_wait(gate);
    while (mpe__load32(&e->slots[0].sleep) != MPE__IN_POLL)
        sched_yield();
    mpe_event_set(e, event);
    mpe_leave(e);
}

TEST(what_another_process_does_ends_a_wait)
{
    mpe_engine *e = served();
    mpe_object *event = mpe_test_event(e);
    struct task t = begin_task(event);
    gate = mpe_test_gate_new();
    mpe_process *p = mpe_test_start(e, set_event, event);
    EXPECT_OK(mpe_wait_object(e, &t.w, event, MPE_EVENT_READY, MPE_FOREVER));
    mpe_test_gate_open(gate);
    EXPECT_EQ(uv_run(&loop, UV_RUN_DEFAULT), 0);
    EXPECT(t.done);
    EXPECT_EQ(mpe_test_join(e, p), 0);
    close_both(e);
}

static void
die_asleep(mpe_engine *e, void *lock)
{
    EXPECT_OK(mpe_lock_acquire(e, lock, 1));
    mpe_test_gate_open(gate);
    while (mpe__load32(&e->slots[0].sleep) != MPE__IN_POLL)
        sched_yield();
    _exit(0);
}

TEST(the_death_of_another_process_ends_a_wait)
{
    mpe_test_needs_deaths();
    mpe_engine *e = served();
    mpe_object *lock;
    struct mpe_test_waiter w = mpe_test_waiter_new();
    gate = mpe_test_gate_new();
    REQUIRE_OK(mpe_lock_create(e, 0, &lock));
    mpe_process *p = mpe_test_start(e, die_asleep, lock);
    mpe_test_gate_wait(gate);
    EXPECT_OK(mpe_wait_object(e, &w.w, lock, MPE_EVENT_READY, MPE_FOREVER));
    EXPECT_EQ(uv_run(&loop, UV_RUN_DEFAULT), 0);
    EXPECT(w.fired);
    EXPECT_EQ(mpe_lock_acquire(e, lock, 1), MPE_OWNER_DIED);
    mpe_wait_done(e, &w.w);
    EXPECT_EQ(mpe_test_join(e, p), 0);
    close_both(e);
}

static void
set_it(mpe_engine *e, void *event)
{
    mpe_event_set(e, event);
}

TEST(a_call_sent_by_the_engine_s_own_thread_runs)
{
    mpe_engine *e = served();
    mpe_object *event = mpe_test_event(e);
    EXPECT_OK(mpe_send(e, set_it, event));
    EXPECT_EQ(uv_run(&loop, UV_RUN_DEFAULT), 0);
    EXPECT(mpe_event_is_set(e, event));
    close_both(e);
}

/* ---- threads, waits and closing in callbacks ---- */

static void
stop_keeping(mpe_engine *e, void *ud)
{
    *(int *)ud = 1;
    mpe_keep_alive(e, -1);
}

static void *
send_when_asleep(void *ud)
{
    while (mpe__load32(&other->self->sleep) == MPE__AWAKE)
        sched_yield();
    EXPECT_OK(mpe_send(other, stop_keeping, ud));
    return NULL;
}

TEST(a_call_of_another_thread_runs_in_the_loop)
{
    mpe_engine *e = other = served();
    pthread_t t;
    int ran = 0;
    mpe_keep_alive(e, 1);
    pthread_create(&t, NULL, send_when_asleep, &ran);
    EXPECT_EQ(uv_run(&loop, UV_RUN_DEFAULT), 0);
    EXPECT(ran);
    pthread_join(t, NULL);
    close_both(e);
}

static void
wait_a_moment(mpe_engine *e, void *ud)
{
    struct mpe_test_waiter w = mpe_test_waiter_new();
    EXPECT_OK(mpe_wait_timer(e, &w.w, mpe_now() + MPE_NS_PER_S / 100));
    EXPECT_OK(mpe_run_until(e, &w.fired));
    *(int *)ud = 1;
}

TEST(a_callback_may_wait_and_so_may_the_host_outside_the_loop)
{
    mpe_engine *e = served();
    int inside = 0, outside = 0;
    EXPECT_OK(mpe_send(e, wait_a_moment, &inside));
    wait_a_moment(e, &outside);
    EXPECT(inside && outside);
    inside = 0;
    EXPECT_OK(mpe_send(e, wait_a_moment, &inside));
    struct mpe_test_waiter w = mpe_test_waiter_new();
    EXPECT_OK(mpe_wait_timer(e, &w.w, mpe_now()));
    uv_run(&loop, UV_RUN_DEFAULT);
    EXPECT(inside && w.fired);
    close_both(e);
}

TEST(a_wait_outside_the_loop_that_nothing_can_end_is_a_deadlock)
{
    mpe_engine *e = served();
    int never = 0;
    mpe_job job = {.run = run_job};
    jobs_left = 1;
    mpe_post(e, &job);
    EXPECT_EQ(mpe_run_until(e, &never), MPE_EDEADLK);
    close_both(e);
}

static void
close_it(mpe_engine *e, void *ud)
{
    mpe_close(e);
    *(int *)ud = 1;
}

TEST(a_call_may_close_its_engine)
{
    mpe_engine *e = served();
    int closed = 0;
    mpe_keep_alive(e, 1);
    EXPECT_OK(mpe_send(e, close_it, &closed));
    EXPECT_EQ(uv_run(&loop, UV_RUN_DEFAULT), 0);
    EXPECT(closed);
    close_loop();
}

static void
fire_and_close(mpe_engine *e, mpe_waiter *w, int status)
{
    (void)w, (void)status;
    mpe_close(e);
}

TEST(a_timer_of_the_engine_may_close_it)
{
    mpe_engine *e = served();
    mpe_waiter w = {.fire = fire_and_close};
    EXPECT_OK(mpe_wait_timer(e, &w, mpe_now() + MPE_NS_PER_S / 100));
    EXPECT_EQ(uv_run(&loop, UV_RUN_DEFAULT), 0);
    close_loop();
}

static void
close_from_libuv(uv_timer_t *t)
{
    mpe_close(other);
    uv_close((uv_handle_t *)t, NULL);
}

TEST(a_callback_of_libuv_may_close_it)
{
    uv_timer_t t;
    other = served();
    mpe_keep_alive(other, 1);
    uv_timer_init(&loop, &t);
    uv_timer_start(&t, close_from_libuv, 10, 0);
    EXPECT_EQ(uv_run(&loop, UV_RUN_DEFAULT), 0);
    close_loop();
}

/* ---- a loop that is not libuv's ---- */

/* Sleeps as mpe_poll_begin says. */
static void
sleep_once(mpe_engine *e)
{
    struct pollfd p = {.events = POLLIN};
    uint64_t deadline, now;
    REQUIRE_OK(mpe_poll_begin(e, &p.fd, &deadline));
    now = mpe_now();
    int ms = deadline == MPE_FOREVER ? -1
             : deadline <= now       ? 0
                                     : (int)((deadline - now + 999999) / 1000000);
    poll(&p, 1, ms);
    while (mpe_poll(e))
        ;
}

TEST(without_anything_to_come_there_is_no_deadline)
{
    mpe_engine *e = mpe_test_engine(0);
    uint64_t deadline = 1;
    int fd, same;
    REQUIRE_OK(mpe_poll_begin(e, &fd, &deadline));
    EXPECT_EQ(deadline, MPE_FOREVER);
    REQUIRE_OK(mpe_poll_begin(e, &same, NULL)); /* twice, without mpe_poll */
    EXPECT_EQ(same, fd);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    EXPECT_EQ(poll(&p, 1, 0), 0);
    EXPECT_OK(mpe_poll_begin(e, NULL, NULL));
    EXPECT_EQ(mpe_poll_begin(NULL, &fd, &deadline), MPE_EINVAL);
    mpe_close(e);
}

TEST(the_deadline_is_that_of_the_next_timer)
{
    mpe_engine *e = mpe_test_engine(0);
    struct mpe_test_waiter w = mpe_test_waiter_new();
    uint64_t deadline, due = mpe_now() + MPE_NS_PER_S / 50;
    EXPECT_OK(mpe_wait_timer(e, &w.w, due));
    EXPECT_OK(mpe_poll_begin(e, NULL, &deadline));
    EXPECT_EQ(deadline, due);
    int sleeps = 0;
    while (!w.fired && ++sleeps < 5)
        sleep_once(e);
    EXPECT(w.fired);
    mpe_close(e);
}

static void
note_timer(uv_timer_t *t)
{
    *(int *)t->data = 1;
}

TEST(timers_of_the_loop_count_too)
{
    mpe_engine *e = mpe_test_engine(0);
    uv_timer_t t;
    int fired = 0, sleeps = 0;
    uv_timer_init(mpe_loop(e), &t);
    t.data = &fired;
    uv_timer_start(&t, note_timer, 20, 0);
    while (!fired && ++sleeps < 5)
        sleep_once(e);
    EXPECT(fired);
    uv_close((uv_handle_t *)&t, NULL);
    mpe_close(e);
}

TEST(what_is_ready_is_due_at_once)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_job job = {.run = run_job};
    uint64_t deadline;
    jobs_left = 1;
    mpe_post(e, &job);
    EXPECT_OK(mpe_poll_begin(e, NULL, &deadline));
    EXPECT(deadline <= mpe_now());
    while (mpe_poll(e))
        ;
    EXPECT_EQ(jobs_left, 0);
    mpe_close(e);
}

TEST(the_descriptor_tells_of_other_processes)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *event = mpe_test_event(e);
    struct task t = begin_task(event);
    gate = mpe_test_gate_new();
    mpe_process *p = mpe_test_start(e, set_event, event);
    EXPECT_OK(mpe_wait_object(e, &t.w, event, MPE_EVENT_READY, MPE_FOREVER));
    mpe_test_gate_open(gate);
    int sleeps = 0;
    while (!t.done && ++sleeps < 10)
        sleep_once(e);
    EXPECT(t.done);
    EXPECT_EQ(mpe_test_join(e, p), 0);
    mpe_close(e);
}

static int
count_descriptors(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    REQUIRE(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* Closing rings the processes that sleep in poll, this one included. */
TEST(an_engine_that_was_polled_leaves_no_descriptor)
{
    uv_loop_t first; /* libuv keeps descriptors of its own from the first loop on */
    REQUIRE(uv_loop_init(&first) == 0);
    uv_loop_close(&first);
    int before = count_descriptors();
    for (int i = 0; i < 3; i++) {
        mpe_engine *e = mpe_test_engine(0);
        int fd;
        EXPECT_OK(mpe_poll_begin(e, &fd, NULL));
        mpe_close(e);
        EXPECT_EQ(count_descriptors(), before);
    }
}

TEST(the_descriptor_tells_of_deaths_and_then_is_silent)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *lock;
    struct mpe_test_waiter w = mpe_test_waiter_new();
    gate = mpe_test_gate_new();
    REQUIRE_OK(mpe_lock_create(e, 0, &lock));
    mpe_process *p = mpe_test_start(e, die_asleep, lock);
    mpe_test_gate_wait(gate);
    EXPECT_OK(mpe_wait_object(e, &w.w, lock, MPE_EVENT_READY, MPE_FOREVER));
    int sleeps = 0;
    while (!w.fired && ++sleeps < 10)
        sleep_once(e);
    EXPECT(w.fired);
    mpe_wait_done(e, &w.w);
    EXPECT_EQ(mpe_test_join(e, p), 0);
    struct pollfd silent = {.events = POLLIN};
    for (int i = 0; i < 3; i++) {
        EXPECT_OK(mpe_poll_begin(e, &silent.fd, NULL));
        mpe_poll(e);
    }
    EXPECT_OK(mpe_poll_begin(e, &silent.fd, NULL));
    EXPECT_EQ(poll(&silent, 1, 0), 0);
    mpe_close(e);
}
