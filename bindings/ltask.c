/* SPDX-License-Identifier: MIT
 *
 * ltask.c - tasks: a userdata and a coroutine each. The body runs under pcall inside the coroutine,
 * so that close handlers of an unwinding task may wait. While a task has not ended, it stands in
 * the table of anchors, and its user value is its coroutine; afterwards it is its result. The
 * coroutine is used again when it ended well and the script has not seen it.
 */
#include "lmpe.h"

#include <stdlib.h>
#include <string.h>

#define TASK "mpengine.Task"
#define IDLE_THREADS_MAX 1024

/* Keys of tables in the registry. */
static const char anchors_key; /* place -> task; a free place has the number of the next */
static const char idle_key;    /* list of coroutines for reuse */
static const char extras_key;  /* task -> what the Lua side keeps with it; weak keys */

/* ---- the userdata ---- */

lmpe_task *
lmpe_test_task(lua_State *L, int idx)
{
    return luaL_testudata(L, idx, TASK);
}

lmpe_task *
lmpe_check_task(lua_State *L, int idx)
{
    return luaL_checkudata(L, idx, TASK);
}

static void
push_anchors(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &anchors_key);
}

/* Keeps the task on top of the stack alive until drop_anchor. */
static void
anchor(lua_State *L, lmpe *S, lmpe_task *t)
{
    push_anchors(L);
    uint32_t place = S->anchor_free;
    if (place) {
        lua_rawgeti(L, -1, place);
        S->anchor_free = (uint32_t)lua_tointeger(L, -1);
        lua_pop(L, 1);
    } else {
        place = ++S->anchor_top;
    }
    t->anchor = place;
    lua_pushvalue(L, -2);
    lua_rawseti(L, -2, place);
    lua_pop(L, 1);
}

static void
drop_anchor(lua_State *L, lmpe *S, lmpe_task *t)
{
    push_anchors(L);
    lua_pushinteger(L, S->anchor_free);
    lua_rawseti(L, -2, t->anchor);
    S->anchor_free = t->anchor;
    t->anchor = 0;
    lua_pop(L, 1);
}

void
lmpe_push_task(lua_State *L, lmpe_task *t)
{
    push_anchors(L);
    lua_rawgeti(L, -1, t->anchor);
    lua_remove(L, -2);
}

static void
push_extra(lua_State *L, int task)
{
    task = lua_absindex(L, task);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &extras_key);
    lua_pushvalue(L, task);
    lua_rawget(L, -2);
    lua_remove(L, -2);
}

/* Takes the value from the top. */
static void
set_extra(lua_State *L, int task)
{
    task = lua_absindex(L, task);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &extras_key);
    lua_pushvalue(L, task);
    lua_pushvalue(L, -3);
    lua_rawset(L, -3);
    lua_pop(L, 2);
}

void
lmpe_push_kill(lua_State *L, int idx)
{
    push_extra(L, idx);
    if (lua_istable(L, -1)) {
        lua_getfield(L, -1, "kill");
        lua_remove(L, -2);
    }
}

lmpe *
lmpe_of(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, "mpengine.state");
    lmpe *S = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return S;
}

lua_State *
lmpe_running(lmpe *S)
{
    if (S->links)
        return S->links->inner;
    return S->current->co ? S->current->co : S->driver;
}

lmpe_rare *
lmpe_rare_of(lmpe_task *t)
{
    lmpe *S = t->S;
    if (t->rare)
        return t->rare;
    lmpe_rare *r = S->spare_rare;
    if (r)
        S->spare_rare = r->next;
    else if (!(r = malloc(sizeof *r)))
        luaL_error(lmpe_running(S), "out of memory");
    memset(r, 0, sizeof *r);
    t->rare = r;
    return r;
}

static void
free_rare(lmpe *S, lmpe_task *t)
{
    if (!t->rare)
        return;
    t->rare->next = S->spare_rare;
    S->spare_rare = t->rare;
    t->rare = NULL;
}

/* ---- coroutines ---- */

