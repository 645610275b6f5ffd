/* SPDX-License-Identifier: MIT
 *
 * lname.c - the name of a function, for people: searched for among the values that the code that
 * uses it can reach. A name is a text like "worker", "jobs.crawl" or "self.poll".
 */
#include "base/lrelease.h"
#include "base/lmpe.h"
#include "base/lmodules.h"
#include "base/lsite.h"

#include <string.h>

#define LEVELS 8   /* of callers, for one of the script */
#define FIELDS 200 /* looked at in one table */

/* The key of f in the table on top, pushed: 1; else nothing is. */
static int
key_in(lua_State *L, int f)
{
    int left = FIELDS;
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        if (lua_type(L, -2) == LUA_TSTRING && lua_rawequal(L, -1, f)) {
            lua_pop(L, 1);
            return 1;
        }
        if (--left == 0) {
            lua_pop(L, 2);
            return 0;
        }
    }
    return 0;
}

/* Pops a value of that name and pushes "name", if it is f, or "name.field", if f is in it: 1. Else
 * pops it. */
static int
is_reached_by(lua_State *L, const char *name, int f)
{
    int value = lua_gettop(L);
    if (lua_rawequal(L, value, f)) {
        lua_pushstring(L, name);
    } else if (lua_istable(L, value) && key_in(L, f)) {
        lua_pushfstring(L, "%s.%s", name, lua_tostring(L, -1));
    } else {
        lua_settop(L, value - 1);
        return 0;
    }
    lua_replace(L, value);
    lua_settop(L, value);
    return 1;
}

/* A local variable of the function that runs at ar, or one that it uses from outside. */
static int
find_variable(lua_State *L, lua_Debug *ar, int f)
{
    const char *name;
    for (int i = 1; (name = lua_getlocal(L, ar, i)) != NULL; i++) {
        if (*name == '(')
            lua_pop(L, 1);
        else if (is_reached_by(L, name, f))
            return 1;
    }
    lua_getinfo(L, "f", ar);
    int caller = lua_gettop(L);
    for (int i = 1; (name = lua_getupvalue(L, caller, i)) != NULL; i++) {
        if (strcmp(name, "_ENV") == 0 || !*name) {
            lua_pop(L, 1);
        } else if (is_reached_by(L, name, f)) {
            lua_remove(L, caller);
            return 1;
        }
    }
    lua_pop(L, 1);
    return 0;
}

/* A global, or a field of one that is a table; modules are among them. */
static int
find_global(lua_State *L, int f)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    if (key_in(L, f)) {
        lua_remove(L, -2);
        return 1;
    }
    int globals = lua_gettop(L);
    for (lua_pushnil(L); lua_next(L, globals);) {
        int is_field = lua_type(L, -2) == LUA_TSTRING && lua_istable(L, -1) &&
                       !lua_rawequal(L, -1, globals);
        if (!is_field) {
            lua_pop(L, 1);
        } else if (is_reached_by(L, lua_tostring(L, -2), f)) {
            lua_replace(L, globals);
            lua_settop(L, globals);
            return 1;
        }
    }
    lua_settop(L, globals - 1);
    return 0;
}

/* A function of a module that is loaded. */
static int
find_loaded(lua_State *L, int f)
{
    lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    int loaded = lua_gettop(L);
    for (lua_pushnil(L); lua_istable(L, loaded) && lua_next(L, loaded);) {
        if (lua_type(L, -2) != LUA_TSTRING) {
            lua_pop(L, 1);
        } else if (is_reached_by(L, lua_tostring(L, -2), f)) {
            lua_replace(L, loaded);
            lua_settop(L, loaded);
            return 1;
        }
    }
    lua_settop(L, loaded - 1);
    return 0;
}

int
lmpe_push_function_name(lua_State *L, int f, int level)
{
    lua_Debug ar;
    f = lua_absindex(L, f);
    luaL_checkstack(L, 12, NULL);
    if (find_global(L, f))
        return 1;
    for (int end = level + LEVELS; level < end && lmpe_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "S", &ar);
        if (*ar.what != 'C' && !lmpe_is_library(ar.source) && find_variable(L, &ar, f))
            return 1;
    }
    if (find_loaded(L, f))
        return 1;
    lua_pushvalue(L, f);
    lua_getinfo(L, ">S", &ar);
    if (*ar.what == 'C')
        lua_pushnil(L);
    else
        lua_pushfstring(L, "%s:%d", ar.short_src, ar.linedefined);
    return 0;
}
