/* SPDX-License-Identifier: MIT
 *
 * task_waits_host.c - every call that waits, made by a C function that a task of Lua has called: it
 * takes what is ready and is refused where it would have to wait, and then has changed nothing.
 */
#include "testing/host.h"

#include "mpengine_core.h"

static mpe_engine *e;
static mpe_object *lock, *rlock, *semaphore, *event, *barrier, *queue, *full, *joinable, *condition;
static int never; /* 1 for a moment, in close_pool */

/* ---- each call, at an object for which it has to wait, and at one that is ready ---- */

static int
acquire_lock(uint64_t deadline)
{
    return mpe_acquire(e, lock, deadline);
}

static int
acquire_rlock(uint64_t deadline)
{
    return mpe_acquire(e, rlock, deadline);
}

static int
acquire_semaphore(uint64_t deadline)
{
    return mpe_acquire(e, semaphore, deadline);
}

static int
wait_event(uint64_t deadline)
{
    return mpe_wait(e, event, deadline);
}

static int
wait_barrier(uint64_t deadline)
{
    return mpe_wait(e, barrier, deadline);
}

static int
wait_joinable(uint64_t deadline)
{
    return mpe_wait(e, joinable, deadline);
}

static int
wait_condition(uint64_t deadline)
{
    return mpe_wait(e, condition, deadline);
}

static int
put(uint64_t deadline)
{
    return mpe_put(e, full, "x", 1, deadline);
}

static int
get(uint64_t deadline)
{
    mpe_message m;
    int rc = mpe_get(e, queue, &m, deadline);
    if (rc == MPE_OK)
        mpe_message_free(e, &m);
    return rc;
}

static int
wait_any(uint64_t deadline)
{
    mpe_object *any[] = {queue, event, lock, semaphore};
    size_t index;
    return mpe_wait_any(e, any, 4, deadline, &index);
}

static int
find(uint64_t deadline)
{
    mpe_object *found;
    int rc = mpe_find(e, "name", deadline, &found);
    if (rc == MPE_OK)
        mpe_drop(e, found);
    return rc;
}

static int
try_event(mpe_engine *mine, mpe_object *o, void *ud)
{
    return mpe_event_wait(mine, o, ud);
}

static int
await(uint64_t deadline)
{
    uint64_t epoch = UINT64_MAX;
    return mpe_await(e, event, MPE_EVENT_READY, deadline, try_event, &epoch);
}

static const struct {
    const char *name;
    int (*call)(uint64_t deadline);
    int at_once; /* the status of MPE_NOW where it would have to wait */
    int has_ready;
} calls[] = {
    {"mpe_acquire(lock)", acquire_lock, MPE_EAGAIN, 1},
    {"mpe_acquire(rlock)", acquire_rlock, MPE_EAGAIN, 1},
    {"mpe_acquire(semaphore)", acquire_semaphore, MPE_EAGAIN, 1},
    {"mpe_wait(event)", wait_event, MPE_EAGAIN, 1},
    {"mpe_wait(barrier)", wait_barrier, MPE_EAGAIN, 1},
    {"mpe_wait(joinable)", wait_joinable, MPE_EAGAIN, 1},
    {"mpe_wait(condition)", wait_condition, MPE_EAGAIN, 0},
    {"mpe_put", put, MPE_EAGAIN, 1},
    {"mpe_get", get, MPE_EAGAIN, 1},
    {"mpe_wait_any", wait_any, MPE_EAGAIN, 1},
    {"mpe_find", find, MPE_ENOENT, 1},
    {"mpe_await", await, MPE_ETIMEDOUT, 1},
};

static void
expect(const char *name, const char *when, int rc, int wanted)
{
    if (rc == wanted)
        return;
    printf("%s %s: %s, not %s\n", name, when, mpe_strerror(rc), mpe_strerror(wanted));
    failures++;
}

/* ---- the C functions ---- */

