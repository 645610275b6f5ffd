/* SPDX-License-Identifier: MIT
 *
 * lcoroutine.c - the coroutine library's resume, wrap, yield, close and status, so that a wait
 * inside a user's own coroutine suspends the whole task. A yield of the scheduler is passed on
 * outwards, and the user's coroutine continues where it was when the task does. The user's own
 * yields are left alone. A coroutine through which such a yield has passed is parked: for others
 * it is not suspended, it is "normal", and may be neither resumed nor closed.
 */
#define LMPE_AS_LUA /* the messages are those of the replaced functions */
#include "base/lrelease.h"
#include "task/lcancel.h"

static lua_State *
check_co(lua_State *L)
{
    lua_State *co = lua_tothread(L, 1);
    luaL_argexpected(L, co, 1, "coroutine");
    return co;
}

static int yield_user(lua_State *L);
static int co_resume(lua_State *L);
static int wrapped(lua_State *L);

/* Pushes the function that co is in; its C function, NULL when it is a Lua function. */
static lua_CFunction
push_function(lua_State *co, lua_Debug *ar)
{
    if (!lua_checkstack(co, 2) || !lmpe_getstack(co, 0, ar))
        return lua_pushnil(co), NULL;
    lua_getinfo(co, "f", ar);
    return lua_tocfunction(co, -1);
}

/* It waits when the function that yielded is one of ours, which all have the state as their first
 * upvalue, and not coroutine.yield. */
int
lmpe_is_parked(lua_State *L, lua_State *co)
{
    lua_Debug ar;
    int parked = 0;
    if (lua_status(co) != LUA_YIELD)
        return 0;
    lua_CFunction f = push_function(co, &ar);
    if (f && f != yield_user && lua_getupvalue(co, -1, 1)) {
        parked = lua_touserdata(co, -1) == lmpe_self_or_closed(L);
        lua_pop(co, 1);
    }
    lua_pop(co, 1);
    return parked;
}

lua_State *
lmpe_resumed_by(lua_State *L, lua_State *co)
{
    lua_Debug ar;
    lua_State *inner = NULL;
    (void)L;
    lua_CFunction f = push_function(co, &ar);
    lua_pop(co, 1);
    if ((f == co_resume || f == wrapped) && lua_getlocal(co, &ar, 1)) {
        inner = lua_tothread(co, -1);
        lua_pop(co, 1);
    }
    return inner;
}

/* Resumes co with nargs values from the top of L. The number of results moved to L; -1 with the
 * error there; -2 when the scheduler's yield passes. */
static int
step(lua_State *L, lmpe *S, lua_State *co, int nargs)
{
    int nres;
    if (!lua_checkstack(co, nargs)) {
        lua_pushliteral(L, "too many arguments to resume");
        return -1;
    }
    lua_xmove(L, co, nargs);
    lmpe_link link = {S->links, L, co};
    S->links = &link;
    if (S->e && lmpe_is_looked_at(S))
        lmpe_hook(S, LMPE_TICK_INSTRUCTIONS);
    int status = lua_resume(co, L, nargs, &nres);
    S->links = link.prev;
    if (status == LUA_YIELD && S->yielded)
        return -2;
    if (status != LUA_OK && status != LUA_YIELD) {
        lua_xmove(co, L, 1);
        return -1;
    }
    if (!lua_checkstack(L, nres + 1)) {
        lua_pop(co, nres);
        lua_pushliteral(L, "too many results to resume");
        return -1;
    }
    lua_xmove(co, L, nres);
    return nres;
}

/* Index 1 is the coroutine, above it its arguments. */
static int
start(lua_State *L, lmpe *S, lua_State *co)
{
    if (lmpe_is_parked(L, co)) {
        lua_pushliteral(L, "cannot resume a coroutine that waits in another task");
        return -1;
    }
    return step(L, S, co, lua_gettop(L) - 1);
}

static int
resume_end(lua_State *L, int n)
{
    lua_pushboolean(L, n >= 0);
    lua_insert(L, n >= 0 ? -(n + 1) : -2);
    return n >= 0 ? n + 1 : 2;
}

