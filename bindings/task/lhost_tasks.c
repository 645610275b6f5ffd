/* SPDX-License-Identifier: MIT
 *
 * lhost_tasks.c - tasks that the host spawns, and calls that it waits for. A spawned one has a
 * record, in a table by its number and by its address: the number stays harmless when the task has
 * ended. lrun.c tells its end; what is left when the state is closed is told there.
 */
#include "base/lrelease.h"
#include "base/lmodules.h"
#include "mpengine_lua.h"
#include "task/lcancel.h"

static const char records_key; /* in the registry: number -> record, and task's address -> record */

typedef struct record {
    mpe_task number;
    lmpe_task *task;
    mpe_lua_done done;
    void *ud;
} record;

/* What the protected functions are given, as their first argument. */
typedef struct request {
    mpe_lua_done done;
    void *ud;
    mpe_task number;
    const char *reason;
    uint64_t deadline;
    int rc;
} request;

static void
push_records(lua_State *L)
{
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &records_key) == LUA_TTABLE)
        return;
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &records_key);
}

/* Calls f with the request and the n values on top, which it pops: the status of the request. The
 * results stay, or the text of an error. */
static int
guarded(lua_State *L, lua_CFunction f, request *r, int n)
{
    if (!lua_checkstack(L, 8)) {
        lua_pop(L, n);
        return MPE_ENOMEM;
    }
    lua_pushcfunction(L, f);
    lua_insert(L, -(n + 1));
    lua_pushlightuserdata(L, r);
    lua_insert(L, -(n + 1));
    if (lua_pcall(L, n + 1, LUA_MULTRET, 0) == LUA_OK)
        return r->rc;
    return lmpe_of(L) ? MPE_ENOMEM : MPE_ECLOSED;
}

/* May this thread call the engine, if the library is loaded? */
static int
check_engine(lua_State *L)
{
    const lmpe *S = lmpe_of(L);
    return S ? mpe_may_call(S->e) : MPE_OK;
}

/* Replaces a function and its arguments, from index 2 on, by their task. */
static lmpe_task *
spawn_task(lua_State *L)
{
    lmpe_push_known(L, "mpengine.core");
    lua_getfield(L, -1, "spawn_task");
    lua_replace(L, 1);
    lua_pop(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    lmpe_task *t = lmpe_check_task(L, -1);
    t->of_host = 1;
    return t;
}

/* Pushes an error object of the library. */
static void
push_error(lua_State *L, const char *kind, const char *reason)
{
    lua_getglobal(L, "require");
    lua_pushliteral(L, "mpengine.errors");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "new");
    lua_createtable(L, 0, 3);
    lua_pushstring(L, kind);
    lua_setfield(L, -2, "kind");
    lua_pushstring(L, kind);
    lua_setfield(L, -2, "message");
    lua_pushstring(L, reason);
    lua_setfield(L, -2, "reason");
    lua_call(L, 1, 1);
    lua_remove(L, -2);
}

/* Pushes the results of the ended task at idx, or its error and the traceback: how many. */
static int
push_end(lua_State *L, int idx)
{
    const lmpe_task *t = lmpe_check_task(L, idx);
    int n = t->nresults;
    luaL_checkstack(L, n + 2, "too many results");
    lua_getiuservalue(L, idx, 1);
    int value = lua_gettop(L);
    for (int i = 1; n > 1 && i <= n; i++)
        lua_rawgeti(L, value, i);
    if (n != 1)
        lua_remove(L, value);
    if (t->outcome > 0)
        return n;
    lmpe_push_extra(L, idx);
    if (lua_istable(L, -1)) {
        lua_getfield(L, -1, "traceback");
        lua_remove(L, -2);
    }
    if (!lua_isstring(L, -1)) {
        lua_pop(L, 1);
        lua_pushliteral(L, "");
    }
    return 2;
}

/* ---- spawning ---- */

static int
spawn(lua_State *L)
{
    request *r = lua_touserdata(L, 1);
    lmpe *S = lmpe_load(L);
    lmpe_task *t = spawn_task(L);
    record *c = lua_newuserdatauv(L, sizeof *c, 0);
    push_records(L);
    r->number = (mpe_task)++S->host_tasks;
    *c = (record){.number = r->number, .task = t, .done = r->done, .ud = r->ud};
    lua_pushvalue(L, -2);
    lua_rawseti(L, -2, (lua_Integer)r->number);
    lua_pushvalue(L, -2);
    lua_rawsetp(L, -2, t);
    t->of_host = r->done != NULL;
    t->recorded = 1;
    return 0;
}

