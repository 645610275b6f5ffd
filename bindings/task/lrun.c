/* SPDX-License-Identifier: MIT
 *
 * lrun.c - spawning tasks, running them, and their ends. The body runs under pcall inside
 * the coroutine, so that close handlers of an unwinding task may wait.
 */
#include "base/lmodules.h"
#include "base/lsite.h"
#include "task/lturn.h"
#include "task/lcancel.h"

#include <string.h>

/* ---- running ---- */

static int
body_k(lua_State *L, int status, lua_KContext ctx)
{
    lmpe_task *t = (lmpe_task *)ctx;
    t->outcome = status == LUA_OK || status == LUA_YIELD;
    return lua_gettop(L) - 1;
}

/* The coroutine's function: task, f and its arguments are on the stack. */
static int
task_body(lua_State *L)
{
    lmpe_task *t = lua_touserdata(L, 1);
    lua_pushcfunction(L, lmpe_note_traceback);
    lua_replace(L, 1);
    int status = lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 1, (lua_KContext)t, body_k);
    return body_k(L, status, (lua_KContext)t);
}

/* Keeps the n results on co as the user value of the task on top of L: one value as it is, more of
 * them in a table. */
static void
keep_results(lua_State *L, lmpe_task *t, lua_State *co, int n)
{
    t->nresults = n;
    if (n == 0) {
        lua_pushnil(L);
    } else if (n == 1) {
        lua_xmove(co, L, 1);
    } else {
        lua_createtable(L, n, 0);
        for (int i = n; i >= 1; i--) {
            lua_xmove(co, L, 1);
            lua_rawseti(L, -2, i);
        }
    }
    lua_setiuservalue(L, -2, 1);
}

/* Pushes the Lua side's handler; a program that has only the library's tasks has not loaded it
 * yet. */
static int
push_listener(lua_State *L)
{
    if (lmpe_push_hook(L, "task_ended"))
        return 1;
    lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_getfield(L, -1, LUA_GNAME);
    if (lua_istable(L, -1) && lua_getfield(L, -1, "require") == LUA_TFUNCTION) {
        lua_pushliteral(L, "mpengine.co.tasks");
        lua_pcall(L, 1, 0, 0);
    }
    return lmpe_push_hook(L, "task_ended");
}

/* The Lua side handles links, the scope of the task, and an error that no waiting get will
 * raise. */
static void
tell_end(lua_State *L, lmpe *S, int unheard)
{
    lmpe_push_extra(L, -1);
    int has_extra = lua_istable(L, -1);
    lua_pop(L, 1);
    if (!has_extra && !unheard)
        return;
    int top = lua_gettop(L);
    if (push_listener(L)) {
        lua_pushvalue(L, top);
        lua_pushboolean(L, unheard);
        if (lua_pcall(L, 2, 0, 0) != LUA_OK && lua_isstring(L, -1))
            lmpe_report(L, S, MPE_LOG_ERROR);
    }
    lua_settop(L, top);
}

/* An error that no waiting get will raise is reported with its traceback. */
static void
save_traceback(lua_State *L, int unheard)
{
    lmpe_push_extra(L, -1);
    if (!lua_istable(L, -1) && !unheard) {
        lua_pop(L, 1);
        return;
    }
    lua_getiuservalue(L, -2, 1);
    lmpe_push_traceback(L, -1);
    lua_replace(L, -2);
    if (lua_istable(L, -2)) {
        lua_setfield(L, -2, "traceback");
        lua_pop(L, 1);
    } else {
        lua_replace(L, -2);
        lmpe_set_extra(L, -2);
    }
}

/* True if the task ended with its own kill error (on top of co); any other error is a failure. */
static int
ended_by_kill(lua_State *L, lmpe_task *t, lua_State *co)
{
    lmpe_push_task(L, t);
    lmpe_push_kill(L, -1);
    lua_pushvalue(co, -1);
    lua_xmove(co, L, 1);
    int same = lua_rawequal(L, -1, -2);
    lua_pop(L, 3);
    return same;
}

