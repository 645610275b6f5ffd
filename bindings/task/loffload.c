/* SPDX-License-Identifier: MIT
 *
 * loffload.c - co.offload: a blocking function, on a thread, with a Lua state of its own. The
 * function, its arguments and its results are sent as messages of the codec. Shared objects are
 * not, since the engine belongs to the thread that opened it.
 *
 * A job outlives the task that waits for it when that is killed: the last user of the job frees
 * it.
 */
#include "base/lrelease.h"
#include "base/lmodules.h"
#include "base/lsite.h"
#include "base/lsystem.h"
#include "codec/lmessage.h"
#include "codec/lcodec.h"
#include "task/ltask.h"

#include <lualib.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct job {
    mpe_buf in, out; /* the call; true and results, or false, message and traceback */
    int failed;      /* out holds only a message */
    int done;
    atomic_int abandoned;
    uint32_t task; /* the number of the one that waits */
    mpe_waitlist waiters;
    char *path, *cpath;
    lua_CFunction open_core;
} job;

static atomic_int running; /* in all threads of this process */

static void
free_job(job *j)
{
    mpe_buf_free(&j->in);
    mpe_buf_free(&j->out);
    free(j->path);
    free(j->cpath);
    free(j);
}

/* ---- on the thread ---- */

static int
handler(lua_State *L)
{
    lmpe_push_traceback_from(L, 1);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, -2);
    lua_rawseti(L, -2, 1); /* the box of the traceback */
    lua_settop(L, 1);
    return 1;
}

static void
set_paths(lua_State *L, const job *j)
{
    lua_getglobal(L, "package");
    lua_pushstring(L, j->path);
    lua_setfield(L, -2, "path");
    lua_pushstring(L, j->cpath);
    lua_setfield(L, -2, "cpath");
    lua_settop(L, 0);
    lmpe_preload(L, j->open_core);
}

static void
call(lua_State *L, job *j)
{
    lua_newtable(L);
    lua_pushvalue(L, 1);
    lua_pushcclosure(L, handler, 1);
    lua_pushboolean(L, 1);
    int n;
    if (lmpe_decode(L, j->in.data, j->in.len, &n, LMPE_DECODE_FUNCTIONS) < 0)
        lua_error(L);
    if (lua_pcall(L, n - 1, LUA_MULTRET, 2) == LUA_OK)
        return;
    lua_pushboolean(L, 0);
    lua_replace(L, 3);
    lua_rawgeti(L, 1, 1);
}

static int
run_call(lua_State *L)
{
    job *j = lua_touserdata(L, 1);
    luaL_openlibs(L);
    lmpe_seed_random(L);
    set_paths(L, j);
    luaopen_mpengine_codec(L);
    lua_settop(L, 0);
    call(L, j);
    static const char *const names[] = {"ok", "result 1"};
    lmpe_encode_opts opts = {.root = "results", .names = names, .nnames = 1};
    if (lmpe_encode(L, 3, lua_gettop(L) - 2, &j->out, &opts) < 0)
        return luaL_error(L, "offload: %s", lua_tostring(L, -1));
    return 0;
}

static void
fail(job *j, const char *message)
{
    j->failed = 1;
    mpe_buf_reset(&j->out, 0);
    mpe_buf_append(&j->out, message, strlen(message));
}

static void
work(void *ud)
{
    job *j = ud;
    if (atomic_load(&j->abandoned))
        return;
    atomic_fetch_add(&running, 1);
    lua_State *L = luaL_newstate();
    if (L) {
        lua_pushcfunction(L, run_call);
        lua_pushlightuserdata(L, j);
        if (lua_pcall(L, 1, 0, 0) != LUA_OK)
            fail(j, luaL_tolstring(L, -1, NULL));
        lua_close(L);
    } else {
        fail(j, "offload: not enough memory for a state");
    }
    atomic_fetch_sub(&running, 1);
}

/* ---- on the loop, and in the task ---- */

