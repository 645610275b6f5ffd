/* A C function that suspends the calling task while a thread works; other tasks go on. A task that is
 * killed meanwhile cancels its call, and the finish that comes later does nothing. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

#include "mpengine_lua.h"

struct job {
    mpe_engine *e;
    mpe_call call;
    pthread_t thread;
    sem_t stop; /* the job is no longer needed */
    long long n, sum;
};

static void *
work(void *arg)
{
    struct job *j = (struct job *)arg;
    if (j->n == 0) /* has no end of its own */
        sem_wait(&j->stop);
    for (long long i = 1; i <= j->n; i++)
        j->sum += i;
    mpe_call_finish(j->e, j->call, MPE_OK); /* from any thread */
    return NULL;
}

static int
start(mpe_engine *e, mpe_call c, void *ud)
{
    struct job *j = (struct job *)ud;
    j->e = e;
    j->call = c;
    return pthread_create(&j->thread, NULL, work, j) == 0 ? MPE_OK : MPE_ESYS;
}

/* In the task. */
static int
push(lua_State *L, int status, void *ud)
{
    struct job *j = (struct job *)ud;
    long long sum = j->sum;
    if (status == MPE_OK)
        pthread_join(j->thread, NULL);
    free(j);
    if (status != MPE_OK)
        return luaL_error(L, "sum: %s", mpe_strerror(status));
    lua_pushinteger(L, sum);
    return 1;
}

/* The task was killed. */
static void
cancel(mpe_engine *e, mpe_call c, void *ud)
{
    struct job *j = (struct job *)ud;
    (void)e;
    if (c != 0 && j->call == c) {
        sem_post(&j->stop);
        pthread_join(j->thread, NULL);
    }
    free(j);
}

static int
sum(lua_State *L)
{
    static const mpe_call_ops ops = {start, push, cancel};
    lua_Integer n = luaL_checkinteger(L, 1);
    struct job *j = (struct job *)calloc(1, sizeof *j);
    if (!j)
        return luaL_error(L, "out of memory");
    j->n = n;
    sem_init(&j->stop, 0, 0);
    return mpe_lua_suspend(L, &ops, j);
}

static const char script[] = "local co = require 'mpengine'.co\n"
                             "local killed = co.spawn(sum, 0)\n"
                             "local t = co.spawn(sum, 100)\n"
                             "co.sleep(0)\n"
                             "killed:kill()\n"
                             "print('main chunk', sum(10))\n"
                             "print('task', t:get())\n"
                             "print('killed', killed:get())\n";

int
main(void)
{
    mpe_engine *e;
    int rc = mpe_open(NULL, &e);
    if (rc != MPE_OK) {
        fprintf(stderr, "mpe_open: %s\n", mpe_strerror(rc));
        return 1;
    }
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    mpe_lua_open(L, e);
    lua_register(L, "sum", sum);
    rc = luaL_dostring(L, script);
    if (rc != LUA_OK)
        fprintf(stderr, "%s\n", lua_tostring(L, -1));
    lua_close(L);
    mpe_close(e);
    return rc;
}
