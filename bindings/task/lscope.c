/* SPDX-License-Identifier: MIT
 *
 * lscope.c - scopes: parts of a task's stack that can be cancelled by themselves, by a deadline
 * or by a flag; and protected calls that keep the traceback of an error.
 */
#include "task/lcancel.h"

/* An entered scope is kept in the registry; its user value is the error it raises. */
void
lmpe_push_token(lua_State *L, const lmpe_scope *s)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, s);
    lua_getiuservalue(L, -1, 1);
    lua_remove(L, -2);
}

/* A task enters the scope at idx, in a coroutine of its own. */
static void
enter_in(lua_State *L, lmpe_task *t, lua_State *co, int idx)
{
    lmpe *S = t->S;
    lmpe_scope *s = lua_touserdata(L, idx);
    lmpe_task_wait *r = lmpe_wait_of(t);
    lua_pushvalue(L, idx);
    lua_rawsetp(L, LUA_REGISTRYINDEX, s);
    s->L = co;
    s->outer = r->scopes;
    r->scopes = s;
    if (s->deadline != MPE_FOREVER) {
        S->ticker->deadlines++;
        lmpe_start_ticking(S);
    }
}

static void
enter(lua_State *L, lmpe *S, int idx)
{
    enter_in(L, S->current, L, idx);
}

static void
forget(lua_State *L, lmpe *S, lmpe_scope **at)
{
    lmpe_scope *s = *at;
    *at = s->outer;
    S->ticker->deadlines -= s->deadline != MPE_FOREVER;
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, s);
}

static void
leave(lua_State *L, lmpe *S, lmpe_scope *s)
{
    lmpe_task *t = S->current;
    lmpe_scope **at = &lmpe_wait_of(t)->scopes;
    while (*at && *at != s)
        at = &(*at)->outer;
    if (*at)
        forget(L, S, at);
    if (!t->killed)
        t->closing = 0;
}

void
lmpe_forget_scopes(lua_State *L, lmpe_task *t)
{
    while (t->wait && t->wait->scopes)
        forget(L, t->S, &t->wait->scopes);
}

/* Index 1 is the handler, 2 true. Results or the error are above. */
static int
call_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)ctx;
    if (status == LUA_OK || status == LUA_YIELD)
        return lua_gettop(L) - 1;
    lua_pushboolean(L, 0);
    lua_insert(L, -2);
    return 2;
}

/* call(f, ...) -> true and the results | false and the error, whose traceback is kept */
static int
protected_call(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_pushcfunction(L, lmpe_note_traceback);
    lua_insert(L, 1);
    lua_pushboolean(L, 1);
    lua_insert(L, 2);
    int status = lua_pcallk(L, lua_gettop(L) - 3, LUA_MULTRET, 1, 0, call_k);
    return call_k(L, status, 0);
}

static void
push_scope(lua_State *L, uint64_t deadline, int token)
{
    lmpe_scope *s = lua_newuserdatauv(L, sizeof *s, 1);
    *s = (lmpe_scope){.deadline = deadline};
    lua_pushvalue(L, token);
    lua_setiuservalue(L, -2, 1);
}

void
lmpe_bound_task(lua_State *L, lmpe_task *t, uint64_t deadline)
{
    push_scope(L, deadline, lua_gettop(L));
    enter_in(L, t, t->co, lua_gettop(L));
    lua_pop(L, 2);
}

/* scope(token) -> scope: the token is the error raised in it once it is cancelled */
static int
new_scope(lua_State *L)
{
    luaL_checkany(L, 1);
    push_scope(L, MPE_FOREVER, 1);
    return 1;
}

/* Index 1 is the handler, 2 the scope, 3 true. */
static int
scoped_k(lua_State *L, int status, lua_KContext ctx)
{
    lmpe *S = lmpe_self(L);
    (void)ctx;
    leave(L, S, lua_touserdata(L, 2));
    if (status == LUA_OK || status == LUA_YIELD)
        return lua_gettop(L) - 2;
    lua_pushboolean(L, 0);
    lua_insert(L, -2);
    return 2;
}

/* call_in(scope, f, ...) -> as call; in the scope */
static int
call_in(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lua_pushcfunction(L, lmpe_note_traceback);
    lua_insert(L, 1);
    lua_pushboolean(L, 1);
    lua_insert(L, 3);
    enter(L, S, 2);
    int status = lua_pcallk(L, lua_gettop(L) - 4, LUA_MULTRET, 1, 0, scoped_k);
    return scoped_k(L, status, 0);
}

/* Index 1 is the handler, 2 the scope, 3 its token. */
static int
timed_k(lua_State *L, int status, lua_KContext ctx)
{
    lmpe *S = lmpe_self(L);
    (void)ctx;
    leave(L, S, lua_touserdata(L, 2));
    if (status == LUA_OK || status == LUA_YIELD)
        return lua_gettop(L) - 3;
    if (!lua_rawequal(L, -1, 3))
        return lua_error(L);
    luaL_pushfail(L);
    lua_pushliteral(L, "timeout");
    return 2;
}

/* call_until(token, seconds, f, ...) -> the results of f | nil, "timeout" */
static int
call_until(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    uint64_t deadline = lmpe_deadline_in(luaL_checknumber(L, 2));
    push_scope(L, deadline == MPE_NOW ? mpe_now() : deadline, 1);
    lua_replace(L, 2);
    lua_pushcfunction(L, lmpe_note_traceback); /* token scope f ... handler */
    lua_insert(L, 1);                          /* handler token scope f ... */
    lua_pushvalue(L, 2);
    lua_insert(L, 4);
    lua_remove(L, 2); /* handler scope token f ... */
    enter(L, S, 2);
    int status = lua_pcallk(L, lua_gettop(L) - 4, LUA_MULTRET, 1, 0, timed_k);
    return timed_k(L, status, 0);
}

/* cancel_scope(scope, task): the scope of any task */
static int
cancel_scope(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lmpe_scope *s = lua_touserdata(L, 1);
    lmpe_task *t = lmpe_check_task(L, 2);
    s->cancelled = 1;
    lmpe_start_ticking(S);
    lmpe_interrupt_wait(L, S, t);
    return 0;
}

void
lmpe_open_scope(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {
        {"call", protected_call},   {"scope", new_scope},           {"call_in", call_in},
        {"call_until", call_until}, {"cancel_scope", cancel_scope}, {NULL, NULL},
    };
    lmpe_setfuncs(L, S, functions);
}
