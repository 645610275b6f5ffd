/* SPDX-License-Identifier: MIT
 *
 * ltask_report.c - reports about a waiting task: where it was spawned, in which coroutine it
 * waits, and for what. They are read off the stack of that coroutine, so that waiting itself
 * records nothing.
 */
#include "base/lrelease.h"
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

/* All functions in which tasks wait are ours, C functions. */
int
lmpe_push_subject(lua_State *L, lmpe_task *t)
{
    lmpe *S = t->S;
    lua_Debug ar;
    lua_State *co = waiting_in(L, t);
    if (!lua_checkstack(co, 2))
        return 0;
    for (int level = co == L; lmpe_getstack(co, level, &ar); level++) {
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

void
lmpe_resolve_subject(lua_State *L)
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
    if (!lmpe_push_subject(L, t))
        return "an answer";
    if (lua_type(L, -1) == LUA_TSTRING)
        return lua_pushfstring(L, "module '%s', which another task loads", lua_tostring(L, -1));
    lmpe_resolve_subject(L);
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