static void
task_ended(lmpe_task *t, lua_State *L, int nresults)
{
    lmpe *S = t->S;
    lua_State *co = t->co;
    lmpe_push_task(L, t);
    lua_getiuservalue(L, -1, 1); /* the coroutine */
    lua_insert(L, -2);
    if (t->killed && t->outcome == 0 && ended_by_kill(L, t, co))
        t->outcome = -1;
    int unheard = t->outcome == 0 && !t->of_host && !lmpe_is_heard(&t->joiners);
    keep_results(L, t, co, nresults);
    t->co = NULL;
    t->state = LMPE_DONE;
    if (lmpe_is_traced(S))
        lmpe_trace_task(t, MPE_TRACE_END, 0, t->outcome == 1);
    S->live_tasks--;
    *S->shown_tasks -= !t->background;
    lmpe_drop_anchor(L, S, t);
    t->anchor = ++S->ended_tasks;
    lmpe_forget_scopes(L, t);
    lmpe_free_wait(S, t);
    if (t->of_luv)
        S->callbacks->ended(S);
    mpe_waitlist_wake(S->e, &t->joiners, UINT32_MAX);
    if (t->outcome == 0)
        save_traceback(L, unheard || t->of_host);
    tell_end(L, S, unheard);
    if (t->recorded)
        lmpe_host_task_ended(L, t);
    lua_pop(L, 1);
    lmpe_give_thread(L, S, t, co);
}

static void run_job(mpe_engine *e, mpe_job *job);

void
lmpe_make_ready(lmpe_task *t)
{
    if (t->state == LMPE_READY) /* woken twice: on the run queue already */
        return;
    t->state = LMPE_READY;
    t->job = (mpe_job){.run = run_job};
    mpe_post(t->S->e, &t->job);
}

/* A task that was killed before it ever ran: its result is the error. */
static void
end_unstarted(lmpe_task *t, lua_State *L)
{
    lmpe_push_task(L, t);
    lmpe_push_kill(L, -1);
    lua_settop(t->co, 0);
    lua_xmove(L, t->co, 1);
    lua_pop(L, 1);
    t->outcome = 0;
    task_ended(t, L, 1);
}

/* Runs it until it waits or ends. */
static void
run(lmpe_task *t)
{
    lmpe *S = t->S;
    lua_State *L = S->driver, *co = t->co;
    lmpe_task *previous = S->current;
    lmpe_link *links = S->links;
    int resetting = S->resetting, nresults, is_new = lua_status(co) == LUA_OK;
    if (is_new && t->killed) {
        end_unstarted(t, L);
        return;
    }
    S->current = t;
    S->links = NULL;
    S->resetting = S->yielded = 0;
    S->switches++;
    lmpe_new_turn(S);
    t->state = LMPE_RUNNING;
    if (lmpe_is_looked_at(S) || S->answers)
        lmpe_hook(S, LMPE_TICK_INSTRUCTIONS);
    if (lmpe_is_traced(S))
        lmpe_trace_run(t);
    int status = lua_resume(co, L, is_new ? lua_gettop(co) - 1 : 0, &nresults);
    S->links = links;
    S->resetting = resetting;
    S->current = previous;
    if (status == LUA_YIELD && S->yielded) {
        S->yielded = 0;
        if (t->state == LMPE_READY && lmpe_is_traced(S))
            lmpe_trace_task(t, MPE_TRACE_PAUSE, 0, 0);
        return;
    }
    if (status == LUA_YIELD) /* by the original function of coroutine.yield */
        lua_pushliteral(co, LMPE_BARE_YIELD);
    if (status != LUA_OK) { /* an error outside the body's pcall: out of memory, C stack */
        t->outcome = 0;
        nresults = 1;
    }
    task_ended(t, L, nresults);
}

static void
run_job(mpe_engine *e, mpe_job *job)
{
    (void)e;
    run((lmpe_task *)job); /* its first member */
}