/* Pushes a coroutine that is ready for a function. */
static lua_State *
take_thread(lua_State *L, lmpe *S)
{
    if (S->idle_threads == 0)
        return lua_newthread(L);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &idle_key);
    lua_rawgeti(L, -1, S->idle_threads);
    lua_pushnil(L);
    lua_rawseti(L, -3, S->idle_threads--);
    lua_remove(L, -2);
    return lua_tothread(L, -1);
}

/* The coroutine of an ended task is on top of the stack: keeps or forgets it. */
static void
give_thread(lua_State *L, lmpe *S, lmpe_task *t, lua_State *co)
{
    int reusable = lua_status(co) == LUA_OK && !t->leaked && S->idle_threads < IDLE_THREADS_MAX;
    if (t->hooked)
        lmpe_unhook(t, co);
    if (reusable) {
        lua_settop(co, 0);
        lua_rawgetp(L, LUA_REGISTRYINDEX, &idle_key);
        lua_pushvalue(L, -2);
        lua_rawseti(L, -2, ++S->idle_threads);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

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

/* Links, the scope it belongs to, an error that nobody hears: the Lua side's business. */
static void
tell_end(lua_State *L, lmpe_task *t, int unheard)
{
    push_extra(L, -1);
    int has_extra = lua_istable(L, -1);
    lua_pop(L, 1);
    if (!has_extra && !unheard)
        return;
    int top = lua_gettop(L);
    lua_getfield(L, LUA_REGISTRYINDEX, "mpengine.task_ended");
    if (lua_isfunction(L, -1)) {
        lua_pushvalue(L, -2);
        lua_pushboolean(L, unheard);
        if (lua_pcall(L, 2, 0, 0) != LUA_OK)
            lua_warning(L, lua_tostring(L, -1) ? lua_tostring(L, -1) : "task_ended", 0);
    }
    (void)t;
    lua_settop(L, top);
}

/* The error of a task that nobody hears is reported with its traceback. */
static void
save_traceback(lua_State *L, int unheard)
{
    push_extra(L, -1);
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
        set_extra(L, -2);
    }
}

static void
task_ended(lmpe_task *t, lua_State *L, int nresults)
{
    lmpe *S = t->S;
    lua_State *co = t->co;
    int heard = t->joiners.head != NULL || t->awaited > 0;
    lmpe_push_task(L, t);
    lua_getiuservalue(L, -1, 1); /* the coroutine */
    lua_insert(L, -2);
    if (t->killed && t->outcome == 0)
        t->outcome = -1;
    keep_results(L, t, co, nresults);
    t->co = NULL;
    t->state = LMPE_DONE;
    S->live_tasks--;
    drop_anchor(L, S, t);
    t->anchor = ++S->ended_tasks;
    lmpe_forget_scopes(L, t);
    free_rare(S, t);
    mpe_waitlist_wake(S->e, &t->joiners, UINT32_MAX);
    if (t->outcome == 0)
        save_traceback(L, !heard);
    tell_end(L, t, t->outcome == 0 && !heard);
    lua_pop(L, 1);
    give_thread(L, S, t, co);
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

static void
run_job(mpe_engine *e, mpe_job *job)
{
    lmpe_task *t = (lmpe_task *)job; /* its first member */
    lmpe *S = t->S;
    lua_State *L = S->driver, *co = t->co;
    lmpe_task *previous = S->current;
    lmpe_link *links = S->links;
    int resetting = S->resetting, nresults, is_new = lua_status(co) == LUA_OK;
    (void)e;
    if (is_new && t->killed) {
        end_unstarted(t, L);
        return;
    }
    S->current = t;
    S->links = NULL;
    S->resetting = S->yielded = 0;
    S->switches++;
    t->state = LMPE_RUNNING;
    int status = lua_resume(co, L, is_new ? lua_gettop(co) - 1 : 0, &nresults);
    S->links = links;
    S->resetting = resetting;
    S->current = previous;
    if (status == LUA_YIELD && S->yielded) {
        S->yielded = 0;
        return;
    }
    if (status != LUA_OK) { /* an error outside the body's pcall: out of memory, C stack */
        t->outcome = 0;
        nresults = 1;
    }
    task_ended(t, L, nresults);
}

/* See mpengine/co/ending.lua. */
static void
arm_ending(lua_State *L, lmpe *S)
{
    S->armed_boxes = S->boxes;
    lua_getfield(L, LUA_REGISTRYINDEX, "mpengine.arm");
    if (lua_isfunction(L, -1))
        lua_call(L, 0, 0);
    else
        lua_pop(L, 1);
}

static int
spawn_task(lua_State *L, int background)
{
    lmpe *S = lmpe_self(L);
    if (S->armed_boxes != S->boxes)
        arm_ending(L, S);
    luaL_checktype(L, 1, LUA_TFUNCTION);
    int n = lua_gettop(L);
    lmpe_task *t = lua_newuserdatauv(L, sizeof *t, 1);
    memset(t, 0, sizeof *t);
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_setmetatable(L, -2);
    lua_State *co = take_thread(L, S);
    if (!lua_checkstack(co, n + 2))
        return luaL_error(L, "spawn: too many arguments");
    lua_setiuservalue(L, -2, 1);
    t->S = S;
    t->id = ++S->next_task_id & 0x7fffffff;
    t->co = co;
    t->background = (uint8_t)background;
    t->site = lmpe_site_here(L, S);
    anchor(L, S, t);
    lua_insert(L, 1); /* the task, f and its arguments */
    lua_pushcfunction(co, task_body);
    lua_pushvalue(L, 1);
    lua_xmove(L, co, 1);
    lua_xmove(L, co, n);
    S->live_tasks++;
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

/* ---- methods, as functions of the core module ---- */

static int
finish_join(lua_State *L, lmpe *S, int status)
{
    (void)S;
    if (status != MPE_OK) {
        luaL_pushfail(L);
        lua_pushliteral(L, "timeout");
        return 2;
    }
    lua_pushboolean(L, 1);
    return 1;
}

static int
wait_for_end(lua_State *L, lmpe_finish_fn finish)
{
    lmpe *S = lmpe_self(L);
    lmpe_task *t = lmpe_check_task(L, 1);
    uint64_t deadline = lmpe_check_deadline(L, 2);
    if (t == S->current)
        return luaL_error(L, "join: a task cannot wait for itself");
    if (t->state != LMPE_DONE)
        return lmpe_wait(L, S, &t->joiners, deadline, finish);
    lmpe_await_check(L, S);
    return finish(L, S, MPE_OK);
}

/* join(task [, timeout]) -> true | nil, "timeout" */
static int
join(lua_State *L)
{
    return wait_for_end(L, finish_join);
}

static int
push_results(lua_State *L, lmpe_task *t)
{
    lua_getiuservalue(L, 1, 1);
    if (t->nresults == 0)
        return 0;
    if (t->nresults == 1)
        return 1;
    int list = lua_gettop(L);
    luaL_checkstack(L, t->nresults, "too many results");
    for (int i = 1; i <= t->nresults; i++)
        lua_rawgeti(L, list, i);
    return t->nresults;
}

static int
finish_get(lua_State *L, lmpe *S, int status)
{
    lmpe_task *t = lua_touserdata(L, 1);
    if (status != MPE_OK)
        return finish_join(L, S, status);
    if (t->outcome < 0) {
        luaL_pushfail(L);
        lua_pushliteral(L, "killed");
        return 2;
    }
    int n = push_results(L, t);
    return t->outcome > 0 ? n : lua_error(L);
}

/* get(task [, timeout]) -> its results | nil, "killed" | nil, "timeout"; raises its error */
static int
get(lua_State *L)
{
    return wait_for_end(L, finish_get);
}

/* kill(task, error object): does not wait. */
static int
kill_task(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lmpe_task *t = lmpe_check_task(L, 1);
    luaL_checkany(L, 2);
    lua_settop(L, 2);
    if (t->state == LMPE_DONE || t->killed)
        return 0;
    push_extra(L, 1);
    if (!lua_istable(L, -1)) {
        lua_pop(L, 1);
        lua_createtable(L, 0, 1);
        lua_pushvalue(L, -1);
        set_extra(L, 1);
    }
    lua_pushvalue(L, 2);
    lua_setfield(L, -2, "kill");
    t->killed = 1;
    lmpe_interrupt_wait(L, S, t);
    return 0;
}

/* state(task) -> "new" | ..., outcome: true returned, false raised, nil killed */
static int
task_state(lua_State *L)
{
    static const char *const names[] = {"new", "ready", "running", "waiting", "done"};
    lmpe_task *t = lmpe_check_task(L, 1);
    lua_pushstring(L, names[t->state]);
    if (t->state == LMPE_DONE && t->outcome < 0)
        lua_pushnil(L);
    else
        lua_pushboolean(L, t->state == LMPE_DONE && t->outcome > 0);
    return 2;
}

static int
is_done(lua_State *L)
{
    lua_pushboolean(L, lmpe_check_task(L, 1)->state == LMPE_DONE);
    return 1;
}

static int
task_id(lua_State *L)
{
    lua_pushinteger(L, lmpe_check_task(L, 1)->id);
    return 1;
}

/* results(task) -> all its results, or the one error value */
static int
results(lua_State *L)
{
    lmpe_task *t = lmpe_check_task(L, 1);
    return t->state == LMPE_DONE ? push_results(L, t) : 0;
}

/* awaited(task, n): so many more calls wait for it in their own way */
static int
awaited(lua_State *L)
{
    lmpe_check_task(L, 1)->awaited += (uint32_t)luaL_checkinteger(L, 2);
    return 0;
}

/* extra(task [, table]): what the Lua side keeps with a task; a string is a traceback. */
static int
extra(lua_State *L)
{
    lmpe_check_task(L, 1);
    if (lua_gettop(L) > 1) {
        lua_settop(L, 2);
        set_extra(L, 1);
        return 0;
    }
    push_extra(L, 1);
    return 1;
}

/* current() -> the running task, and its number */
static int
current(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lmpe_push_task(L, S->current);
    lua_pushinteger(L, S->current->id);
    return 2;
}

static int
main_task(lua_State *L)
{
    lmpe_push_task(L, lmpe_self(L)->main_task);
    return 1;
}

/* tasks() -> list of the program's tasks that have not ended */
static int
tasks(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lua_Integer n = 0;
    lua_newtable(L);
    push_anchors(L);
    for (uint32_t i = 1; i <= S->anchor_top; i++) {
        lua_rawgeti(L, -1, i);
        lmpe_task *t = lua_touserdata(L, -1);
        if (t && !t->background)
            lua_rawseti(L, -3, ++n);
        else
            lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return 1;
}

/* spawn_place(task) -> lines | nil */
static int
spawn_place(lua_State *L)
{
    lmpe_task *t = lmpe_check_task(L, 1);
    return lmpe_push_site(L, t->S, t->site);
}

lua_State *
lmpe_innermost(lua_State *L, lua_State *co)
{
    lua_State *inner;
    while ((inner = lmpe_resumed_by(L, co)) != NULL)
        co = inner;
    return co;
}

/* waiting_thread(task) -> the coroutine in which it waits */
static int
waiting_thread(lua_State *L)
{
    lmpe_task *t = lmpe_check_task(L, 1);
    lmpe *S = t->S;
    lua_State *co = t->co ? lmpe_innermost(L, t->co) : S->main;
    lua_pushthread(co);
    if (co != L)
        lua_xmove(co, L, 1);
    return 1;
}

static const char *
heavy_target(lua_State *L, lmpe_await *a)
{
    switch (a->source) {
    case LMPE_OBJECT:
        if (lmpe_push_handle(L, a->task->S, mpe_handle_of(a->task->S->e, a->on.object)) == MPE_OK)
            return luaL_tolstring(L, -1, NULL);
        return "a shared object";
    case LMPE_FD:
        return lua_pushfstring(L, "descriptor %d", a->on.fd);
    case LMPE_PROCESS:
        return lua_pushfstring(L, "the process with pid %d", mpe_process_pid(a->on.process));
    default:
        return "an answer";
    }
}

/* waits_for(task) -> what it waits for, in words | nil */
static int
waits_for(lua_State *L)
{
    lmpe_task *t = lmpe_check_task(L, 1);
    if (t->state != LMPE_WAITING)
        return 0;
    if (t->heavy)
        lua_pushstring(L, heavy_target(L, &t->rare->await));
    else
        lua_pushstring(L, t->w.list ? "another task" : "the end of its sleep");
    return 1;
}

static int
finish_nothing(lua_State *L, lmpe *S, int status)
{
    (void)L, (void)S, (void)status;
    return 0;
}

/* sleep(seconds) */
static int
sleep_for(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lua_Number seconds = luaL_checknumber(L, 1);
    luaL_argcheck(L, seconds >= 0, 1, "seconds must be a number, 0 or more");
    uint64_t deadline = lmpe_deadline_in(seconds);
    if (deadline == MPE_NOW)
        return lmpe_give_way(L, S, finish_nothing);
    return lmpe_wait(L, S, NULL, deadline, finish_nothing);
}

/* ---- all of several ---- */

struct joined {
    uint32_t count, left; /* those from left on have ended */
    lmpe_task *tasks[];   /* kept alive by a copy of the list */
};

/* Waits for the last one that has not ended: by then most have. */
static int
attempt_joinall(lmpe *S, lmpe_await *a)
{
    struct joined *j = (struct joined *)(uintptr_t)a->scratch[0];
    (void)S;
    while (j->left > 0 && j->tasks[j->left - 1]->state == LMPE_DONE)
        j->left--;
    if (j->left == 0)
        return MPE_OK;
    a->source = LMPE_LIST;
    a->on.list = &j->tasks[j->left - 1]->joiners;
    return MPE_EAGAIN;
}

static int
by_end(const void *a, const void *b)
{
    const lmpe_task *x = *(lmpe_task *const *)a, *y = *(lmpe_task *const *)b;
    int32_t d = (int32_t)(x->anchor - y->anchor); /* numbers may have gone round */
    return d < 0 ? -1 : d > 0;
}

/* The tasks that have ended since, in that order, go to the end of the list at index 3; 4 has the
 * tasks by their addresses. */
static int
finish_joinall(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    struct joined *j = (struct joined *)(uintptr_t)a->scratch[0];
    uint32_t n = 0;
    (void)S, (void)status;
    for (uint32_t i = 0; i < j->count; i++) {
        j->tasks[i]->awaited--;
        if (j->tasks[i]->state == LMPE_DONE)
            j->tasks[n++] = j->tasks[i];
    }
    qsort(j->tasks, n, sizeof j->tasks[0], by_end);
    lua_Integer at = (lua_Integer)lua_rawlen(L, 3);
    for (uint32_t i = 0; i < n; i++) {
        lua_rawgetp(L, 4, j->tasks[i]);
        lua_rawseti(L, 3, ++at);
    }
    lua_settop(L, 3);
    return 1;
}

/* Fills index 3 with those that have ended, 4 and j with the others. */
static void
sort_out(lua_State *L, lua_Integer n, struct joined *j)
{
    lua_Integer ended = 0;
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, 1, i);
        lmpe_task *t = lmpe_test_task(L, -1);
        if (!t)
            luaL_error(L, "joinall: element %d is not a task (a %s)", (int)i, luaL_typename(L, -1));
        if (t->state == LMPE_DONE) {
            lua_rawseti(L, 3, ++ended);
        } else {
            j->tasks[j->count++] = t;
            lua_rawsetp(L, 4, t);
        }
    }
}

/* joinall(tasks [, timeout]) -> those that have ended, in the order of their ends */
static int
joinall(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    uint64_t deadline = lmpe_check_deadline(L, 2);
    lua_Integer n = (lua_Integer)lua_rawlen(L, 1);
    lmpe_await_check(L, S);
    lua_settop(L, 2);
    lua_newtable(L);
    lua_newtable(L);
    struct joined *j = lua_newuserdatauv(L, sizeof *j + (size_t)n * sizeof j->tasks[0], 0);
    j->count = 0;
    sort_out(L, n, j);
    if (j->count == 0) {
        lua_settop(L, 3);
        return 1;
    }
    for (uint32_t i = 0; i < j->count; i++) {
        if (j->tasks[i] == S->current)
            return luaL_error(L, "joinall: a task cannot wait for itself");
        j->tasks[i]->awaited++;
    }
    j->left = j->count;
    lmpe_await *a = lmpe_await_new(S, deadline, "timeout");
    a->scratch[0] = (uintptr_t)j;
    a->attempt = attempt_joinall;
    a->finish = finish_joinall;
    a->cleans_up = 1;
    return lmpe_await_run(L, S, a);
}

/* ---- opening ---- */

/* The task of the main chunk: it has no coroutine. */
static void
new_main_task(lua_State *L, lmpe *S)
{
    lmpe_task *t = lua_newuserdatauv(L, sizeof *t, 1);
    memset(t, 0, sizeof *t);
    luaL_setmetatable(L, TASK);
    t->S = S;
    t->id = ++S->next_task_id;
    t->state = LMPE_RUNNING;
    anchor(L, S, t);
    lua_pop(L, 1);
    S->main_task = S->current = t;
}

/* In a child: the parent's tasks never run here. */
void
lmpe_sched_forked(lua_State *L, lmpe *S)
{
    push_anchors(L);
    for (uint32_t i = 1; i <= S->anchor_top; i++) {
        lua_rawgeti(L, -1, i);
        lmpe_task *t = lua_touserdata(L, -1);
        if (t) {
            t->state = LMPE_DONE;
            t->outcome = -1;
            t->killed = 1;
            t->rare = NULL;
            t->joiners = (mpe_waitlist){NULL, NULL};
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &anchors_key);
    S->anchor_free = S->anchor_top = 0;
    S->live_tasks = 0;
    S->links = NULL;
    S->drive_depth = 0;
    lmpe_cancel_forked(S);
    new_main_task(L, S);
}

void
lmpe_tasks_close(lua_State *L, lmpe *S)
{
    push_anchors(L);
    for (uint32_t i = 1; i <= S->anchor_top; i++) {
        lua_rawgeti(L, -1, i);
        lmpe_task *t = lua_touserdata(L, -1);
        lua_pop(L, 1);
        if (!t)
            continue;
        if (t->state == LMPE_WAITING && S->e)
            lmpe_unfile(S, t);
        if (t->state != LMPE_RUNNING || t == S->main_task)
            free_rare(S, t);
    }
    lua_pop(L, 1);
    for (lmpe_rare *r; (r = S->spare_rare) != NULL; free(r))
        S->spare_rare = r->next;
}

static void
new_table(lua_State *L, const void *key, const char *mode)
{
    lua_newtable(L);
    if (mode) {
        lua_createtable(L, 0, 1);
        lua_pushstring(L, mode);
        lua_setfield(L, -2, "__mode");
        lua_setmetatable(L, -2);
    }
    lua_rawsetp(L, LUA_REGISTRYINDEX, key);
}

/* The metatable of tasks as a second upvalue saves spawn a look-up. Table and metatable on top. */
static void
set_spawn(lua_State *L, lmpe *S, const char *name, lua_CFunction f)
{
    lua_pushlightuserdata(L, S);
    lua_pushvalue(L, -2);
    lua_pushcclosure(L, f, 2);
    lua_setfield(L, -3, name);
}

void
lmpe_open_sched(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {
        {"join", join},           {"get", get},
        {"kill", kill_task},      {"task_state", task_state},
        {"is_done", is_done},     {"task_id", task_id},
        {"results", results},     {"awaited", awaited},
        {"extra", extra},         {"current", current},
        {"main_task", main_task}, {"tasks", tasks},
        {"sleep", sleep_for},     {"spawn_place", spawn_place},
        {"waits_for", waits_for}, {"waiting_thread", waiting_thread},
        {"joinall", joinall},     {NULL, NULL},
    };
    new_table(L, &anchors_key, NULL);
    new_table(L, &idle_key, NULL);
    new_table(L, &extras_key, "k");
    lmpe_setfuncs(L, S, functions);
    luaL_newmetatable(L, TASK);
    set_spawn(L, S, "spawn_task", spawn);
    set_spawn(L, S, "spawn", spawn_background);
    lua_setfield(L, -2, "Task");
    new_main_task(L, S);
    lmpe_open_site(L, S);
    lmpe_open_cancel(L, S);
}
