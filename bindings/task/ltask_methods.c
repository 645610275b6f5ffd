/* SPDX-License-Identifier: MIT
 *
 * ltask_methods.c - the operations of scripts on tasks: the methods, as functions of the core
 * module. Waiting for several at once is in ltask_joinall.c, reports about them in
 * ltask_report.c.
 */
#include "task/ltask_int.h"
#include "task/lturn.h"

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

static int finish_get(lua_State *L, lmpe *S, int status);

static int
wait_for_end(lua_State *L, lmpe_finish_fn finish)
{
    lmpe *S = lmpe_self(L);
    lmpe_task *t = lmpe_check_task(L, 1);
    uint64_t deadline = lmpe_check_deadline(L, 2);
    if (t == S->current)
        return luaL_error(L, "join: a task cannot wait for itself");
    if (t->state != LMPE_DONE) {
        S->current->hears = finish == finish_get;
        return lmpe_wait(L, S, &t->joiners, deadline, finish);
    }
    lmpe_await_check(L, S);
    return lmpe_did(L, S, LMPE_DID, finish(L, S, MPE_OK));
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

void
lmpe_kill(lua_State *L, lmpe *S, lmpe_task *t)
{
    if (t->state == LMPE_DONE || t->killed) {
        lua_pop(L, 1);
        return;
    }
    lmpe_set_kill(L, -2);
    if (t->state == LMPE_RUNNING)
        lmpe_start_ticking(S); /* it may never wait */
    lmpe_interrupt_wait(L, S, t);
}

/* kill(task, error object): does not wait. */
static int
kill_task(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lmpe_task *t = lmpe_check_task(L, 1);
    luaL_checkany(L, 2);
    lua_settop(L, 2);
    lmpe_kill(L, S, t);
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

/* ready(task): the same, for scripts */
static int
ready(lua_State *L)
{
    return lmpe_look(L, lmpe_self(L), is_done);
}

static int
task_id(lua_State *L)
{
    lua_pushinteger(L, lmpe_task_number(lmpe_check_task(L, 1)));
    return 1;
}

/* results(task) -> all its results, or the one error value */
static int
results(lua_State *L)
{
    lmpe_task *t = lmpe_check_task(L, 1);
    return t->state == LMPE_DONE ? push_results(L, t) : 0;
}

/* extra(task [, table]): the data that the Lua side keeps with a task; a string is a traceback. */
static int
extra(lua_State *L)
{
    lmpe_check_task(L, 1);
    if (lua_gettop(L) > 1) {
        lua_settop(L, 2);
        lmpe_set_extra(L, 1);
        return 0;
    }
    lmpe_push_extra(L, 1);
    return 1;
}

/* current() -> the running task, and its number */
static int
current(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lmpe_push_task(L, S->current);
    lua_pushinteger(L, lmpe_task_number(S->current));
    return 2;
}

/* current_id(self, metatable, call) -> the number of the running task; raises for an object of
 * another type */
static int
current_id(lua_State *L)
{
    lmpe_check_type_of(L, 1);
    lua_pushinteger(L, lmpe_self(L)->current->id);
    return 1;
}

/* is_over() -> the task is killed, or the time of its block is over: its next wait will raise */
static int
is_over(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lua_pushboolean(L, lmpe_is_over(L, S, S->current) || S->current->leaving);
    return 1;
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
    lmpe_push_anchors(L);
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

/* ---- opening ---- */

void
lmpe_open_methods(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {
        {"join", join},
        {"get", get},
        {"kill", kill_task},
        {"task_state", task_state},
        {"is_done", is_done},
        {"ready", ready},
        {"task_id", task_id},
        {"results", results},
        {"extra", extra},
        {"current", current},
        {"current_id", current_id},
        {"is_over", is_over},
        {"main_task", main_task},
        {"tasks", tasks},
        {"sleep", sleep_for},
        {"joinall", lmpe_joinall},
        {NULL, NULL},
    };
    lmpe_setfuncs(L, S, functions);
}
