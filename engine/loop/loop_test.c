/* SPDX-License-Identifier: MIT */
/* The loop: jobs, timers, descriptors, waits of one process and of several; asleep in a futex and
 * in libuv's poll. */
#include "loop/loop.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
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

/* ---- waiters that note what came ---- */

struct wait {
    mpe_waiter w;
    int fired, status;
    uint64_t at;
};

static void
on_fire(mpe_engine *e, mpe_waiter *w, int status)
{
    struct wait *x = (struct wait *)w;
    (void)e;
    x->fired++;
    x->status = status;
    x->at = mpe_now();
}

static struct wait
new_wait(void)
{
    return (struct wait){.w = {.fire = on_fire}};
}

/* Something that keeps the loop in libuv's poll. */
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
    struct wait w[50];
    uint64_t start = mpe_now(), deadlines[50];
    for (int i = 0; i < 50; i++) {
        w[i] = new_wait();
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

TEST(nor_are_they_in_poll)
{
    mpe_engine *e = mpe_test_engine(0);
    use_poll(e);
    check_timers(e);
    mpe_close(e);
}

TEST(a_stopped_timer_does_not_fire)
{
    mpe_engine *e = mpe_test_engine(0);
    struct wait a = new_wait(), b = new_wait();
    uint64_t now = mpe_now();
    REQUIRE_OK(mpe_wait_timer(e, &a.w, now));
    REQUIRE_OK(mpe_wait_timer(e, &b.w, now + 1000));
    mpe_wait_stop(e, &a.w);
    EXPECT_OK(mpe_run_until(e, &b.fired));
    EXPECT_EQ(a.fired, 0);
    mpe_wait_stop(e, &b.w);
    mpe_close(e);
}

TEST(waiting_for_what_can_never_come_is_an_error)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q;
    struct wait w = new_wait();
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

TEST(and_so_it_is_when_the_last_other_process_has_gone)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q;
    struct wait w = new_wait();
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
    struct wait w = new_wait();
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

/* ---- turns ---- */

static void
put_one(mpe_engine *e, mpe_object *q)
{
    mpe_bytes part = {"x", 1};
    REQUIRE_OK(mpe_queue_put(e, q, &part, 1, 0));
}

static void
take_one(mpe_engine *e, mpe_object *q)
{
    mpe_message m;
    REQUIRE_OK(mpe_queue_get(e, q, &m));
    mpe_message_free(e, &m);
}

TEST(waiters_of_one_process_are_served_in_their_order)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q;
    struct wait w[3];
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &q));
    for (int i = 0; i < 3; i++) {
        w[i] = new_wait();
        REQUIRE_OK(mpe_wait_object(e, &w[i].w, q, MPE_EVENT_READY, MPE_FOREVER));
    }
    for (int i = 0; i < 3; i++)
        put_one(e, q);
    for (int i = 0; i < 3; i++) {
        EXPECT_OK(mpe_run_until(e, &w[i].fired));
        for (int k = i + 1; k < 3; k++)
            EXPECT_EQ(w[k].fired, 0);
        take_one(e, q);
        mpe_wait_done(e, &w[i].w);
    }
    EXPECT_EQ(e->loop->entries, 0);
    mpe_close(e);
}

TEST(one_that_found_nothing_keeps_its_turn)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q;
    struct wait a = new_wait(), b = new_wait();
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &q));
    REQUIRE_OK(mpe_wait_object(e, &a.w, q, MPE_EVENT_READY, MPE_FOREVER));
    REQUIRE_OK(mpe_wait_object(e, &b.w, q, MPE_EVENT_READY, MPE_FOREVER));
    put_one(e, q);
    EXPECT_OK(mpe_run_until(e, &a.fired));
    take_one(e, q); /* somebody else was faster */
    a.fired = 0;
    REQUIRE_OK(mpe_wait_object(e, &a.w, q, MPE_EVENT_READY, MPE_FOREVER));
    put_one(e, q);
    EXPECT_OK(mpe_run_until(e, &a.fired));
    EXPECT_EQ(b.fired, 0);
    mpe_wait_done(e, &a.w);
    mpe_wait_stop(e, &b.w);
    mpe_close(e);
}

