/* SPDX-License-Identifier: MIT */
/* Threads with an engine of their own in the arena of another. */
#include "loop/loop.h"
#include "core/slot.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define THREADS 4
#define ITEMS 5000

struct shared {
    mpe_engine *e;
    mpe_handle queue, lock;
    int ends_how;
    struct mpe_test_gate gate, then;
};

static mpe_object *
held(mpe_engine *e, mpe_handle h)
{
    mpe_object *o;
    REQUIRE_OK(mpe_hold(e, h, &o));
    return o;
}

static void *
put_items(void *ud)
{
    struct shared *s = ud;
    mpe_engine *mine;
    REQUIRE_OK(mpe_open_thread(s->e, "producer", &mine));
    EXPECT_STR(mpe_self_name(mine), "producer");
    mpe_object *queue = held(mine, s->queue);
    for (int i = 0; i < ITEMS; i++)
        EXPECT_OK(mpe_test_put(mine, queue, &i, sizeof i));
    mpe_drop(mine, queue);
    mpe_close(mine);
    return NULL;
}

TEST(threads_put_what_another_takes)
{
    struct shared s = {.e = mpe_test_engine(0)};
    pthread_t threads[THREADS];
    mpe_object *queue;
    mpe_message m;
    REQUIRE_OK(mpe_queue_create(s.e, 8, 0, &queue));
    s.queue = mpe_handle_of(s.e, queue);
    mpe_keep_alive(s.e, 1); /* before they have joined, nothing else says that items will come */
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, put_items, &s);
    for (int i = 0; i < THREADS * ITEMS; i++) {
        REQUIRE_OK(mpe_test_get(s.e, queue, &m));
        mpe_message_free(s.e, &m);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    mpe_test_check(s.e);
    mpe_close(s.e);
}

/* ---- a thread that ends without mpe_close ---- */

enum { RETURNS, EXITS, IS_CANCELLED, EXITS_AT_ONCE, WAYS = EXITS_AT_ONCE + !MPE_TEST_TSAN };

static void
end(int how)
{
    if (how == EXITS)
        pthread_exit(NULL);
    if (how == IS_CANCELLED)
        pthread_cancel(pthread_self());
    if (how == EXITS_AT_ONCE)
        syscall(SYS_exit, 0);
    pthread_testcancel();
}

/* What such threads leave is lost until the process ends. */
static mpe_engine *lost[2 * WAYS];

static void
own_the_lock(struct shared *s)
{
    static int count;
    mpe_engine *mine;
    REQUIRE_OK(mpe_open_thread(s->e, "owner", &mine));
    lost[count++] = mine;
    EXPECT_OK(mpe_lock_acquire(mine, held(mine, s->lock), 1));
    mpe_test_gate_open(s->gate);
}

static void *
end_with_the_lock(void *ud)
{
    struct shared *s = ud;
    own_the_lock(s);
    while (mpe__load32(&s->e->self->sleep) == MPE__AWAKE)
        sched_yield();
    end(s->ends_how);
    return NULL;
}

/* Waits for a lock whose owner ends while this thread sleeps. */
static void
wait_for_the_end(mpe_engine *e, int how)
{
    struct shared s = {.e = e, .ends_how = how, .gate = mpe_test_gate_new()};
    pthread_t t;
    mpe_object *lock;
    REQUIRE_OK(mpe_lock_create(e, 0, &lock));
    s.lock = mpe_handle_of(e, lock);
    pthread_create(&t, NULL, end_with_the_lock, &s);
    mpe_test_gate_wait(s.gate);
    uint64_t from = mpe_now();
    EXPECT_EQ(mpe_test_lock(e, lock), MPE_OWNER_DIED);
    EXPECT(mpe_now() - from < MPE_NS_PER_S / 10);
    pthread_join(t, NULL);
    mpe_lock_release(e, lock);
    mpe_drop(e, lock);
    mpe_test_check(e);
}

TEST(the_end_of_a_thread_is_told_to_one_that_sleeps_on_its_bell)
{
    mpe_engine *e = mpe_test_engine(0);
    for (int how = 0; how < WAYS; how++)
        wait_for_the_end(e, how);
    mpe_close(e);
}

static void
nothing(uv_timer_t *t)
{
    (void)t;
}

TEST(the_end_of_a_thread_is_told_to_one_that_sleeps_in_libuv)
{
    uv_timer_t t;
    mpe_engine *e = mpe_test_engine(0);
    uv_timer_init(mpe_loop(e), &t);
    uv_timer_start(&t, nothing, 3600000, 0);
    for (int how = 0; how < WAYS; how++)
        wait_for_the_end(e, how);
    uv_close((uv_handle_t *)&t, NULL);
    mpe_close(e);
}

/* In another process. */
static void
wait_in_libuv(mpe_engine *e, void *lock)
{
    uv_timer_t t;
    uv_timer_init(mpe_loop(e), &t);
    uv_timer_start(&t, nothing, 3600000, 0);
    EXPECT_EQ(mpe_test_lock(e, lock), MPE_OWNER_DIED);
    mpe_leave(e);
}

static void *
own_until_others_sleep(void *ud)
{
    struct shared *s = ud;
    own_the_lock(s);
    while (mpe__load32(&s->e->slots[1].sleep) != MPE__IN_POLL)
        sched_yield();
    return NULL;
}

