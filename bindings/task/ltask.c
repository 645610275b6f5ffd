/* SPDX-License-Identifier: MIT
 *
 * ltask.c - tasks: a userdata and a coroutine each. A task that has not ended is in the table of
 * anchors, and its user value is its coroutine; afterwards it is its result. The coroutine is
 * reused when it ended without an error and the script has not seen it. lrun.c runs tasks,
 * ltask_methods.c has the functions for scripts, ltask_report.c the reports about them.
 */
#include "task/lcancel.h"

#include <stdlib.h>
#include <string.h>

#define TASK "mpengine.Task"
#define IDLE_THREADS_MAX 1024

/* Keys of tables in the registry. */
static const char anchors_key; /* place -> task; a free place has the number of the next */
static const char idle_key;    /* list of coroutines for reuse */
static const char extras_key;  /* task -> data that the Lua side keeps with it; weak keys */

/* ---- the userdata ---- */

lmpe_task *
lmpe_test_task(lua_State *L, int idx)
{
    return luaL_testudata(L, idx, TASK);
}

lmpe_task *
lmpe_check_task(lua_State *L, int idx)
{
    lmpe_task *t = luaL_testudata(L, idx, TASK);
    if (!t)
        luaL_typeerror(L, idx, "mp.Task");
    return t;
}

void
lmpe_push_anchors(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &anchors_key);
}

void
lmpe_anchor(lua_State *L, lmpe *S, lmpe_task *t)
{
    lmpe_push_anchors(L);
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

void
lmpe_drop_anchor(lua_State *L, lmpe *S, lmpe_task *t)
{
    lmpe_push_anchors(L);
    lua_pushinteger(L, S->anchor_free);
    lua_rawseti(L, -2, t->anchor);
    S->anchor_free = t->anchor;
    t->anchor = 0;
    lua_pop(L, 1);
}

void
lmpe_push_task(lua_State *L, lmpe_task *t)
{
    if (t == t->S->callback) {
        lua_rawgetp(L, LUA_REGISTRYINDEX, t);
        return;
    }
    lmpe_push_anchors(L);
    lua_rawgeti(L, -1, t->anchor);
    lua_remove(L, -2);
}

void
lmpe_push_extra(lua_State *L, int task)
{
    task = lua_absindex(L, task);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &extras_key);
    lua_pushvalue(L, task);
    lua_rawget(L, -2);
    lua_remove(L, -2);
}

void
lmpe_set_extra(lua_State *L, int task)
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
    lmpe_push_extra(L, idx);
    if (lua_istable(L, -1)) {
        lua_getfield(L, -1, "kill");
        lua_remove(L, -2);
    }
}

void
lmpe_set_kill(lua_State *L, int idx)
{
    idx = lua_absindex(L, idx);
    lmpe_push_extra(L, idx);
    if (!lua_istable(L, -1)) {
        lua_pop(L, 1);
        lua_createtable(L, 0, 1);
        lua_pushvalue(L, -1);
        lmpe_set_extra(L, idx);
    }
    lua_insert(L, -2);
    lua_setfield(L, -2, "kill");
    lua_pop(L, 1);
    lmpe_check_task(L, idx)->killed = 1;
}

lua_State *
lmpe_running(lmpe *S)
{
    if (S->links)
        return S->links->inner;
    return S->current->co ? S->current->co : S->driver;
}

lmpe_task_wait *
lmpe_wait_of(lmpe_task *t)
{
    lmpe *S = t->S;
    if (t->wait)
        return t->wait;
    lmpe_task_wait *r = S->spare_wait;
    if (t == S->main_task)
        r = S->main_wait;
    else if (r)
        S->spare_wait = r->next;
    else if (!(r = malloc(sizeof *r)))
        luaL_error(lmpe_running(S), "out of memory");
    memset(r, 0, sizeof *r);
    t->wait = r;
    return r;
}

void
lmpe_free_wait(lmpe *S, lmpe_task *t)
{
    if (!t->wait)
        return;
    if (t->wait != S->main_wait) {
        t->wait->next = S->spare_wait;
        S->spare_wait = t->wait;
    }
    t->wait = NULL;
}

/* ---- coroutines ---- */

lua_State *
lmpe_take_thread(lua_State *L, lmpe *S)
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