static void
on_end(mpe_engine *e, void *ud, int status)
{
    job *j = ud;
    mpe_trace_add(e, MPE_TRACE_OFFLOAD_END, j->task, 0, 0);
    if (atomic_load(&j->abandoned)) {
        free_job(j);
        return;
    }
    if (status != MPE_OK)
        fail(j, "offload: cancelled");
    j->done = 1;
    mpe_waitlist_wake(e, &j->waiters, UINT32_MAX);
}

static int
attempt_offload(lmpe *S, lmpe_await *a)
{
    job *j = (job *)(uintptr_t)a->scratch[0];
    (void)S;
    a->source = LMPE_LIST;
    a->on.list = &j->waiters;
    return j->done ? MPE_OK : MPE_EAGAIN;
}

/* Frees the job when its result has become Lua values, or an error. */
static int
push_result(lua_State *L)
{
    job *j = lua_touserdata(L, 1);
    lua_settop(L, 0);
    if (j->failed) {
        lua_pushboolean(L, 0);
        lua_pushlstring(L, (const char *)j->out.data, j->out.len);
        return 2;
    }
    int n;
    if (lmpe_decode(L, j->out.data, j->out.len, &n, LMPE_DECODE_FUNCTIONS) < 0)
        return lua_error(L);
    return n;
}

static int
finish_offload(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    job *j = (job *)(uintptr_t)a->scratch[0];
    (void)S, (void)status;
    if (!j->done) {
        atomic_store(&j->abandoned, 1);
        return 0;
    }
    lua_settop(L, 0);
    lua_pushcfunction(L, push_result);
    lua_pushlightuserdata(L, j);
    int rc = lua_pcall(L, 1, LUA_MULTRET, 0);
    free_job(j);
    return rc == LUA_OK ? lua_gettop(L) : lua_error(L);
}

/* A program that ends does not wait for its threads, as libuv would. */
static void
at_exit(int status, void *arg)
{
    (void)arg;
    if (atomic_load(&running) == 0)
        return;
    fflush(NULL);
    _exit(status);
}

/* offload(path, cpath, f, ...) -> true, results | false, error, traceback */
static int
offload(lua_State *L)
{
    static int registered;
    lmpe *S = lmpe_self(L);
    const char *path = luaL_checkstring(L, 1), *cpath = luaL_checkstring(L, 2);
    lmpe_await_check(L, S);
    if (lmpe_encode_whole(L, S, 3, lua_gettop(L) - 2, "offload"))
        return lmpe_script_error(L, S, "offload: a shared object cannot be passed to a thread");
    job *j = calloc(1, sizeof *j);
    if (!j)
        return luaL_error(L, "offload: out of memory");
    mpe_buf_init(&j->in);
    mpe_buf_init(&j->out);
    j->open_core = S->open_core;
    j->task = (uint32_t)lmpe_task_number(S->current);
    j->path = strdup(path);
    j->cpath = strdup(cpath);
    int rc = j->path && j->cpath ? mpe_buf_append(&j->in, S->scratch->data, S->scratch->len)
                                 : MPE_ENOMEM;
    if (rc == MPE_OK)
        rc = mpe_offload(S->e, work, on_end, j);
    if (rc != MPE_OK) {
        int saved = errno;
        free_job(j);
        return rc == MPE_ESYS
                   ? luaL_error(L, "offload: cannot start a thread: %s", lmpe_start_reason(saved))
                   : luaL_error(L, "offload: out of memory");
    }
    mpe_trace_add(S->e, MPE_TRACE_OFFLOAD, j->task, 0, 0);
    if (!S->is_host && !registered) /* a host may have functions to be run at its exit */
        registered = on_exit(at_exit, NULL) == 0;
    lmpe_await *a = lmpe_await_new(S, MPE_FOREVER, NULL);
    a->scratch[0] = (uintptr_t)j;
    a->attempt = attempt_offload;
    a->finish = finish_offload;
    a->cleans_up = a->acted = 1;
    return lmpe_await_run(L, S, a);
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"offload", offload}, {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
}

const lmpe_module lmpe_offload_module = {.open = on_open};
