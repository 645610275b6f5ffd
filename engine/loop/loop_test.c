/* SPDX-License-Identifier: MIT */
/* The loop: jobs, timers, wake-ups between processes, signals; asleep in a futex and in libuv's poll. */
#include "loop/loop.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <signal.h>
#include <unistd.h>

struct numbered {
    mpe_job job;
    int number;
};

static int order[64], order_count;

static void
note_number(mpe_engine *e, mpe_job *job)
{
    (void)e;
    order[order_count++] = ((struct numbered *)job)->number;
}

static int done;

static void
set_done(mpe_engine *e, mpe_job *job)
{
    (void)e, (void)job;
    done = 1;
}

TEST(jobs_run_once_each_in_the_order_they_were_posted)
{
    mpe_engine *e = mpe_test_engine(0);
    struct numbered jobs[10];
    mpe_job last = {.run = set_done};
    for (int i = 0; i < 10; i++) {
        jobs[i] = (struct numbered){{.run = note_number}, i};
        mpe_post(e, &jobs[i].job);
    }
    mpe_post(e, &jobs[3].job);
    mpe_post(e, &last);
    EXPECT_OK(mpe_run_until(e, &done));
    EXPECT_EQ(order_count, 10);
    for (int i = 0; i < 10; i++)
        EXPECT_EQ(order[i], i);
    mpe_close(e);
}

static int reposts;

static void
post_again(mpe_engine *e, mpe_job *job)
{
    if (++reposts < 1000)
        mpe_post(e, job);
    else
        done = 1;
}

TEST(a_job_may_post_itself_and_others_have_their_turn)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_job job = {.run = post_again};
    struct numbered other = {{.run = note_number}, 7};
    mpe_post(e, &job);
    mpe_post(e, &other.job);
    EXPECT_OK(mpe_run_until(e, &done));
    EXPECT_EQ(reposts, 1000);
    EXPECT_EQ(order_count, 1);
    mpe_close(e);
}

struct slow {
    mpe_job job;
    int runs;
    struct mpe_test_waiter *until;
};

/* Computes for a millisecond, again and again, until the other one has fired. */
static void
compute(mpe_engine *e, mpe_job *job)
{
    struct slow *s = (struct slow *)job;
    uint64_t until = mpe_now() + 1000000;
    while (mpe_now() < until)
        ;
    if (!s->until->fired && ++s->runs < 1000)
        mpe_post(e, job);
}

TEST(timers_and_descriptors_are_served_while_jobs_compute)
{
    mpe_engine *e = mpe_test_engine(0);
    struct mpe_test_waiter timer = mpe_test_waiter_new(), reader = mpe_test_waiter_new();
    struct slow by_timer = {{.run = compute}, 0, &timer}, by_fd = {{.run = compute}, 0, &reader};
    int fd[2];
    REQUIRE_OK(mpe_wait_timer(e, &timer.w, mpe_now() + 1));
    mpe_post(e, &by_timer.job);
    EXPECT_OK(mpe_run_until(e, &timer.fired));
    EXPECT(by_timer.runs <= 20);
    REQUIRE(pipe(fd) == 0);
    REQUIRE(write(fd[1], "x", 1) == 1);
    REQUIRE_OK(mpe_wait_fd(e, &reader.w, fd[0], MPE_READABLE, MPE_FOREVER));
    mpe_post(e, &by_fd.job);
    EXPECT_OK(mpe_run_until(e, &reader.fired));
    EXPECT(by_fd.runs <= 20);
    mpe_close(e);
}

/* The same, and says so. */
static void
compute_and_say(mpe_engine *e, mpe_job *job)
{
    mpe_loop_look_next(e);
    compute(e, job);
}