int
mpe_lua_spawn(lua_State *L, int n, mpe_lua_done done, void *ud, mpe_task *out)
{
    if (!L || n < 0 || lua_gettop(L) < n + 1)
        return MPE_EINVAL;
    int top = lua_gettop(L) - n - 1, rc = check_engine(L);
    request r = {.done = done, .ud = ud};
    if (rc != MPE_OK)
        return rc;
    if (!lua_isfunction(L, top + 1))
        rc = MPE_ETYPE;
    else
        rc = guarded(L, spawn, &r, n + 1);
    lua_settop(L, top);
    if (rc == MPE_OK && out)
        *out = r.number;
    return rc;
}

/* The record is the first upvalue, so that the results begin at index 1. */
static int
call_done(lua_State *L)
{
    const record *c = lua_touserdata(L, lua_upvalueindex(1));
    int status = (int)lua_tointeger(L, lua_upvalueindex(2));
    c->done(L, c->ud, status, lua_gettop(L));
    return 0;
}

/* Pops the record and, above it, the n results. */
static void
tell(lua_State *L, int status, int n)
{
    lua_pushvalue(L, -(n + 1));
    lua_pushinteger(L, status);
    lua_pushcclosure(L, call_done, 2);
    lua_insert(L, -(n + 1));
    lmpe *S = lmpe_of(L);
    int ok = lua_pcall(L, n, 0, 0) == LUA_OK;
    if (!ok && S && lua_isstring(L, -1))
        lmpe_report(L, S, MPE_LOG_ERROR);
    else if (!ok)
        lua_pop(L, 1);
    lua_pop(L, 1);
}

/* The record at -1 is in no table from now on. */
static void
forget(lua_State *L, const record *c)
{
    push_records(L);
    lua_pushnil(L);
    lua_rawseti(L, -2, (lua_Integer)c->number);
    lua_pushnil(L);
    lua_rawsetp(L, -2, c->task);
    lua_pop(L, 1);
}

void
lmpe_host_task_ended(lua_State *L, lmpe_task *t)
{
    int task = lua_gettop(L);
    push_records(L);
    lua_rawgetp(L, -1, t);
    const record *c = lua_touserdata(L, -1);
    forget(L, c);
    if (c->done) {
        int status = t->outcome > 0 ? MPE_OK : t->outcome < 0 ? MPE_ECANCELED : MPE_EINVAL;
        tell(L, status, push_end(L, task));
    }
    lua_settop(L, task);
}

/* ---- killing ---- */

static int
kill(lua_State *L)
{
    request *r = lua_touserdata(L, 1);
    lmpe *S = lmpe_load(L);
    push_records(L);
    lua_rawgeti(L, -1, (lua_Integer)r->number);
    const record *c = lua_touserdata(L, -1);
    if (!c) {
        r->rc = MPE_ESTALE;
        return 0;
    }
    lmpe_push_task(L, c->task);
    push_error(L, "killed", r->reason);
    lmpe_kill(L, S, c->task);
    return 0;
}

int
mpe_lua_kill(lua_State *L, mpe_task task, const char *reason)
{
    if (!L)
        return MPE_EINVAL;
    int top = lua_gettop(L), rc = check_engine(L);
    request r = {.number = task, .reason = reason};
    if (rc == MPE_OK)
        rc = guarded(L, kill, &r, 0);
    lua_settop(L, top);
    return rc;
}

/* ---- calling ---- */

typedef struct call_waiter {
    mpe_waiter w;
    int fired;
} call_waiter;

static void
on_end(mpe_engine *e, mpe_waiter *w, int status)
{
    (void)e, (void)status;
    ((call_waiter *)w)->fired = 1;
}

static int
any_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)status, (void)ctx;
    return lua_gettop(L);
}

/* Calls any value, as Lua does. */
static int
call_any(lua_State *L)
{
    lua_callk(L, lua_gettop(L) - 1, LUA_MULTRET, 0, any_k);
    return any_k(L, LUA_OK, 0);
}