static int
wrap_end(lua_State *L, lua_State *co, int n)
{
    if (n >= 0)
        return n;
    int status = lua_status(co);
    if (status != LUA_OK && status != LUA_YIELD) { /* close its variables, use its final error */
        lmpe *S = lmpe_self_or_closed(L);
        S->resetting++;
        int closed = lmpe_resetthread(co);
        S->resetting--;
        if (closed != LUA_OK) { /* before 5.4.3: only of a close handler */
            lua_pop(L, 1);
            lua_xmove(co, L, 1);
            status = closed;
        }
    }
    if (status != LUA_ERRMEM && lua_type(L, -1) == LUA_TSTRING) {
        luaL_where(L, 1);
        lua_insert(L, -2);
        lua_concat(L, 2);
    }
    return lua_error(L);
}

static int after_wait(lua_State *L, int status, lua_KContext is_wrap);

static int
finish_or_pass(lua_State *L, lua_State *co, int n, int is_wrap)
{
    if (n == -2) {
        lua_settop(L, 1);
        return lua_yieldk(L, 0, is_wrap, after_wait);
    }
    return is_wrap ? wrap_end(L, co, n) : resume_end(L, n);
}

static int
after_wait(lua_State *L, int status, lua_KContext is_wrap)
{
    lua_State *co = lua_tothread(L, 1);
    (void)status;
    return finish_or_pass(L, co, step(L, lmpe_self_or_closed(L), co, 0), (int)is_wrap);
}

static int
co_resume(lua_State *L)
{
    lua_State *co = check_co(L);
    return finish_or_pass(L, co, start(L, lmpe_self_or_closed(L), co), 0);
}

static int
wrapped(lua_State *L)
{
    lua_State *co = lua_tothread(L, lua_upvalueindex(2));
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_insert(L, 1);
    return finish_or_pass(L, co, start(L, lmpe_self_or_closed(L), co), 1);
}

static int
co_wrap(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_State *co = lua_newthread(L);
    lua_pushvalue(L, 1);
    lua_xmove(L, co, 1);
    lua_pushcclosure(L, wrapped, 2);
    return 1;
}

/* Does the current task itself run on L, rather than a coroutine that it has made? */
static int
is_own_body(lmpe *S, const lua_State *L)
{
    return L == (S->current->co ? S->current->co : S->driver);
}

static int
yield_user(lua_State *L)
{
    if (is_own_body(lmpe_self_or_closed(L), L))
        return luaL_error(L, LMPE_BARE_YIELD);
    return lua_yield(L, lua_gettop(L));
}

/* The library's own function, unless the coroutine is parked. */
static int
co_status(lua_State *L)
{
    if (lua_isthread(L, 1) && lmpe_is_parked(L, lua_tothread(L, 1))) {
        lua_pushliteral(L, "normal");
        return 1;
    }
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    return 1;
}

static int
co_close(lua_State *L)
{
    if (lua_isthread(L, 1) && lmpe_is_parked(L, lua_tothread(L, 1)))
        return luaL_error(L, "cannot close a coroutine that waits in another task");
    lmpe *S = lmpe_self_or_closed(L);
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_insert(L, 1);
    S->resetting++;
    int status = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
    S->resetting--;
    return status == LUA_OK ? lua_gettop(L) : lua_error(L);
}

/* The script may use a task's coroutine later: it is not reused. */
static int
co_running(lua_State *L)
{
    lmpe *S = lmpe_self_or_closed(L);
    if (S->current->co == L)
        S->current->leaked = 1;
    lua_pushboolean(L, lua_pushthread(L));
    return 2;
}

/* Puts f, with the state and the library's own function of that name as upvalues, in its place. */
static void
replace(lua_State *L, lmpe *S, const char *name, lua_CFunction f)
{
    lua_pushlightuserdata(L, S);
    lua_getfield(L, -2, name);
    lua_pushcclosure(L, f, 2);
    lua_setfield(L, -2, name);
}

static void
on_open(lua_State *L, lmpe *S)
{
    if (lua_getglobal(L, "coroutine") == LUA_TTABLE) {
        replace(L, S, "resume", co_resume);
        replace(L, S, "wrap", co_wrap);
        replace(L, S, "yield", yield_user);
        replace(L, S, "status", co_status);
        replace(L, S, "close", co_close);
        replace(L, S, "running", co_running);
    }
    lua_pop(L, 1);
}

const lmpe_module lmpe_coroutine_module = {.open = on_open};
