/* SPDX-License-Identifier: MIT */
/* Processes and pools of C functions, by all methods. A constructor handles the children that are
 * new programs, as the first line of a host's main does. */
#include "mpengine.h"
#include "mpengine_wire.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the functions ---- */

static int
square(mpe_engine *e, const void *args, size_t size, mpe_buf *result)
{
    int64_t n;
    (void)e;
    if (size != sizeof n)
        return 3;
    memcpy(&n, args, sizeof n);
    n *= n;
    return mpe_buf_append(result, &n, sizeof n) == MPE_OK ? 0 : 4;
}

static int
fail(mpe_engine *e, const void *args, size_t size, mpe_buf *result)
{
    (void)e, (void)args, (void)size;
    mpe_buf_append(result, "why", 3);
    return 42;
}

static int
die(mpe_engine *e, const void *args, size_t size, mpe_buf *result)
{
    (void)e, (void)args, (void)size, (void)result;
    raise(SIGKILL);
    return 0;
}

static int
leave(mpe_engine *e, const void *args, size_t size, mpe_buf *result)
{
    (void)e, (void)args, (void)size, (void)result;
    _exit(9);
}

static int
stay(mpe_engine *e, const void *args, size_t size, mpe_buf *result)
{
    (void)e, (void)args, (void)size, (void)result;
    for (int always = 1; always;)
        pause();
    return 1;
}

/* Puts a message on the queue that its arguments name. */
static int
greet(mpe_engine *e, const void *args, size_t size, mpe_buf *result)
{
    mpe_wire_reader r;
    mpe_wire_item item;
    mpe_object *queue;
    mpe_bytes hello = {"hello", 5};
    (void)result;
    mpe_wire_open(&r, args, size);
    if (mpe_wire_read(&r, &item) != 1 || mpe_hold(e, item.u.h, &queue) != MPE_OK)
        return 1;
    return mpe_queue_put(e, queue, &hello, 1, 0) == MPE_OK ? 0 : 2;
}

static const mpe_named_function functions[] = {{"square", square}, {"fail", fail}, {"die", die},
                                               {"leave", leave},   {"stay", stay}, {"greet", greet},
                                               {NULL, NULL}};

static mpe_config
config_of_host(void)
{
    mpe_config config = MPE_CONFIG_INIT;
    config.functions = functions;
    return config;
}

static __attribute__((constructor)) void
be_a_child(void)
{
    mpe_config config = config_of_host();
    int code;
    if (mpe_child_main(&config, &code))
        _exit(code);
}

static mpe_engine *
open_host(void)
{
    mpe_config config = config_of_host();
    mpe_engine *e;
    REQUIRE_OK(mpe_open(&config, &e));
    return e;
}

#define EACH_METHOD(m) for (int m = MPE_FORK; m <= MPE_FORKSERVER; m++)

/* ---- processes ---- */

static int
run_function(mpe_engine *e, int method, const char *name, const void *args, size_t size)
{
    mpe_process *p;
    int code = -1;
    REQUIRE_OK(mpe_start_function(e, method, name, args, size, 0, &p));
    REQUIRE_OK(mpe_process_join(e, p, mpe_now() + 10 * MPE_NS_PER_S, &code));
    mpe_process_free(e, p);
    return code;
}

TEST(a_function_runs_as_a_process_and_its_value_is_the_exit_code)
{
    mpe_engine *e = open_host();
    int64_t n = 3;
    EACH_METHOD(m)
    {
        EXPECT_EQ(run_function(e, m, "square", &n, sizeof n), 0);
        EXPECT_EQ(run_function(e, m, "square", NULL, 0), 3);
        EXPECT_EQ(run_function(e, m, "fail", "x", 1), 42);
        EXPECT_EQ(run_function(e, m, "die", NULL, 0), -SIGKILL);
    }
    mpe_close(e);
}

