/* SPDX-License-Identifier: MIT */
/* Calls sent to an engine by other threads. */
#include "loop/loop.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 4
#define EACH 2000

static mpe_engine *engine;
static int next_of[THREADS], in_order = 1, count, all_done;
static pthread_t home;

struct sent {
    int thread, number;
};

static void
note(mpe_engine *e, void *ud)
{
    struct sent *s = ud;
    in_order &= e == engine && pthread_equal(pthread_self(), home) &&
                s->number == next_of[s->thread]++;
    all_done = ++count == THREADS * EACH;
    free(s);
}

static void *
send_each(void *ud)
{
    int thread = *(int *)ud;
    for (int i = 0; i < EACH; i++) {
        struct sent *s = malloc(sizeof *s);
        *s = (struct sent){thread, i};
        EXPECT_OK(mpe_send(engine, note, s));
    }
    return NULL;
}

TEST(calls_run_on_the_engine_s_thread_in_the_order_of_each_sender)
{
    pthread_t threads[THREADS];
    int numbers[THREADS];
    engine = mpe_test_engine(0);
    home = pthread_self();
    mpe_keep_alive(engine, 1);
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        pthread_create(&threads[i], NULL, send_each, &numbers[i]);
    }
    EXPECT_OK(mpe_run_until(engine, &all_done));
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    EXPECT(in_order);
    EXPECT_EQ(count, THREADS * EACH);
    mpe_close(engine);
}

static void
set(mpe_engine *e, void *ud)
{
    (void)e;
    *(int *)ud = 1;
}

static void *
send_one(void *ud)
{
    while (mpe__load32(&engine->self->sleep) == MPE__AWAKE)
        sched_yield();
    EXPECT_OK(mpe_send(engine, set, ud));
    return NULL;
}

static void
wait_for_a_call(void)
{
    pthread_t t;
    int done = 0;
    pthread_create(&t, NULL, send_one, &done);
    EXPECT_OK(mpe_run_until(engine, &done));
    pthread_join(t, NULL);
}

TEST(a_call_wakes_an_engine_that_sleeps_on_its_bell)
{
    engine = mpe_test_engine(0);
    mpe_keep_alive(engine, 1);
    wait_for_a_call();
    mpe_close(engine);
}

static void
nothing(uv_timer_t *t)
{
    (void)t;
}

TEST(a_call_wakes_an_engine_that_sleeps_in_libuv)
{
    uv_timer_t t;
    engine = mpe_test_engine(0);
    uv_timer_init(mpe_loop(engine), &t);
    uv_timer_start(&t, nothing, 3600000, 0);
    wait_for_a_call();
    uv_close((uv_handle_t *)&t, NULL);
    mpe_close(engine);
}

static int runs;

static void
again(mpe_engine *e, void *ud)
{
    runs++;
    int rc = mpe_send(e, again, ud);
    EXPECT(rc == MPE_OK || rc == MPE_ECLOSED);
}

TEST(a_turn_runs_a_bounded_number_of_calls)
{
    mpe_engine *e = mpe_test_engine(0);
    struct mpe_test_waiter w = mpe_test_waiter_new();
    for (int i = 0; i < 1000; i++)
        EXPECT_OK(mpe_send(e, again, NULL));
    EXPECT_OK(mpe_wait_timer(e, &w.w, mpe_now()));
    EXPECT(mpe_poll(e));
    EXPECT(runs > 0 && runs < 1000);
    EXPECT(w.fired);
    mpe_close(e);
}

static int later_ran;

static void
wait_for_later(mpe_engine *e, void *ud)
{
    EXPECT_OK(mpe_run_until(e, &later_ran));
    *(int *)ud = 1;
}

TEST(a_call_may_wait_for_one_that_was_sent_later)
{
    mpe_engine *e = mpe_test_engine(0);
    int done = 0;
    EXPECT_OK(mpe_send(e, wait_for_later, &done));
    EXPECT_OK(mpe_send(e, set, &later_ran));
    EXPECT_OK(mpe_run_until(e, &done));
    EXPECT(later_ran);
    mpe_close(e);
}

struct late {
    int runs, refused;
};

static void
send_too_late(mpe_engine *e, void *ud)
{
    struct late *l = ud;
    l->runs++;
    l->refused = mpe_send(e, send_too_late, ud);
}

TEST(closing_runs_what_was_accepted_and_refuses_the_rest)
{
    mpe_engine *e = mpe_test_engine(0);
    struct late l = {0, 0};
    for (int i = 0; i < 100; i++)
        EXPECT_OK(mpe_send(e, send_too_late, &l));
    mpe_close(e);
    EXPECT_EQ(l.runs, 100);
    EXPECT_EQ(l.refused, MPE_ECLOSED);
}

TEST(a_forked_child_may_not_send)
{
    int status;
    mpe_engine *e = mpe_test_engine(0);
    pid_t child = fork();
    if (child == 0)
        _exit(mpe_send(e, set, NULL) == MPE_EPERM ? 0 : 1);
    REQUIRE(waitpid(child, &status, 0) == child);
    EXPECT_EQ(status, 0);
    mpe_close(e);
}

TEST(no_engine_and_no_function_are_invalid)
{
    mpe_engine *e = mpe_test_engine(0);
    EXPECT_EQ(mpe_send(NULL, set, NULL), MPE_EINVAL);
    EXPECT_EQ(mpe_send(e, NULL, NULL), MPE_EINVAL);
    mpe_close(e);
}