void
lmpe_give_thread(lua_State *L, lmpe *S, lmpe_task *t, lua_State *co)
{
    int reusable = lua_status(co) == LUA_OK && !t->leaked && S->idle_threads < IDLE_THREADS_MAX;
    if (t->hooked)
        lmpe_unhook(t, co);
    if (reusable) {
        if (lua_gethook(co)) /* the script's, of that task */
            lua_sethook(co, NULL, 0, 0);
        lua_settop(co, 0);
        lua_rawgetp(L, LUA_REGISTRYINDEX, &idle_key);
        lua_pushvalue(L, -2);
        lua_rawseti(L, -2, ++S->idle_threads);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

/* ---- opening ---- */

/* The task of the main chunk: it has no coroutine. */
static void
begin_main_task(lmpe *S, lmpe_task *t)
{
    memset(t, 0, sizeof *t);
    S->clock = mpe_loop_clock(S->e);
    mpe_loop_look(S->e);
    S->trace = mpe_trace_word(S->e);
    S->shown_tasks = mpe_self_tasks(S->e);
    if (!S->shown_tasks)
        S->shown_tasks = &S->unseen_tasks;
    *S->shown_tasks = 1;
    t->S = S;
    t->id = mpe_owner_new(S->e);
    t->state = LMPE_RUNNING;
    if (lmpe_is_traced(S))
        lmpe_trace_task(t, MPE_TRACE_RUN, 0, MPE_TRACE_MAIN);
}

static void
new_main_task(lua_State *L, lmpe *S)
{
    S->main_wait = lmpe_place(S, sizeof *S->main_wait);
    if (!S->main_wait)
        luaL_error(L, "out of memory");
    lmpe_task *t = lua_newuserdatauv(L, sizeof *t, 1);
    begin_main_task(S, t);
    luaL_setmetatable(L, TASK);
    lmpe_anchor(L, S, t);
    lua_pop(L, 1);
    S->main_task = S->current = t;
}

/* Does a C function run that a task has called? A callback of the host runs while all tasks wait. */
int
lmpe_is_in_task(const lmpe *S)
{
    return S->current != S->main_task && S->current->state == LMPE_RUNNING;
}

static int
is_in_task(void *ud)
{
    return lmpe_is_in_task(ud);
}

/* Stands for the code that the loop runs and that is no task, such as a callback of the host. It
 * counts as waiting, so it cannot wait itself. */
static void
new_callback_task(lua_State *L, lmpe *S)
{
    lmpe_task *t = lua_newuserdatauv(L, sizeof *t, 1);
    memset(t, 0, sizeof *t);
    t->S = S;
    t->id = MPE_OWNER_FIRST - 1;
    t->state = LMPE_WAITING;
    t->background = 1;
    luaL_setmetatable(L, TASK);
    lua_rawsetp(L, LUA_REGISTRYINDEX, t);
    S->callback = t;
}

/* In a child: the parent's tasks never run here. */
static void
on_fork(lua_State *L, lmpe *S)
{
    lmpe_task *main = S->main_task;
    mpe_ask_in_task(S->e, is_in_task, S);
    S->live_tasks = 0;
    S->links = NULL;
    S->loads = NULL;
    S->drive_depth = 0;
    lmpe_cancel_forked(S);
    if (S->anchor_top == 1 && S->current == main && main->anchor == 1) {
        begin_main_task(S, main); /* there is no other, and its place stays its own */
        main->anchor = 1;
        return;
    }
    lmpe_push_anchors(L);
    for (uint32_t i = 1; i <= S->anchor_top; i++) {
        lua_rawgeti(L, -1, i);
        lmpe_task *t = lua_touserdata(L, -1);
        if (t) {
            lmpe_wait_forked(S, t);
            t->state = LMPE_DONE;
            t->outcome = -1;
            t->killed = 1;
            t->wait = NULL;
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &anchors_key);
    S->anchor_free = S->anchor_top = 0;
    new_main_task(L, S);
    mpe_ask_in_task(S->e, is_in_task, S);
}

void
lmpe_tasks_close(lua_State *L, lmpe *S)
{
    lmpe_trace_forget(S);
    mpe_ask_in_task(S->e, NULL, NULL);
    lmpe_push_anchors(L);
    for (uint32_t i = 1; i <= S->anchor_top; i++) {
        lua_rawgeti(L, -1, i);
        lmpe_task *t = lua_touserdata(L, -1);
        lua_pop(L, 1);
        if (!t)
            continue;
        if (t->state == LMPE_WAITING && S->e)
            lmpe_unfile(S, t);
        if (t->state != LMPE_RUNNING || t == S->main_task)
            lmpe_free_wait(S, t);
    }
    lua_pop(L, 1);
    lmpe_free_wait(S, S->callback);
    for (lmpe_task_wait *r; (r = S->spare_wait) != NULL; free(r))
        S->spare_wait = r->next;
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

static void
on_open(lua_State *L, lmpe *S)
{
    new_table(L, &anchors_key, NULL);
    new_table(L, &idle_key, NULL);
    new_table(L, &extras_key, "k");
    luaL_newmetatable(L, TASK);
    lmpe_open_spawn(L, S);
    lua_setfield(L, -2, "Task");
    lmpe_open_methods(L, S);
    lmpe_open_report(L, S);
    lmpe_trace_open(L);
    lmpe_open_names(L, S);
    lmpe_open_describe(L, S);
    lmpe_open_sample(L, S);
    new_main_task(L, S);
    new_callback_task(L, S);
    lmpe_open_cancel(L, S);
    mpe_ask_in_task(S->e, is_in_task, S);
}

const lmpe_module lmpe_task_module = {
    .open = on_open, .forked = on_fork, .close = lmpe_tasks_close};