TEST(objects_in_the_arguments_of_a_function_arrive)
{
    mpe_engine *e = open_host();
    EACH_METHOD(m)
    {
        mpe_object *queue;
        mpe_buf args;
        mpe_message message;
        REQUIRE_OK(mpe_queue_create(e, 0, 0, &queue));
        mpe_test_handle_bytes(&args, mpe_handle_of(e, queue));
        EXPECT_EQ(run_function(e, m, "greet", args.data, args.len), 0);
        REQUIRE_OK(mpe_test_get(e, queue, &message));
        EXPECT_EQ(message.size, 5u);
        mpe_message_free(e, &message);
        mpe_buf_free(&args);
        mpe_drop(e, queue);
    }
    mpe_test_check(e);
    mpe_close(e);
}

TEST(a_start_of_a_function_refuses_what_is_wrong)
{
    mpe_engine *e = open_host();
    mpe_process *p;
    EXPECT_EQ(mpe_start_function(NULL, MPE_FORK, "square", NULL, 0, 0, &p), MPE_EINVAL);
    EXPECT_EQ(mpe_start_function(e, MPE_FORK, NULL, NULL, 0, 0, &p), MPE_EINVAL);
    EXPECT_EQ(mpe_start_function(e, MPE_FORK, "square", NULL, 0, 0, NULL), MPE_EINVAL);
    EXPECT_EQ(mpe_start_function(e, MPE_FORK, "square", NULL, 5, 0, &p), MPE_EINVAL);
    EXPECT_EQ(mpe_start_function(e, 0, "square", NULL, 0, 0, &p), MPE_EINVAL);
    EXPECT_EQ(mpe_start_function(e, 4, "square", NULL, 0, 0, &p), MPE_EINVAL);
    EXPECT_EQ(mpe_start_function(e, MPE_FORK, "square", NULL, 0, 8, &p), MPE_EINVAL);
    EXPECT_EQ(mpe_start_function(e, MPE_FORK, "cube", NULL, 0, 0, &p), MPE_ENOENT);
    mpe_close(e);
}

/* ---- pools ---- */

struct told {
    int count, status, fired;
    int64_t sum, last;
    char text[8];
    size_t size;
    mpe_pool *pool;
    uint32_t wanted;
};

static void
on_result(mpe_engine *e, void *ud, int status, const void *result, size_t size)
{
    struct told *t = ud;
    (void)e;
    t->count++;
    t->status = status;
    t->size = size;
    if (size == sizeof t->last) {
        memcpy(&t->last, result, size);
        t->sum += t->last;
    } else if (size > 0 && size < sizeof t->text) {
        memcpy(t->text, result, size);
    }
    t->fired = t->count >= (int)t->wanted;
}

static void
await_told(mpe_engine *e, struct told *t)
{
    REQUIRE_OK(mpe_run_until(e, &t->fired));
}

TEST(a_pool_runs_functions_and_tells_each_result_once)
{
    EACH_METHOD(m)
    {
        mpe_engine *e = open_host();
        mpe_pool *pool;
        struct told t = {.wanted = 200};
        int64_t want = 0;
        REQUIRE_OK(mpe_pool_open(e, m, 3, &pool));
        for (int64_t i = 1; i <= 200; i++) {
            REQUIRE_OK(mpe_pool_submit(pool, "square", &i, sizeof i, MPE_FOREVER, on_result, &t));
            want += i * i;
        }
        EXPECT_EQ(t.count, 0); /* never within submit */
        await_told(e, &t);
        EXPECT_EQ(t.count, 200);
        EXPECT_EQ(t.sum, want);
        mpe_pool_close(pool, MPE_NOW);
        EXPECT_EQ(mpe_test_objects(e), 0u);
        mpe_test_check(e);
        mpe_close(e);
    }
}

