/* SPDX-License-Identifier: MIT
 *
 * ltask_report.c - reports about a waiting task: where it was spawned, in which coroutine it
 * waits, and for what. They are read off the stack of that coroutine, so that waiting itself
 * records nothing.
 */
#include "base/lobject.h"
#include "base/lsite.h"
#include "task/ltask_int.h"

/* spawn_place(task) -> lines | nil */
static int
spawn_place(lua_State *L)
{
    lmpe_task *t = lmpe_check_task(L, 1);
    return lmpe_push_site(L, t->S, t->site);
}

/* spawned_name(task) -> the name of its function | nil */
static int
spawned_name(lua_State *L)
{
    lmpe_push_site_name(L, lmpe_check_task(L, 1)->site);
    return 1;
}

lua_State *
lmpe_innermost(lua_State *L, lua_State *co)
{
    lua_State *inner;
    while ((inner = lmpe_resumed_by(L, co)) != NULL)
        co = inner;
    return co;
}

/* The coroutine in which a task waits. */
static lua_State *
waiting_in(lua_State *L, lmpe_task *t)
{
    if (t->co)
        return lmpe_innermost(L, t->co);
    return t == t->S->current ? L : t->S->driver;
}

/* waiting_thread(task) -> the coroutine in which it waits */
static int
waiting_thread(lua_State *L)
{
    lua_State *co = waiting_in(L, lmpe_check_task(L, 1));
    lua_pushthread(co);
    if (co != L)
        lua_xmove(co, L, 1);
    return 1;
}

/* Pushes the first argument of the C function in which a task waits: all of them are ours. */
static int
push_subject(lua_State *L, lmpe_task *t)
{
    lmpe *S = t->S;
    lua_Debug ar;
    lua_State *co = waiting_in(L, t);
    if (!lua_checkstack(co, 2))
        return 0;
    for (int level = co == L; lua_getstack(co, level, &ar); level++) {
        lua_getinfo(co, "f", &ar);
        int is_wait = lua_iscfunction(co, -1) && lua_getupvalue(co, -1, 1) != NULL;
        if (is_wait) {
            is_wait = lua_touserdata(co, -1) == S;
            lua_pop(co, 1);
        }
        lua_pop(co, 1);
        if (!is_wait)
            continue;
        if (!lua_getlocal(co, &ar, 1))
            return 0;
        lua_xmove(co, L, 1);
        return 1;
    }
    return 0;
}

/* Replaces the value on top by what it represents: a list by its owner, a list of one by that
 * one. */
static void
resolve(lua_State *L)
{
    if (luaL_testudata(L, -1, LMPE_ANY))
        lua_getiuservalue(L, -1, 1);
    if (lua_istable(L, -1) && lua_rawlen(L, -1) == 1)
        lua_rawgeti(L, -1, 1);
    if (luaL_testudata(L, -1, LMPE_WAITLIST))
        lua_getiuservalue(L, -1, 1);
}

static const char *
describe_subject(lua_State *L, lmpe_task *t)
{
    if (!push_subject(L, t))
        return "an answer";
    if (lua_type(L, -1) == LUA_TSTRING)
        return lua_pushfstring(L, "module '%s', which another task loads", lua_tostring(L, -1));
    resolve(L);
    if (lua_istable(L, -1) && !luaL_getmetafield(L, -1, "__name"))
        return lua_pushfstring(L, "an answer from %d things", (int)lua_rawlen(L, -1));
    if (lua_type(L, -1) == LUA_TSTRING) /* the name: an object of mp.co */
        lua_pop(L, 1);
    return lua_isuserdata(L, -1) || lua_istable(L, -1) ? luaL_tolstring(L, -1, NULL) : "an answer";
}

static const char *
heavy_target(lua_State *L, lmpe_task *t)
{
    lmpe_await *a = &t->wait->await;
    switch (a->source) {
    case LMPE_OBJECT:
        if (lmpe_push_handle(L, t->S, mpe_handle_of(t->S->e, a->on.object)) == MPE_OK)
            return luaL_tolstring(L, -1, NULL);
        return "a shared object";
    case LMPE_FD:
        return lua_pushfstring(L, "descriptor %d", a->on.fd);
    case LMPE_PROCESS:
        return lua_pushfstring(L, "the end of the process with pid %d",
                               mpe_process_pid(a->on.process));
    default:
        return describe_subject(L, t);
    }
}

static void
push_target(lua_State *L, lmpe_task *t)
{
    if (t->uses_await)
        lua_pushstring(L, heavy_target(L, t));
    else
        lua_pushstring(L, t->w.list ? describe_subject(L, t) : "the end of its sleep");
}

/* waits_for(task) -> what it waits for, in words | nil */
static int
waits_for(lua_State *L)
{
    lmpe_task *t = lmpe_check_task(L, 1);
    if (t->state != LMPE_WAITING)
        return 0;
    push_target(L, t);
    return 1;
}

#define NONE (-2)

/* The number of the task of this process that a simple wait depends on: one that is joined, or the owner
 * of a lock of mp.co; NONE. */
static lua_Integer
holder_within(lua_State *L, lmpe_task *t)
{
    int top = lua_gettop(L);
    lua_Integer number = NONE;
    if (t->uses_await || !t->w.list || !push_subject(L, t))
        return number;
    resolve(L);
    lmpe_task *other = lmpe_test_task(L, -1);
    if (other && other->state != LMPE_DONE) {
        number = lmpe_task_number(other);
    } else if (lua_istable(L, -1) && luaL_getmetafield(L, -1, "__name") != LUA_TNIL) {
        lua_pop(L, 1);
        lua_pushliteral(L, "owner");
        lua_rawget(L, -2);
        number = lua_isinteger(L, -1) ? lua_tointeger(L, -1) : NONE;
    }
    lua_settop(L, top);
    return number;
}

/* The task that must go on first, in this process or another: that of a lock's owner, or one that is
 * joined. Sets slot and holder. */
static void
describe_holder(lua_State *L, lmpe_task *t, int table)
{
    uint32_t slot = mpe_self_slot(t->S->e);
    lua_Integer holder = holder_within(L, t);
    if (holder == NONE && !lmpe_find_owner(t, &slot, &holder))
        return;
    lua_pushinteger(L, slot);
    lua_setfield(L, table, "slot");
    lua_pushinteger(L, holder);
    lua_setfield(L, table, "holder");
}

void
lmpe_describe_wait(lua_State *L, lmpe_task *t, int table)
{
    int top = lua_gettop(L);
    push_target(L, t);
    lua_setfield(L, table, "waits_for");
    lua_settop(L, top);
    if (t->uses_await && t->wait->await.source == LMPE_OBJECT) {
        mpe_handle h = mpe_handle_of(t->S->e, t->wait->await.on.object);
        lua_pushinteger(L, (lua_Integer)h);
        lua_setfield(L, table, "object");
    }
    describe_holder(L, t, table);
    lua_settop(L, top);
}

void
lmpe_open_report(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"spawn_place", spawn_place},
                                         {"spawned_name", spawned_name},
                                         {"waits_for", waits_for},
                                         {"waiting_thread", waiting_thread},
                                         {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
}