/* Runs the task until it has ended; with MPE_NOW, until its first wait. On an error it is pushed. */
static int
run_until_end(lua_State *L, lmpe *S, lmpe_task *t, int is_now)
{
    int rc = MPE_OK;
    while (is_now && rc == MPE_OK && (t->state == LMPE_NEW || t->state == LMPE_READY))
        rc = lmpe_drive_for_host(L, S, NULL);
    if (rc == MPE_OK && is_now && t->state != LMPE_DONE) {
        push_error(L, "timeout", NULL);
        return MPE_ETIMEDOUT;
    }
    if (is_now)
        return rc;
    call_waiter c = {.w = {.fire = on_end}};
    rc = mpe_wait_list(S->e, &c.w, &t->joiners, MPE_FOREVER);
    if (rc != MPE_OK) {
        lua_pushstring(L, mpe_strerror(rc));
        return rc;
    }
    rc = lmpe_drive_for_host(L, S, &c.fired);
    mpe_wait_stop(S->e, &c.w);
    return rc;
}

/* The wait for the task at 1 is left, with the error on top: kills it. */
static int
leave(lua_State *L, lmpe *S, lmpe_task *t)
{
    if (t->state != LMPE_DONE) {
        lua_pushvalue(L, 1);
        push_error(L, "killed", "the call was left");
        lmpe_kill(L, S, t);
        lua_pop(L, 1);
        if (lmpe_drive_for_host(L, S, NULL) != MPE_OK) /* its close handlers */
            lua_pop(L, 1);
    }
    lua_pushliteral(L, "");
    return 2;
}

static int
refuse(lua_State *L)
{
    lua_pushliteral(L, "mpe_lua_call: a task cannot wait for a call of the host; use "
                       "mpe_lua_suspend, or spawn a task");
    lmpe_push_traceback_from(L, 1);
    return 2;
}

static int
call(lua_State *L)
{
    request *r = lua_touserdata(L, 1);
    lmpe *S = lmpe_load(L);
    if (lmpe_is_in_task(S)) {
        r->rc = MPE_EDEADLK;
        return refuse(L);
    }
    if (!lua_isfunction(L, 2)) {
        lua_pushcfunction(L, call_any);
        lua_insert(L, 2);
    }
    int is_now = r->deadline <= mpe_now();
    lmpe_task *t = spawn_task(L);
    if (!is_now && r->deadline != MPE_FOREVER) {
        push_error(L, "timeout", NULL);
        lua_pushvalue(L, -1);
        lmpe_bound_task(L, t, r->deadline);
    } else {
        lua_pushnil(L);
    }
    r->rc = run_until_end(L, S, t, is_now); /* 1 is the task, 2 the error of its deadline */
    if (r->rc != MPE_OK)
        return leave(L, S, t);
    int n = push_end(L, 1);
    if (t->outcome > 0)
        return n;
    r->rc = t->outcome < 0                                ? MPE_ECANCELED
            : lua_istable(L, 2) && lua_rawequal(L, 2, -2) ? MPE_ETIMEDOUT
                                                          : MPE_EINVAL;
    return n;
}

int
mpe_lua_call(lua_State *L, int n, int nresults, uint64_t deadline)
{
    if (!L || n < 0 || lua_gettop(L) < n + 1 || nresults < LUA_MULTRET)
        return MPE_EINVAL;
    int top = lua_gettop(L) - n - 1, rc = check_engine(L);
    request r = {.deadline = deadline};
    if (rc != MPE_OK)
        return rc;
    rc = guarded(L, call, &r, n + 1);
    if (rc != MPE_OK) {
        if (lua_gettop(L) == top)
            lua_pushstring(L, mpe_strerror(rc));
        if (lua_gettop(L) == top + 1)
            lua_pushliteral(L, "");
    } else if (nresults != LUA_MULTRET) {
        if (!lua_checkstack(L, nresults))
            nresults = lua_gettop(L) - top;
        lua_settop(L, top + nresults);
    }
    return rc;
}

/* ---- the state ---- */

/* Pushes the next record with a number, and takes it out: 1. */
static int
take_record(lua_State *L)
{
    push_records(L);
    lua_pushnil(L);
    if (!lua_next(L, -2)) {
        lua_pop(L, 1);
        return 0;
    }
    forget(L, lua_touserdata(L, -1));
    lua_replace(L, -3);
    lua_pop(L, 1);
    return 1;
}

static void
on_fork(lua_State *L, lmpe *S)
{
    (void)S;
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &records_key);
}

static void
on_close(lua_State *L, lmpe *S)
{
    (void)S;
    while (take_record(L)) {
        const record *c = lua_touserdata(L, -1);
        c->task->of_host = c->task->recorded = 0;
        if (c->done)
            tell(L, MPE_ECANCELED, 0);
        else
            lua_pop(L, 1);
    }
}

const lmpe_module lmpe_host_tasks_module = {.forked = on_fork, .close = on_close};