TEST(a_pool_tells_codes_messages_and_how_a_worker_died)
{
    mpe_engine *e = open_host();
    mpe_pool *pool;
    mpe_wire_reader r;
    mpe_wire_item item;
    REQUIRE_OK(mpe_pool_open(e, MPE_FORK, 2, &pool));
    struct told t = {.wanted = 1};
    REQUIRE_OK(mpe_pool_submit(pool, "fail", NULL, 0, MPE_FOREVER, on_result, &t));
    await_told(e, &t);
    EXPECT_EQ(t.status, 42);
    EXPECT(memcmp(t.text, "why", 3) == 0);
    static const struct {
        const char *name;
        int code;
    } deaths[] = {{"die", -SIGKILL}, {"leave", 9}};
    for (int i = 0; i < 6; i++) {
        t = (struct told){.wanted = 1};
        REQUIRE_OK(mpe_pool_submit(pool, deaths[i % 2].name, NULL, 0, MPE_FOREVER, on_result, &t));
        await_told(e, &t);
        EXPECT_EQ(t.status, MPE_EBROKEN);
        mpe_wire_open(&r, t.text, t.size);
        REQUIRE(mpe_wire_read(&r, &item) == 1);
        EXPECT_EQ(item.u.i, deaths[i % 2].code);
    }
    t = (struct told){.wanted = 1};
    int64_t n = 5;
    REQUIRE_OK(mpe_pool_submit(pool, "square", &n, sizeof n, MPE_FOREVER, on_result, &t));
    await_told(e, &t);
    EXPECT_EQ(t.last, 25);
    mpe_pool_close(pool, MPE_FOREVER);
    mpe_close(e);
}

TEST(a_death_costs_one_task_of_many)
{
    mpe_engine *e = open_host();
    mpe_pool *pool;
    struct told t = {.wanted = 300}, dead = {.wanted = 10};
    int64_t want = 0;
    REQUIRE_OK(mpe_pool_open(e, MPE_FORK, 3, &pool));
    for (int64_t i = 1; i <= 300; i++) {
        REQUIRE_OK(mpe_pool_submit(pool, "square", &i, sizeof i, MPE_FOREVER, on_result, &t));
        if (i % 30 == 0)
            REQUIRE_OK(mpe_pool_submit(pool, "die", NULL, 0, MPE_FOREVER, on_result, &dead));
        want += i * i;
    }
    await_told(e, &t);
    await_told(e, &dead);
    EXPECT_EQ(t.sum, want);
    EXPECT_EQ(t.count, 300);
    EXPECT_EQ(dead.count, 10);
    EXPECT_EQ(dead.status, MPE_EBROKEN);
    mpe_pool_close(pool, MPE_FOREVER);
    mpe_close(e);
}

TEST(a_deadline_ends_tasks_that_run_and_tasks_that_wait)
{
    mpe_engine *e = open_host();
    mpe_pool *pool;
    struct told runs = {.wanted = 1}, waits = {.wanted = 20}, after = {.wanted = 1};
    int64_t n = 2;
    REQUIRE_OK(mpe_pool_open(e, MPE_FORK, 1, &pool));
    uint64_t from = mpe_now();
    REQUIRE_OK(mpe_pool_submit(pool, "stay", NULL, 0, from + MPE_NS_PER_S / 5, on_result, &runs));
    for (int i = 0; i < 20; i++) /* on the queue, and behind it */
        REQUIRE_OK(mpe_pool_submit(pool, "square", &n, sizeof n, from + MPE_NS_PER_S / 10,
                                   on_result, &waits));
    REQUIRE_OK(mpe_pool_submit(pool, "square", &n, sizeof n, MPE_FOREVER, on_result, &after));
    await_told(e, &waits);
    EXPECT_EQ(waits.status, MPE_ETIMEDOUT);
    EXPECT_EQ(waits.sum, 0);
    EXPECT_EQ(runs.count, 0);
    await_told(e, &runs);
    EXPECT_EQ(runs.status, MPE_ETIMEDOUT);
    await_told(e, &after);
    EXPECT_OK(after.status);
    EXPECT_EQ(after.last, 4);
    mpe_pool_close(pool, MPE_FOREVER);
    mpe_close(e);
}

