/* A C function that suspends the Lua task that called it, and its finish: ns per call.
 * usage: suspend loop|main|thread
 *   loop    in a task, finished by a job of the loop
 *   main    the same in the main chunk, which runs the loop meanwhile
 *   thread  from the finish, by another thread, until the task goes on, whose engine slept */
#include <lauxlib.h>
#include <lualib.h>
#include <mpengine_core.h>
#include <mpengine_lua.h>
#include <string.h>

#include "../raw/wake.h"

static mpe_engine *e;
static lua_State *L;
static mpe_call pending;
static _Atomic mpe_call given; /* to the thread; 0: the call before was taken */

static void
finish(mpe_engine *mine, mpe_job *job)
{
    (void)job;
    mpe_call_finish(mine, pending, MPE_OK);
}

static mpe_job job = {.run = finish};

static int
start_job(mpe_engine *mine, mpe_call c, void *ud)
{
    (void)ud;
    pending = c;
    mpe_post(mine, &job);
    return MPE_OK;
}

static int
start_thread(mpe_engine *mine, mpe_call c, void *ud)
{
    (void)mine;
    (void)ud;
    atomic_store(&given, c);
    return MPE_OK;
}

static int
push(lua_State *mine, int status, void *ud)
{
    (void)mine;
    (void)status;
    if (ud)
        wake_arrive();
    return 0;
}

static void
cancel(mpe_engine *mine, mpe_call c, void *ud)
{
    (void)mine;
    (void)c;
    (void)ud;
}

static int
call_job(lua_State *mine)
{
    static const mpe_call_ops ops = {start_job, push, cancel};
    return mpe_lua_suspend(mine, &ops, NULL);
}

static int
call_thread(lua_State *mine)
{
    static const mpe_call_ops ops = {start_thread, push, cancel};
    return mpe_lua_suspend(mine, &ops, &given);
}

static void
run(const char *text, long n)
{
    lua_pushinteger(L, n);
    lua_setglobal(L, "n");
    if (luaL_dostring(L, text)) {
        fprintf(stderr, "suspend: %s\n", lua_tostring(L, -1));
        exit(1);
    }
}

static void
in_task(long n)
{
    run("require 'mpengine'.co.spawn(function() for _ = 1, n do job() end end):get()", n);
}

static void
in_main(long n)
{
    run("for _ = 1, n do job() end", n);
}

/* ---- the thread ---- */

static void
await_call(void)
{
    while (atomic_load(&given) == 0)
        ;
}

static void
kick(void)
{
    mpe_call c = atomic_exchange(&given, 0);
    mpe_call_finish(e, c, MPE_OK);
}

static void *
thread(void *arg)
{
    wake_measure(await_call, kick);
    exit(0); /* a call is pending for ever */
    return arg;
}

int
main(int argc, char **argv)
{
    const char *how = argc == 2 ? argv[1] : "";
    pthread_t t;
    bench_check(mpe_open(NULL, &e) == MPE_OK && (L = luaL_newstate()), "open");
    luaL_openlibs(L);
    bench_check(mpe_lua_open(L, e) == MPE_OK, "mpe_lua_open");
    lua_register(L, "job", call_job);
    lua_register(L, "call", call_thread);
    if (strcmp(how, "thread") == 0) {
        bench_check(pthread_create(&t, NULL, thread, NULL) == 0, "pthread_create");
        run("require 'mpengine'.co.spawn(function() while true do call() end end):get()", 0);
    }
    if (strcmp(how, "loop") != 0 && strcmp(how, "main") != 0)
        return fprintf(stderr, "usage: suspend loop|main|thread\n"), 2;
    bench_ns(strcmp(how, "loop") == 0 ? in_task : in_main, 1000);
    lua_close(L);
    mpe_close(e);
}