TEST(timers_are_served_after_a_job_that_says_it_takes_long)
{
    mpe_engine *e = mpe_test_engine(0);
    struct mpe_test_waiter timer = mpe_test_waiter_new();
    struct slow job = {{.run = compute_and_say}, 0, &timer};
    REQUIRE_OK(mpe_wait_timer(e, &timer.w, mpe_now() + 1));
    mpe_post(e, &job.job);
    EXPECT_OK(mpe_run_until(e, &timer.fired));
    EXPECT_EQ(job.runs, 1);
    mpe_close(e);
}

TEST(a_caller_that_only_polls_sees_jobs_timers_and_descriptors)
{
    mpe_engine *e = mpe_test_engine(0);
    struct numbered job = {{.run = note_number}, 1};
    struct mpe_test_waiter timer = mpe_test_waiter_new(), reader = mpe_test_waiter_new();
    int fd[2];
    mpe_post(e, &job.job);
    EXPECT_OK(mpe_go_round(e));
    EXPECT_EQ(order_count, 1);
    REQUIRE_OK(mpe_wait_timer(e, &timer.w, mpe_now() + 1));
    while (!timer.fired)
        EXPECT_OK(mpe_go_round(e));
    REQUIRE(pipe(fd) == 0);
    REQUIRE(write(fd[1], "x", 1) == 1);
    REQUIRE_OK(mpe_wait_fd(e, &reader.w, fd[0], MPE_READABLE, MPE_FOREVER));
    for (int i = 0; i < 20 && !reader.fired; i++)
        EXPECT_OK(mpe_go_round(e));
    EXPECT_EQ(reader.fired, 1);
    mpe_interrupt(e);
    EXPECT_EQ(mpe_go_round(e), MPE_EINTR);
    EXPECT_OK(mpe_go_round(e));
    mpe_close(e);
}

TEST(an_interrupt_that_is_withdrawn_ends_no_wait)
{
    mpe_engine *e = mpe_test_engine(0);
    EXPECT_EQ(mpe_interrupt_clear(e), 0);
    mpe_interrupt(e);
    mpe_interrupt(e);
    EXPECT_EQ(mpe_interrupt_clear(e), 1);
    EXPECT_EQ(mpe_interrupt_clear(e), 0);
    EXPECT_OK(mpe_go_round(e));
    mpe_close(e);
}

/* ---- timers and deadlines ---- */

/* Keeps the loop in libuv's poll. */
static uv_timer_t far_away;

static void
on_far_away(uv_timer_t *t)
{
    (void)t;
}

static void
use_poll(mpe_engine *e)
{
    uv_timer_init(mpe_loop(e), &far_away);
    uv_timer_start(&far_away, on_far_away, 3600 * 1000, 0);
}

static void
check_timers(mpe_engine *e)
{
    struct mpe_test_waiter w[50];
    uint64_t start = mpe_now(), deadlines[50];
    for (int i = 0; i < 50; i++) {
        w[i] = mpe_test_waiter_new();
        deadlines[i] = start + (uint64_t)((i * 37) % 50) * 700000;
        REQUIRE_OK(mpe_wait_timer(e, &w[i].w, deadlines[i]));
    }
    for (int i = 0; i < 50; i++) {
        EXPECT_OK(mpe_run_until(e, &w[i].fired));
        EXPECT_EQ(w[i].status, MPE_ETIMEDOUT);
        EXPECT_EQ(w[i].fired, 1);
        EXPECT(w[i].at >= deadlines[i]);
    }
    for (int i = 0; i < 49; i++) /* 37 * 23 = 1 modulo 50: the next in time */
        EXPECT(w[i * 23 % 50].at <= w[(i + 1) * 23 % 50].at);
}

TEST(timers_are_never_early_and_in_order)
{
    mpe_engine *e = mpe_test_engine(0);
    check_timers(e);
    mpe_close(e);
}

TEST(timers_in_poll_are_never_early)
{
    mpe_engine *e = mpe_test_engine(0);
    use_poll(e);
    check_timers(e);
    mpe_close(e);
}