static void
renew_sentinel(lua_State *L, lmpe *S)
{
    S->armed_boxes = S->boxes;
    if (lmpe_push_hook(L, "renew_sentinel"))
        lua_call(L, 0, 0);
    else
        lua_pop(L, 1);
}

/* Pushes a new task; the stack is f and its arguments. */
static lmpe_task *
new_task(lua_State *L, int background)
{
    lmpe *S = lmpe_self(L);
    if (S->armed_boxes != S->boxes)
        renew_sentinel(L, S);
    int n = lua_gettop(L);
    lmpe_task *t = lua_newuserdatauv(L, sizeof *t, 1);
    memset(t, 0, sizeof *t);
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_setmetatable(L, -2);
    lua_State *co = lmpe_take_thread(L, S);
    if (!lua_checkstack(co, n + 2))
        luaL_error(L, "spawn: too many arguments");
    lua_setiuservalue(L, -2, 1);
    t->S = S;
    t->id = mpe_owner_new(S->e);
    t->co = co;
    t->background = (uint8_t)background;
    lmpe_anchor(L, S, t);
    lua_insert(L, 1); /* the task, f and its arguments */
    lua_pushcfunction(co, task_body);
    lua_pushvalue(L, 1);
    lua_xmove(L, co, 1);
    lua_xmove(L, co, n);
    S->live_tasks++;
    *S->shown_tasks += !background;
    return t;
}

static int
spawn_task(lua_State *L, int background)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    uint32_t site = lmpe_site_here(L, lmpe_self(L));
    lmpe_task *t = new_task(L, background);
    t->site = site;
    if (lmpe_is_traced(t->S))
        lmpe_trace_spawn(L, t);
    lmpe_make_ready(t);
    t->state = LMPE_NEW;
    return 1;
}

/* spawn(f, ...) -> task */
static int
spawn(lua_State *L)
{
    return spawn_task(L, 0);
}

/* The same for tasks of the library: the program neither waits for them nor kills them. */
static int
spawn_background(lua_State *L)
{
    return spawn_task(L, 1);
}

/* run_now(f, ...): a task of the library that runs at once, inside the running one, until it
 * waits for the first time */
static int
run_now(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lua_State *driver = S->driver;
    luaL_checktype(L, 1, LUA_TFUNCTION);
    uint32_t site = lmpe_site_here(L, S);
    lmpe_task *t = new_task(L, 1);
    t->site = site;
    if (lmpe_is_traced(S))
        lmpe_trace_spawn(L, t);
    S->driver = L;
    run(t);
    S->driver = driver;
    return 0;
}

static const char run_callback_key; /* in the registry */

/* A function, or a callable object, and its arguments, in a task that runs at once, up to its
 * first wait. */
static int
run_callback(lua_State *L)
{
    lmpe_task *t = new_task(L, 0);
    t->of_luv = 1;
    t->S->callbacks->begun(t->S);
    t->job = (mpe_job){.run = run_job};
    mpe_run_now(t->S->e, &t->job);
    return 0;
}

void
lmpe_push_run_callback(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &run_callback_key);
}

/* ---- opening ---- */

/* The metatable of tasks as a second upvalue saves spawn a look-up. */
static void
set_spawn(lua_State *L, lmpe *S, const char *name, lua_CFunction f)
{
    lua_pushlightuserdata(L, S);
    lua_pushvalue(L, -2);
    lua_pushcclosure(L, f, 2);
    lua_setfield(L, -3, name);
}

void
lmpe_open_spawn(lua_State *L, lmpe *S)
{
    set_spawn(L, S, "spawn_task", spawn);
    set_spawn(L, S, "spawn", spawn_background);
    set_spawn(L, S, "run_now", run_now);
    lua_pushlightuserdata(L, S);
    lua_pushvalue(L, -2);
    lua_pushcclosure(L, run_callback, 2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &run_callback_key);
}
