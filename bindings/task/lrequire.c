/* SPDX-License-Identifier: MIT
 *
 * lrequire.c - require, changed so that a module whose top level waits suspends the task that
 * loads it: Lua's own calls the loader where nothing can yield. A module that another task is
 * loading is waited for instead of being loaded a second time, unless that task waits for a
 * module this one is loading. As with Lua's own, a module that is required while this task loads
 * it is loaded once more. An endless circle of modules that require each other would overflow
 * the C stack there, and is stopped here.
 *
 * Modules being loaded are in a list of the state. An entry is removed when its loader returns
 * or fails, as a variable to be closed, or when the coroutine that loads it is collected. A
 * forked child starts with an empty list.
 */
#define LMPE_AS_LUA /* the messages are those of the replaced functions */
#include "base/lfinalize.h"
#include "base/lmodules.h"
#include "task/ltask.h"

#include <string.h>

#define LOADING "mpengine.loading"
#define NESTED_MAX 20 /* nested loads of one module */

struct lmpe_loading {
    struct lmpe_loading *next;
    lmpe *S;
    lmpe_task *task; /* that loads it */
    const char *name;
    mpe_waitlist waiting;
};

enum { NAME = 1, LOADED, GUARD }; /* indices in require */

static struct lmpe_loading *
find(lmpe *S, const char *name)
{
    struct lmpe_loading *l = S->loads;
    while (l && strcmp(l->name, name) != 0)
        l = l->next;
    return l;
}

/* The module that a task waits for, or NULL. */
static struct lmpe_loading *
awaited_by(lmpe *S, const lmpe_task *t)
{
    struct lmpe_loading *l = S->loads;
    if (t->state != LMPE_WAITING || t->uses_await)
        return NULL;
    while (l && t->w.list != &l->waiting)
        l = l->next;
    return l;
}

static int
waits_for_us(lmpe *S, const struct lmpe_loading *l)
{
    while (l && l->task != S->current)
        l = awaited_by(S, l->task);
    return l != NULL;
}

static void
check_circle(lua_State *L, lmpe *S, const char *name)
{
    int n = 0;
    for (struct lmpe_loading *l = S->loads; l; l = l->next)
        n += l->task == S->current && strcmp(l->name, name) == 0;
    if (n >= NESTED_MAX)
        luaL_error(L, "circular require of module '%s'", name);
}

/* The end of a loader. */
static int
end_load(struct lmpe_loading *l)
{
    struct lmpe_loading **at = &l->S->loads;
    while (*at && *at != l)
        at = &(*at)->next;
    if (!*at)
        return 0;
    *at = l->next;
    if (l->S->e)
        mpe_waitlist_wake(l->S->e, &l->waiting, UINT32_MAX);
    return 0;
}

static int
guard_close(lua_State *L)
{
    return end_load(luaL_checkudata(L, 1, LOADING));
}

static int
guard_gc(lua_State *L)
{
    struct lmpe_loading *l = lmpe_finalized(L, LOADING, sizeof *l);
    return l ? end_load(l) : 0;
}

static void
push_guard(lua_State *L, lmpe *S, const char *name)
{
    struct lmpe_loading *l = lua_newuserdatauv(L, sizeof *l, 1);
    *l = (struct lmpe_loading){S->loads, S, S->current, name, {NULL, NULL}};
    lua_pushvalue(L, NAME); /* keeps the string */
    lua_setiuservalue(L, -2, 1);
    luaL_setmetatable(L, LOADING);
    S->loads = l;
    lua_toclose(L, GUARD);
}

/* Pushes the loader of a module and its extra value; raises with the messages of all searchers. */
static void
push_loader(lua_State *L, const char *name)
{
    luaL_Buffer said;
    int searchers = lua_gettop(L) + 1;
    if (lua_getfield(L, lua_upvalueindex(2), "searchers") != LUA_TTABLE)
        luaL_error(L, "'package.searchers' must be a table");
    luaL_buffinit(L, &said);
    for (lua_Integer i = 1; lua_rawgeti(L, searchers, i) != LUA_TNIL; i++) {
        lua_pushvalue(L, NAME);
        lua_call(L, 1, 2);
        if (lua_isfunction(L, -2))
            return;
        lua_pop(L, 1);
        if (lua_isstring(L, -1)) {
            lua_pushliteral(L, "\n\t");
            lua_insert(L, -2);
            lua_concat(L, 2);
            luaL_addvalue(&said);
        } else {
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 1);
    luaL_pushresult(&said);
    luaL_error(L, "module '%s' not found:%s", name, lua_tostring(L, -1));
}

/* The loader's result is on top, below it the loader's extra value. */
static int
after_load(lua_State *L, int status, lua_KContext ctx)
{
    const char *name = lua_tostring(L, NAME);
    (void)status, (void)ctx;
    if (lua_isnil(L, -1)) { /* the module may have set it itself */
        lua_pop(L, 1);
        if (lua_getfield(L, LOADED, name) == LUA_TNIL) {
            lua_pop(L, 1);
            lua_pushboolean(L, 1);
        }
    }
    lua_pushvalue(L, -1);
    lua_setfield(L, LOADED, name);
    lua_insert(L, -2);
    return 2;
}

static int require_again(lua_State *L, lmpe *S, int status);

/* require(name) -> the module [, the loader's extra value] */
static int
require(lua_State *L)
{
    lmpe *S = lmpe_self_or_closed(L); /* a closed state waits for nothing */
    const char *name = luaL_checkstring(L, NAME);
    lua_settop(L, NAME);
    lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_getfield(L, LOADED, name);
    if (lua_toboolean(L, -1))
        return 1;
    lua_settop(L, LOADED);
    struct lmpe_loading *l = find(S, name);
    if (l && S->e && !waits_for_us(S, l))
        return lmpe_wait(L, S, &l->waiting, MPE_FOREVER, require_again);
    check_circle(L, S, name);
    push_guard(L, S, name);
    push_loader(L, name);
    lua_insert(L, -2);
    lua_pushvalue(L, NAME);
    lua_pushvalue(L, -3);
    lua_callk(L, 2, 1, 0, after_load);
    return after_load(L, LUA_OK, 0);
}

static int
require_again(lua_State *L, lmpe *S, int status)
{
    (void)S, (void)status;
    return require(L);
}

static void
on_open(lua_State *L, lmpe *S)
{
    int top = lua_gettop(L);
    if (lua_getglobal(L, "require") == LUA_TFUNCTION && lua_getglobal(L, "package") == LUA_TTABLE) {
        luaL_newmetatable(L, LOADING);
        lua_pushcfunction(L, guard_close);
        lua_setfield(L, -2, "__close");
        lua_pushcfunction(L, guard_gc);
        lua_setfield(L, -2, "__gc");
        lua_pop(L, 1);
        lua_pushlightuserdata(L, S);
        lua_insert(L, -2);
        lua_pushcclosure(L, require, 2);
        lmpe_set_global(L, "require");
    }
    lua_settop(L, top);
}

const lmpe_module lmpe_require_module = {.open = on_open};
