/* SPDX-License-Identifier: MIT
 *
 * lglobals.c - the globals of the library's own Lua modules: a copy made when the library was
 * opened, so that no change a script makes to its globals, and to the fields of string, debug
 * and so on, affects them. The modules reach the script's own globals by _G, package and
 * coroutine, which are not copied.
 */
#include "base/lmodules.h"

#include "base/lcheck.h"

#include <lauxlib.h>
#include <lualib.h>

static const char env_key; /* in the registry: the globals of the library */

int
lmpe_push_globals(lua_State *L)
{
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &env_key) == LUA_TTABLE)
        return 0;
    lua_pop(L, 1);
    lua_createtable(L, 0, 64);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &env_key);
    return 1;
}

/* Copies the fields of the table on top into the one below it, and pops it. */
static void
copy_fields(lua_State *L)
{
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, -5);
    }
    lua_pop(L, 1);
}

/* The globals that the modules use: not all of them, whose values would be kept alive. */
static const char *const taken[] = {
    "_G",     "_VERSION", "assert",       "collectgarbage", "coroutine", "dofile",  "error",
    "ipairs", "load",     "getmetatable", "loadfile",       "next",      "package", "pairs",
    "pcall",  "print",    "rawequal",     "rawget",         "rawlen",    "rawset",  "require",
    "select", "tonumber", "setmetatable", "tostring",       "type",      "warn",    "xpcall",
};
/* Libraries, which are copied; a state without one of them gets none by this. */
static const luaL_Reg copied[] = {
    {"string", NULL},       {"table", luaopen_table}, {"math", luaopen_math},
    {"utf8", luaopen_utf8}, {"debug", luaopen_debug}, {"io", luaopen_io},
    {"os", luaopen_os},
};

/* error, for the library: a message with a place gets that of the script's line nearest to the
 * call, however many functions of the library are between. */
static int
library_error(lua_State *L)
{
    lua_Integer level = luaL_optinteger(L, 2, 1);
    lua_settop(L, 1);
    if (lua_type(L, 1) == LUA_TSTRING && level > 0) {
        lmpe_push_place(L);
        lua_insert(L, 1);
        lua_concat(L, 2);
    }
    return lua_error(L);
}

void
lmpe_copy_globals(lua_State *L)
{
    luaL_checkstack(L, 8, NULL);
    lmpe_push_globals(L);
    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++) {
        lua_getglobal(L, taken[i]);
        lua_setfield(L, -2, taken[i]);
    }
    lua_pushcfunction(L, library_error);
    lua_setfield(L, -2, "error");
    for (size_t i = 0; i < sizeof copied / sizeof copied[0]; i++) {
        lua_createtable(L, 0, 20);
        if (lua_getglobal(L, copied[i].name) == LUA_TTABLE) {
            copy_fields(L);
        } else if (copied[i].func) {
            lua_pop(L, 2);
            lua_pushcfunction(L, copied[i].func);
            lua_call(L, 0, 1);
        } else {
            lua_pop(L, 1);
        }
        lua_setfield(L, -2, copied[i].name);
    }
    lua_pop(L, 1);
}

int
lmpe_is_library_env(lua_State *L, int idx)
{
    idx = lua_absindex(L, idx);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &env_key);
    int is = lua_istable(L, -1) && lua_rawequal(L, idx, -1);
    lua_pop(L, 1);
    return is;
}