TEST(the_end_of_a_thread_is_told_to_another_process)
{
    struct shared s = {.e = mpe_test_engine(0), .gate = mpe_test_gate_new()};
    struct mpe_test_gate go = mpe_test_gate_new();
    pthread_t t;
    mpe_object *lock;
    int is_child;
    mpe_process *p;
    REQUIRE_OK(mpe_lock_create(s.e, 0, &lock));
    s.lock = mpe_handle_of(s.e, lock);
    REQUIRE_OK(mpe_process_fork(s.e, "child", 0, (mpe_bytes){NULL, 0}, &p, &is_child));
    if (is_child) {
        mpe_test_gate_wait(go);
        wait_in_libuv(s.e, lock);
        _exit(mpe_test_failures() > 0);
    }
    pthread_create(&t, NULL, own_until_others_sleep, &s);
    mpe_test_gate_wait(s.gate);
    mpe_test_gate_open(go);
    pthread_join(t, NULL);
    EXPECT_EQ(mpe_test_join(s.e, p), 0);
    mpe_close(s.e);
}

/* ---- opening and closing ---- */

static void *
keep_an_engine(void *ud)
{
    struct shared *s = ud;
    mpe_engine *mine, *second;
    REQUIRE_OK(mpe_open_thread(s->e, "thread", &mine));
    REQUIRE_OK(mpe_open_thread(mine, "second", &second)); /* from one that was opened so */
    mpe_test_gate_open(s->gate);
    mpe_test_gate_wait(s->then);
    mpe_object *queue = held(second, s->queue);
    EXPECT_OK(mpe_test_put(second, queue, "x", 1));
    mpe_close(mine);
    mpe_drop(second, queue);
    mpe_test_check(second);
    mpe_close(second);
    return NULL;
}

TEST(engines_of_an_arena_close_in_any_order)
{
    struct shared s = {
        .e = mpe_test_engine(0), .gate = mpe_test_gate_new(), .then = mpe_test_gate_new()};
    pthread_t t;
    mpe_object *queue, *dict;
    REQUIRE_OK(mpe_queue_create(s.e, 0, 0, &queue));
    REQUIRE_OK(mpe_dict_create(s.e, &dict));
    s.queue = mpe_handle_of(s.e, queue);
    pthread_create(&t, NULL, keep_an_engine, &s);
    mpe_test_gate_wait(s.gate);
    mpe_engine *last;
    REQUIRE_OK(mpe_open_thread(s.e, "last", &last));
    mpe_object *same = held(last, s.queue);
    mpe_close(s.e);
    mpe_test_gate_open(s.then);
    pthread_join(t, NULL);
    mpe_message m;
    EXPECT_OK(mpe_test_get(last, same, &m));
    mpe_message_free(last, &m);
    mpe_test_check(last);
    mpe_close(last);
}

static void
wait_for_nothing(mpe_engine *e, void *arg)
{
    (void)e, (void)arg;
}

TEST(a_process_with_such_threads_cannot_fork)
{
    struct shared s = {
        .e = mpe_test_engine(0), .gate = mpe_test_gate_new(), .then = mpe_test_gate_new()};
    pthread_t t;
    mpe_object *queue;
    mpe_process *p;
    int is_child;
    REQUIRE_OK(mpe_queue_create(s.e, 0, 0, &queue));
    s.queue = mpe_handle_of(s.e, queue);
    pthread_create(&t, NULL, keep_an_engine, &s);
    mpe_test_gate_wait(s.gate);
    mpe_own_threads(s.e, 1);
    EXPECT_EQ(mpe_process_fork(s.e, "child", 0, (mpe_bytes){NULL, 0}, &p, &is_child), MPE_ETHREADS);
    mpe_test_gate_open(s.then);
    pthread_join(t, NULL);
    EXPECT_EQ(mpe_test_join(s.e, mpe_test_start(s.e, wait_for_nothing, NULL)), 0);
    mpe_close(s.e);
}

TEST(opening_and_closing_leaves_no_descriptor)
{
    mpe_engine *e = mpe_test_engine(0), *other;
    int before = dup(0);
    close(before);
    for (int i = 0; i < 100; i++) {
        REQUIRE_OK(mpe_open_thread(e, "thread", &other));
        mpe_close(other);
    }
    int after = dup(0);
    EXPECT_EQ(after, before);
    mpe_close(e);
}

TEST(no_slot_and_no_name_are_told)
{
    mpe_engine *e = mpe_test_engine(0), *others[MPE__SLOTS], *more;
    EXPECT_EQ(mpe_open_thread(NULL, "x", &more), MPE_EINVAL);
    EXPECT_EQ(mpe_open_thread(e, NULL, &more), MPE_EINVAL);
    EXPECT_EQ(mpe_open_thread(e, "x", NULL), MPE_EINVAL);
    for (uint32_t i = 1; i < MPE__SLOTS; i++)
        REQUIRE_OK(mpe_open_thread(e, "x", &others[i]));
    EXPECT_EQ(mpe_open_thread(e, "x", &more), MPE_ESLOTS);
    for (uint32_t i = 1; i < MPE__SLOTS; i++)
        mpe_close(others[i]);
    mpe_close(e);
}