static int
not_ready(lua_State *L)
{
    (void)L;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        expect(calls[i].name, "at once", calls[i].call(MPE_NOW), calls[i].at_once);
        expect(calls[i].name, "for ever", calls[i].call(MPE_FOREVER), MPE_EDEADLK);
        expect(calls[i].name, "for a second", calls[i].call(mpe_now() + MPE_NS_PER_S), MPE_EDEADLK);
        expect(calls[i].name, "past its time", calls[i].call(mpe_now() - 1), MPE_ETIMEDOUT);
        if (calls[i].call == wait_barrier)
            mpe_barrier_reset(e, barrier); /* a timeout breaks it, here as elsewhere */
    }
    return 0;
}

static int
ready(lua_State *L)
{
    (void)L;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if (calls[i].has_ready)
            expect(calls[i].name, "that is ready", calls[i].call(MPE_FOREVER), MPE_OK);
    return 0;
}

static int
drive(lua_State *L)
{
    CHECK_EQ(mpe_poll(e), MPE_EDEADLK);
    CHECK_EQ(mpe_run_until(e, &never), MPE_EDEADLK);
    for (int i = 0; i < 3; i++) {
        lua_getglobal(L, "nothing");
        CHECK_EQ(mpe_lua_call(L, 0, 0,
                              i == 0   ? MPE_NOW
                              : i == 1 ? MPE_FOREVER
                                       : mpe_now() + MPE_NS_PER_S),
                 MPE_EDEADLK);
        lua_settop(L, 0);
    }
    return 0;
}

static int
pauses(mpe_engine *mine, const void *args, size_t size, mpe_buf *result)
{
    (void)mine, (void)args, (void)size, (void)result;
    for (;;)
        pause();
    return 0;
}

static void
on_stopped(mpe_engine *mine, void *ud, int status, const void *result, size_t size)
{
    (void)mine, (void)ud, (void)result, (void)size;
    CHECK_EQ(status, MPE_ECLOSED);
    never = 1;
}

/* There is no status to return: its tasks are stopped. */
static int
close_pool(lua_State *L)
{
    mpe_pool *pool;
    (void)L;
    CHECK_EQ(mpe_pool_open(e, MPE_FORK, 1, &pool), MPE_OK);
    CHECK_EQ(mpe_pool_submit(pool, "pauses", NULL, 0, MPE_FOREVER, on_stopped, NULL), MPE_OK);
    mpe_pool_close(pool, MPE_FOREVER);
    CHECK_EQ(never, 1);
    never = 0;
    return 0;
}

/* ---- the objects ---- */

#define OTHER 77 /* an owner that is neither this host nor a task */

static void
must(int rc)
{
    if (!CHECK_EQ(rc, MPE_OK))
        exit(1);
}

static void
make_objects(void)
{
    mpe_bytes none = {NULL, 0};
    must(mpe_lock_create(e, 0, &lock));
    must(mpe_lock_create(e, 1, &rlock));
    must(mpe_semaphore_create(e, 0, 0, &semaphore));
    must(mpe_event_create(e, &event));
    must(mpe_barrier_create(e, 2, none, &barrier));
    must(mpe_queue_create(e, 0, 0, &queue));
    must(mpe_queue_create(e, 1, 0, &full));
    must(mpe_queue_create(e, 0, MPE_QUEUE_JOINABLE, &joinable));
    must(mpe_condition_create(e, 0, &condition));
    must(mpe_lock_acquire(e, lock, OTHER));
    must(mpe_rlock_acquire(e, rlock, OTHER));
    must(mpe_put(e, full, "x", 1, MPE_NOW));
    must(mpe_put(e, joinable, "x", 1, MPE_NOW));
    must(mpe_acquire(e, condition, MPE_NOW));
}

/* What a refused wait must not have changed. */
static void
check_unchanged(void)
{
    uint32_t parties, waiting;
    int broken = 1;
    mpe_barrier_state(e, barrier, &parties, &waiting, &broken);
    CHECK(waiting == 0 && !broken);
    CHECK_EQ(mpe_release(e, condition), MPE_OK); /* it is still held */
    must(mpe_acquire(e, condition, MPE_NOW));
    CHECK_EQ(mpe_queue_size(e, queue), 0);
    CHECK_EQ(mpe_queue_size(e, full), 1);
}