TEST(closing_a_pool_waits_until_its_deadline_and_tells_what_it_stops)
{
    mpe_engine *e = open_host();
    mpe_pool *pool;
    struct told done = {.wanted = 5}, stays = {.wanted = 1}, behind = {.wanted = 30};
    int64_t n = 2;
    REQUIRE_OK(mpe_pool_open(e, MPE_FORK, 2, &pool));
    for (int i = 0; i < 5; i++)
        REQUIRE_OK(mpe_pool_submit(pool, "square", &n, sizeof n, MPE_FOREVER, on_result, &done));
    for (int i = 0; i < 2; i++)
        REQUIRE_OK(mpe_pool_submit(pool, "stay", NULL, 0, MPE_FOREVER, on_result, &stays));
    for (int i = 0; i < 30; i++)
        REQUIRE_OK(mpe_pool_submit(pool, "square", &n, sizeof n, MPE_FOREVER, on_result, &behind));
    uint64_t from = mpe_now();
    mpe_pool_close(pool, from + MPE_NS_PER_S / 5);
    EXPECT(mpe_now() - from < 3 * MPE_NS_PER_S);
    EXPECT_EQ(done.count, 5);
    EXPECT_OK(done.status);
    EXPECT_EQ(stays.count, 2);
    EXPECT_EQ(stays.status, MPE_ECLOSED);
    EXPECT_EQ(behind.count, 30);
    EXPECT_EQ(behind.status, MPE_ECLOSED);
    EXPECT_EQ(mpe_test_objects(e), 0u);
    mpe_close(e);
}

static void
submit_again(mpe_engine *e, void *ud, int status, const void *result, size_t size)
{
    struct told *t = ud;
    int64_t n = t->count;
    on_result(e, ud, status, result, size);
    if (t->count < (int)t->wanted)
        EXPECT_OK(mpe_pool_submit(t->pool, "square", &n, sizeof n, MPE_FOREVER, submit_again, t));
    else
        mpe_pool_close(t->pool, MPE_NOW);
}

TEST(a_result_may_submit_and_close_the_pool)
{
    mpe_engine *e = open_host();
    struct told t = {.wanted = 50};
    int64_t n = 1;
    REQUIRE_OK(mpe_pool_open(e, MPE_FORK, 2, &t.pool));
    REQUIRE_OK(mpe_pool_submit(t.pool, "square", &n, sizeof n, MPE_FOREVER, submit_again, &t));
    REQUIRE_OK(mpe_pool_submit(t.pool, "stay", NULL, 0, MPE_FOREVER, NULL, NULL));
    await_told(e, &t);
    EXPECT_EQ(t.count, 50);
    EXPECT_EQ(mpe_test_objects(e), 0u);
    mpe_close(e);
}

TEST(closing_the_engine_closes_its_pools)
{
    mpe_engine *e = open_host();
    mpe_pool *pool;
    struct told t = {.wanted = 1};
    REQUIRE_OK(mpe_pool_open(e, MPE_FORK, 2, &pool));
    REQUIRE_OK(mpe_pool_open(e, MPE_SPAWN, 1, &pool));
    REQUIRE_OK(mpe_pool_submit(pool, "stay", NULL, 0, MPE_FOREVER, on_result, &t));
    mpe_close(e);
    EXPECT_EQ(t.count, 1);
    EXPECT_EQ(t.status, MPE_ECLOSED);
}

TEST(a_pool_refuses_what_is_wrong)
{
    mpe_engine *e = open_host();
    mpe_pool *pool;
    EXPECT_EQ(mpe_pool_open(NULL, MPE_FORK, 1, &pool), MPE_EINVAL);
    EXPECT_EQ(mpe_pool_open(e, MPE_FORK, 1, NULL), MPE_EINVAL);
    EXPECT_EQ(mpe_pool_open(e, MPE_FORK, 0, &pool), MPE_EINVAL);
    EXPECT_EQ(mpe_pool_open(e, 7, 1, &pool), MPE_EINVAL);
    REQUIRE_OK(mpe_pool_open(e, MPE_FORK, 1, &pool));
    EXPECT_EQ(mpe_pool_submit(NULL, "square", NULL, 0, MPE_FOREVER, NULL, NULL), MPE_EINVAL);
    EXPECT_EQ(mpe_pool_submit(pool, NULL, NULL, 0, MPE_FOREVER, NULL, NULL), MPE_EINVAL);
    EXPECT_EQ(mpe_pool_submit(pool, "cube", NULL, 0, MPE_FOREVER, NULL, NULL), MPE_ENOENT);
    mpe_pool_close(NULL, MPE_NOW);
    mpe_pool_close(pool, MPE_NOW);
    mpe_close(e);
}