TEST(a_stopped_timer_does_not_fire)
{
    mpe_engine *e = mpe_test_engine(0);
    struct mpe_test_waiter a = mpe_test_waiter_new(), b = mpe_test_waiter_new();
    uint64_t now = mpe_now();
    REQUIRE_OK(mpe_wait_timer(e, &a.w, now));
    REQUIRE_OK(mpe_wait_timer(e, &b.w, now + 1000));
    mpe_wait_stop(e, &a.w);
    EXPECT_OK(mpe_run_until(e, &b.fired));
    EXPECT_EQ(a.fired, 0);
    mpe_wait_stop(e, &b.w);
    mpe_close(e);
}

TEST(waiting_for_nothing_that_can_happen_is_an_error)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q;
    struct mpe_test_waiter w = mpe_test_waiter_new();
    int never = 0;
    EXPECT_EQ(mpe_run_until(e, &never), MPE_EDEADLK);
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &q));
    REQUIRE_OK(mpe_wait_object(e, &w.w, q, MPE_EVENT_READY, MPE_FOREVER));
    EXPECT_EQ(mpe_run_until(e, &never), MPE_EDEADLK);
    mpe_wait_stop(e, &w.w);
    mpe_close(e);
}

static void
end_at_once(mpe_engine *e, void *arg)
{
    if (*(int *)arg)
        kill(getpid(), SIGKILL);
    mpe_leave(e);
}

TEST(it_is_an_error_when_the_last_other_process_has_gone)
{
    mpe_test_needs_deaths();
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q;
    struct mpe_test_waiter w = mpe_test_waiter_new();
    int never = 0;
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &q));
    for (int i = 0; i < 30; i++) {
        REQUIRE_OK(mpe_wait_object(e, &w.w, q, MPE_EVENT_READY, MPE_FOREVER));
        int is_killed = i % 2;
        mpe_process *p = mpe_test_start(e, end_at_once, &is_killed);
        EXPECT_EQ(mpe_run_until(e, &never), MPE_EDEADLK);
        mpe_wait_stop(e, &w.w);
        mpe_test_join(e, p);
    }
    mpe_close(e);
}

TEST(a_wait_ends_with_its_deadline)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q;
    mpe_slot_info info;
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &q));
    struct mpe_test_waiter w = mpe_test_waiter_new();
    uint64_t deadline = mpe_now() + 2000000;
    REQUIRE_OK(mpe_wait_object(e, &w.w, q, MPE_EVENT_READY, deadline));
    EXPECT_OK(mpe_run_until(e, &w.fired));
    EXPECT_EQ(w.status, MPE_ETIMEDOUT);
    EXPECT(w.at >= deadline);
    EXPECT_EQ(e->loop->entries, 0);
    EXPECT(!mpe__set_has(&q->waiters[0], mpe_self_slot(e)));
    EXPECT_OK(mpe_slot_get(e, mpe_self_slot(e), &info));
    EXPECT_EQ(info.sleeping, 0);
    mpe_close(e);
}

static int
try_get(mpe_engine *e, mpe_object *o, void *ud)
{
    return mpe_queue_get(e, o, ud);
}

TEST(await_gives_up_at_its_deadline)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q;
    mpe_message m;
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &q));
    EXPECT_EQ(mpe_await(e, q, MPE_EVENT_READY, MPE_NOW, try_get, &m), MPE_ETIMEDOUT);
    EXPECT_EQ(mpe_await(e, q, MPE_EVENT_READY, mpe_now() + 1000000, try_get, &m), MPE_ETIMEDOUT);
    EXPECT_EQ(mpe_await(e, q, MPE_EVENT_READY, MPE_FOREVER, try_get, &m), MPE_EDEADLK);
    EXPECT_EQ(e->loop->entries, 0);
    mpe_close(e);
}

/* ---- between processes ---- */

struct table {
    mpe_object *there, *back;
    int rounds, polls;
};