/* Once more what `ready` takes. */
static void
make_ready(void)
{
    uint32_t index, generation;
    mpe_message m;
    mpe_lock_release(e, lock);
    mpe_rlock_release(e, rlock, OTHER);
    must(mpe_semaphore_release(e, semaphore));
    mpe_event_set(e, event);
    CHECK_EQ(mpe_barrier_arrive(e, barrier, &index, &generation), MPE_EAGAIN);
    must(mpe_put(e, queue, "x", 1, MPE_NOW));
    must(mpe_get(e, full, &m, MPE_NOW));
    must(mpe_get(e, joinable, &m, MPE_NOW));
    must(mpe_queue_task_done(e, joinable));
    must(mpe_name(e, "name", event));
}

static void
make_unready(void)
{
    must(mpe_release(e, lock));
    must(mpe_release(e, rlock));
    must(mpe_lock_acquire(e, lock, OTHER));
    must(mpe_rlock_acquire(e, rlock, OTHER));
    mpe_event_clear(e, event);
    must(mpe_put(e, joinable, "x", 1, MPE_NOW));
    must(mpe_name(e, "name", NULL));
}

/* ---- the places: as tasks of the script and of the host, and in coroutines of them ---- */

static const char *const places[] = {
    "function in_task(f) co.spawn(f):get() end",
    "function in_task(f) co.spawn(function() coroutine.wrap(f)() end):get() end",
    "function in_task(f) co.spawn(function() assert(pcall(f)) end):get() end",
    "function in_task(f) co.spawn(function() co.sleep(0) table.sort({2, 1}, function() f() end) "
    "end):get() end",
};

static void
by_the_script(lua_State *L, const char *f)
{
    lua_getglobal(L, "in_task");
    lua_getglobal(L, f);
    if (!CHECK_EQ(lua_pcall(L, 1, 0, 0), LUA_OK))
        printf("%s\n", lua_tostring(L, -1));
    lua_settop(L, 0);
}

static void
by_the_host(lua_State *L, const char *f)
{
    lua_getglobal(L, f);
    CHECK_EQ(mpe_lua_call(L, 0, 0, MPE_FOREVER), MPE_OK);
    lua_settop(L, 0);
}

static int done;

static void
on_done(lua_State *L, void *ud, int status, int nresults)
{
    (void)L, (void)ud, (void)nresults;
    CHECK_EQ(status, MPE_OK);
    done = 1;
}

static void
by_a_task_of_the_host(lua_State *L, const char *f)
{
    done = 0;
    lua_getglobal(L, f);
    CHECK_EQ(mpe_lua_spawn(L, 0, on_done, NULL, NULL), MPE_OK);
    CHECK_EQ(mpe_run_until(e, &done), MPE_OK);
}

static void
check_place(lua_State *L, void (*in_task)(lua_State *L, const char *f))
{
    in_task(L, "not_ready");
    check_unchanged();
    in_task(L, "drive");
    in_task(L, "close_pool");
    make_ready();
    in_task(L, "ready");
    make_unready();
}

int
main(void)
{
    note_signals();
    static const mpe_named_function functions[] = {{"pauses", pauses}, {NULL, NULL}};
    mpe_config config = MPE_CONFIG_INIT;
    config.functions = functions;
    e = open_engine(&config);
    lua_State *L = open_state(e);
    lua_register(L, "close_pool", close_pool);
    lua_register(L, "not_ready", not_ready);
    lua_register(L, "ready", ready);
    lua_register(L, "drive", drive);
    RUN(L, "co = require 'mpengine'.co function nothing() end");
    make_objects();
    mpe_keep_alive(e, 1); /* no wait is one that nothing can end */
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        RUN(L, places[i]);
        check_place(L, by_the_script);
    }
    check_place(L, by_the_host);
    check_place(L, by_a_task_of_the_host);
    mpe_keep_alive(e, -1);
    lua_close(L);
    mpe_close(e);
    check_signals();
    return failures != 0;
}