TEST(one_that_is_stopped_passes_its_turn_on)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q;
    struct wait a = new_wait(), b = new_wait();
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &q));
    for (int how = 0; how < 3; how++) {
        a = new_wait(), b = new_wait();
        REQUIRE_OK(
            mpe_wait_object(e, &a.w, q, MPE_EVENT_READY, how == 2 ? mpe_now() : MPE_FOREVER));
        REQUIRE_OK(mpe_wait_object(e, &b.w, q, MPE_EVENT_READY, MPE_FOREVER));
        put_one(e, q);
        if (how == 1)
            EXPECT_OK(mpe_run_until(e, &a.fired)); /* stopped after it was fired */
        if (how == 2)
            mpe__expire_timers(e); /* before the bell is looked at */
        else
            mpe_wait_stop(e, &a.w);
        EXPECT_OK(mpe_run_until(e, &b.fired));
        EXPECT_EQ(b.status, MPE_OK);
        take_one(e, q);
        mpe_wait_done(e, &b.w);
        mpe_wait_stop(e, &a.w);
        EXPECT_EQ(e->loop->entries, 0);
    }
    mpe_close(e);
}

/* The first is fired for one item. Two come before it files itself again, so no bit stands for them;
 * it takes one at once. The other must reach the second. */
TEST(one_that_finds_what_it_wants_at_once_looks_for_those_behind_it)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *q;
    struct wait a = new_wait(), b = new_wait();
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &q));
    REQUIRE_OK(mpe_wait_object(e, &a.w, q, MPE_EVENT_READY, MPE_FOREVER));
    REQUIRE_OK(mpe_wait_object(e, &b.w, q, MPE_EVENT_READY, MPE_FOREVER));
    put_one(e, q);
    EXPECT_OK(mpe_run_until(e, &a.fired));
    take_one(e, q);
    put_one(e, q);
    put_one(e, q);
    REQUIRE_OK(mpe_wait_object(e, &a.w, q, MPE_EVENT_READY, MPE_FOREVER));
    take_one(e, q);
    mpe_wait_stop(e, &a.w);
    EXPECT_OK(mpe_run_until(e, &b.fired));
    mpe_wait_done(e, &b.w);
    mpe_close(e);
}

TEST(an_event_fires_all_who_wait)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o;
    struct wait w[5];
    REQUIRE_OK(mpe_event_create(e, &o));
    for (int i = 0; i < 5; i++) {
        w[i] = new_wait();
        REQUIRE_OK(mpe_wait_object(e, &w[i].w, o, MPE_EVENT_READY, MPE_FOREVER));
    }
    mpe_event_set(e, o);
    mpe_event_clear(e, o);
    for (int i = 0; i < 5; i++) {
        EXPECT_OK(mpe_run_until(e, &w[i].fired));
        mpe_wait_done(e, &w[i].w);
    }
    mpe_close(e);
}

static void
stop_the_other(mpe_engine *e, mpe_waiter *w, int status)
{
    (void)status;
    ((struct wait *)w)->fired++;
    mpe_wait_stop(e, (mpe_waiter *)((struct wait *)w)->at);
    mpe_wait_done(e, w);
}

TEST(a_waiter_may_stop_others_while_it_is_fired)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *a, *b;
    struct wait w[2] = {new_wait(), new_wait()};
    REQUIRE_OK(mpe_event_create(e, &a));
    for (uint32_t i = 1; i < MPE__BUCKETS; i++)
        REQUIRE_OK(mpe_event_create(e, &b));
    REQUIRE_OK(mpe_event_create(e, &b)); /* in the same bucket as a */
    for (int i = 0; i < 2; i++) {
        w[i].w.fire = stop_the_other;
        w[i].at = (uint64_t)(uintptr_t)&w[!i].w;
        REQUIRE_OK(mpe_wait_object(e, &w[i].w, i ? a : b, MPE_EVENT_READY, MPE_FOREVER));
    }
    mpe_event_set(e, a);
    mpe_event_set(e, b);
    mpe_poll(e);
    EXPECT_EQ(w[0].fired + w[1].fired, 1);
    EXPECT_EQ(e->loop->entries, 0);
    mpe_close(e);
}

TEST(a_waitlist_is_woken_in_order)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_waitlist list = {0};
    struct wait w[3];
    for (int i = 0; i < 3; i++) {
        w[i] = new_wait();
        REQUIRE_OK(mpe_wait_list(e, &w[i].w, &list, i == 2 ? mpe_now() : MPE_FOREVER));
    }
    EXPECT_OK(mpe_run_until(e, &w[2].fired));
    EXPECT_EQ(w[2].status, MPE_ETIMEDOUT);
    EXPECT_EQ(mpe_waitlist_wake(e, &list, 1), 1);
    EXPECT_EQ(w[0].fired, 1);
    EXPECT_EQ(w[1].fired, 0);
    EXPECT_EQ(mpe_waitlist_wake(e, &list, 9), 1);
    EXPECT(list.head == NULL && list.tail == NULL);
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