static void
play(mpe_engine *e, void *arg)
{
    struct table *t = arg;
    mpe_message m;
    if (t->polls & 2)
        use_poll(e);
    for (int i = 0; i < t->rounds; i++) {
        REQUIRE_OK(mpe_test_get(e, t->there, &m));
        REQUIRE_OK(mpe_test_put(e, t->back, &i, sizeof i));
    }
}

/* polls: 1 this process sleeps in poll, 2 the other. */
static void
ping_pong(int rounds, int polls)
{
    mpe_engine *e = mpe_test_engine(0);
    struct table t = {.rounds = rounds, .polls = polls};
    mpe_message m;
    REQUIRE_OK(mpe_queue_create(e, 1, 0, &t.there));
    REQUIRE_OK(mpe_queue_create(e, 1, 0, &t.back));
    mpe_process *p = mpe_test_start(e, play, &t);
    if (polls & 1)
        use_poll(e);
    for (int i = 0; i < rounds; i++) {
        REQUIRE_OK(mpe_test_put(e, t.there, &i, sizeof i));
        REQUIRE_OK(mpe_test_get(e, t.back, &m));
        EXPECT_EQ(*(const int *)m.data, i);
    }
    EXPECT_EQ(mpe_test_join(e, p), 0);
    mpe_close(e);
}

TEST_LIMIT(no_wake_up_is_lost_in_a_hundred_thousand_rounds, 60)
{
    ping_pong(100000, 0);
}

TEST_LIMIT(no_wake_up_is_lost_when_both_sleep_in_poll, 60)
{
    ping_pong(30000, 3);
}

TEST_LIMIT(no_wake_up_is_lost_when_one_sleeps_in_poll, 60)
{
    ping_pong(30000, 1);
}

static void
stay(mpe_engine *e, void *arg)
{
    struct table *t = arg;
    REQUIRE_OK(mpe_lock_acquire(e, t->there, 1));
    REQUIRE_OK(mpe_test_put(e, t->back, "held", 4));
    mpe_test_gate_wait(mpe_test_gate_new());
}

TEST(a_death_is_seen_from_poll)
{
    mpe_test_needs_deaths();
    mpe_engine *e = mpe_test_engine(0);
    mpe_message m;
    use_poll(e);
    for (int i = 0; i < 50; i++) {
        struct table t = {0};
        REQUIRE_OK(mpe_lock_create(e, 0, &t.there));
        REQUIRE_OK(mpe_queue_create(e, 0, 0, &t.back));
        mpe_process *p = mpe_test_start(e, stay, &t);
        REQUIRE_OK(mpe_test_get(e, t.back, &m));
        kill(mpe_process_pid(p), SIGKILL);
        EXPECT_EQ(mpe_test_lock(e, t.there), MPE_OWNER_DIED);
        EXPECT_EQ(mpe_test_join(e, p), -9);
        mpe_drop(e, t.there);
        mpe_drop(e, t.back);
    }
    mpe_close(e);
}

/* ---- signals ---- */

static mpe_engine *interrupted;

static void
on_signal(int sig)
{
    (void)sig;
    mpe_interrupt(interrupted);
}

static void
check_interrupt(mpe_engine *e)
{
    int never = 0;
    interrupted = e;
    signal(SIGALRM, on_signal);
    mpe_keep_alive(e, 1);
    ualarm(2000, 0);
    EXPECT_EQ(mpe_run_until(e, &never), MPE_EINTR);
    raise(SIGALRM);
    EXPECT_EQ(mpe_run_until(e, &never), MPE_EINTR);
    mpe_keep_alive(e, -1);
}

TEST(a_signal_ends_the_sleep)
{
    mpe_engine *e = mpe_test_engine(0);
    check_interrupt(e);
    EXPECT_EQ(mpe_run_until(e, &(int){0}), MPE_EDEADLK);
    mpe_close(e);
}

TEST(a_signal_ends_the_sleep_in_poll)
{
    mpe_engine *e = mpe_test_engine(0);
    use_poll(e);
    check_interrupt(e);
    mpe_close(e);
}