TEST_LIMIT(nor_when_both_sleep_in_poll, 60)
{
    ping_pong(30000, 3);
}

TEST_LIMIT(nor_when_one_sleeps_in_poll, 60)
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

/* ---- descriptors ---- */

TEST(waits_for_a_descriptor_to_become_readable_and_writable)
{
    mpe_engine *e = mpe_test_engine(0);
    int fd[2];
    char bytes[4096] = {0};
    REQUIRE(pipe2(fd, O_NONBLOCK) == 0);
    struct wait r = new_wait(), w = new_wait();
    REQUIRE_OK(mpe_wait_fd(e, &r.w, fd[0], MPE_READABLE, mpe_now() + 1000000));
    EXPECT_OK(mpe_run_until(e, &r.fired));
    EXPECT_EQ(r.status, MPE_ETIMEDOUT);
    mpe_fd_waiter_gone(e, fd[0]);
    while (write(fd[1], bytes, sizeof bytes) > 0)
        ;
    r = new_wait();
    REQUIRE_OK(mpe_wait_fd(e, &w.w, fd[1], MPE_WRITABLE, MPE_FOREVER));
    REQUIRE_OK(mpe_wait_fd(e, &r.w, fd[0], MPE_READABLE, MPE_FOREVER));
    EXPECT_OK(mpe_run_until(e, &r.fired));
    EXPECT_OK(r.status);
    EXPECT_EQ(w.fired, 0);
    while (read(fd[0], bytes, sizeof bytes) > 0)
        ;
    EXPECT_OK(mpe_run_until(e, &w.fired));
    EXPECT_OK(w.status);
    EXPECT(e->loop->fds == NULL);
    mpe_close(e);
}

TEST(several_wait_for_one_descriptor_and_all_learn_that_it_closes)
{
    mpe_engine *e = mpe_test_engine(0);
    int fd[2];
    REQUIRE(pipe2(fd, O_NONBLOCK) == 0);
    struct wait w[3];
    for (int i = 0; i < 3; i++) {
        w[i] = new_wait();
        REQUIRE_OK(mpe_wait_fd(e, &w[i].w, fd[0], MPE_READABLE, MPE_FOREVER));
    }
    REQUIRE(write(fd[1], "x", 1) == 1);
    EXPECT_OK(mpe_run_until(e, &w[0].fired));
    mpe_fd_closing(e, fd[0]);
    close(fd[0]);
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(w[i].fired, 1);
    EXPECT(e->loop->fds == NULL);
    mpe_close(e);
}

TEST(closing_the_engine_ends_waits_for_descriptors)
{
    mpe_engine *e = mpe_test_engine(0);
    int fd[2];
    REQUIRE(pipe2(fd, O_NONBLOCK) == 0);
    struct wait w = new_wait();
    REQUIRE_OK(mpe_wait_fd(e, &w.w, fd[0], MPE_READABLE, MPE_FOREVER));
    mpe_close(e);
    EXPECT_EQ(w.fired, 0);
}

TEST(runs_on_the_loop_of_its_host)
{
    uv_loop_t loop;
    mpe_config config = MPE_CONFIG_INIT;
    mpe_engine *e;
    int fd[2];
    REQUIRE(uv_loop_init(&loop) == 0);
    config.loop = &loop;
    REQUIRE_OK(mpe_open(&config, &e));
    EXPECT(mpe_loop(e) == &loop);
    REQUIRE(pipe2(fd, O_NONBLOCK) == 0);
    struct wait w = new_wait(), never = new_wait();
    REQUIRE_OK(mpe_wait_fd(e, &w.w, fd[1], MPE_WRITABLE, MPE_FOREVER));
    REQUIRE_OK(mpe_wait_fd(e, &never.w, fd[0], MPE_READABLE, MPE_FOREVER));
    EXPECT_OK(mpe_run_until(e, &w.fired));
    mpe_close(e);
    EXPECT_EQ(uv_run(&loop, UV_RUN_DEFAULT), 0);
    EXPECT_EQ(uv_loop_close(&loop), 0);
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

TEST(and_the_sleep_in_poll)
{
    mpe_engine *e = mpe_test_engine(0);
    use_poll(e);
    check_interrupt(e);
    mpe_close(e);
}
