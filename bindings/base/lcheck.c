/* SPDX-License-Identifier: MIT
 *
 * lcheck.c - see lcheck.h. The name of a call is looked up only for a message: among the methods
 * of the types, then in the public modules.
 */
#define LMPE_AS_LUA
#include "base/lrelease.h"
#include "base/lmpe.h"
#include "base/lmodules.h"

#include <string.h>

/* ---- the place ---- */

void
lmpe_push_place(lua_State *L)
{
    lua_Debug ar;
    for (int level = 0; lmpe_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "Sl", &ar);
        if (ar.currentline <= 0 || lmpe_is_library(ar.source))
            continue;
        lua_pushfstring(L, "%s:%d: ", ar.short_src, ar.currentline);
        return;
    }
    lua_pushliteral(L, "");
}

int
lmpe_error(lua_State *L, const char *format, ...)
{
    va_list args;
    lmpe_push_place(L);
    va_start(args, format);
    lua_pushvfstring(L, format, args);
    va_end(args);
    lua_concat(L, 2);
    return lua_error(L);
}

/* ---- the name ---- */

/* The key of the value at f in the table on top, pushed; 0 and nothing when there is none. */
static int
find_in(lua_State *L, int f)
{
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1))
        if (lua_type(L, -2) == LUA_TSTRING && lua_rawequal(L, -1, f)) {
            lua_pop(L, 1);
            return 1;
        }
    return 0;
}

/* Pushes the methods of the type whose metatable is on top; 0 and nothing: it is none. */
static int
push_methods(lua_State *L)
{
    if (!lua_istable(L, -1))
        return 0;
    if (lua_getfield(L, -1, "methods") == LUA_TTABLE)
        return 1;
    lua_pop(L, 1);
    if (lua_getfield(L, -1, "__index") == LUA_TTABLE)
        return 1;
    lua_pop(L, 1);
    return 0;
}

/* Pushes "Queue:get" for the function at f when it is a method of a type; 0: it is none. */
static int
find_method(lua_State *L, int f)
{
    lmpe_push_modules(L);
    if (lua_getfield(L, -1, "mpengine.core") != LUA_TTABLE)
        return 0;
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        if (!push_methods(L))
            continue;
        if (find_in(L, f) && lua_getfield(L, -3, "__name") == LUA_TSTRING) {
            const char *type = lua_tostring(L, -1);
            type += strncmp(type, "mp.", 3) == 0 ? 3 : 0;
            lua_pushfstring(L, "%s:%s", type, lua_tostring(L, -2));
            return 1;
        }
        lua_settop(L, lua_gettop(L) - 1);
    }
    return 0;
}

static int
find_function(lua_State *L, int f)
{
    static const struct {
        const char *module, *prefix;
    } public[] = {{"mpengine", ""},           {"mpengine.co", "co."},
                  {"mpengine.http", "http."}, {"mpengine.subprocess", "subprocess."},
                  {"mpengine.codec", ""},     {"mpengine.core", ""}};
    lmpe_push_modules(L);
    for (size_t i = 0; i < sizeof public / sizeof public[0]; i++) {
        if (lua_getfield(L, -1, public[i].module) == LUA_TTABLE && find_in(L, f)) {
            lua_pushfstring(L, "%s%s", public[i].prefix, lua_tostring(L, -1));
            return 1;
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return 0;
}

/* The name of the function that runs; *is_method: its first argument is the object. */
static const char *
name_of_call(lua_State *L, int *is_method)
{
    lua_Debug ar;
    *is_method = 0;
    if (!lmpe_getstack(L, 0, &ar))
        return "?";
    lua_getinfo(L, "nf", &ar);
    int f = lua_gettop(L);
    luaL_checkstack(L, 12, NULL);
    if (find_method(L, f)) {
        *is_method = 1;
        return lua_tostring(L, -1);
    }
    if (find_function(L, f))
        return lua_tostring(L, -1);
    *is_method = strcmp(ar.namewhat, "method") == 0;
    return ar.name ? ar.name : "?";
}

/* ---- wrong arguments ---- */

int
lmpe_argerror(lua_State *L, int arg, const char *what)
{
    int is_method;
    const char *name = name_of_call(L, &is_method);
    arg -= is_method;
    if (arg == 0)
        return lmpe_error(L, "calling '%s' on bad self (%s)", name, what);
    return lmpe_error(L, "bad argument #%d to '%s' (%s)", arg, name, what);
}

/* ---- calls at the wrong time ---- */

int
lmpe_misuse_in(lua_State *L, const char *call, const char *key)
{
    const char *words = key;
    luaL_checkstack(L, 8, NULL);
    lmpe_push_modules(L);
    if (lua_getfield(L, -1, "mpengine.messages") == LUA_TTABLE &&
        lua_getfield(L, -1, key) == LUA_TSTRING)
        words = lua_tostring(L, -1);
    return lmpe_error(L, "%s: %s", call, words);
}

int
lmpe_misuse(lua_State *L, const char *key)
{
    int is_method;
    return lmpe_misuse_in(L, name_of_call(L, &is_method), key);
}

/* ---- arguments ---- */

/* The name of an argument's type in a message. */
static const char *
kind_of(lua_State *L, int arg)
{
    if (luaL_getmetafield(L, arg, "__name") == LUA_TSTRING)
        return lua_tostring(L, -1);
    if (lua_type(L, arg) == LUA_TLIGHTUSERDATA)
        return "light userdata";
    return luaL_typename(L, arg);
}

int
lmpe_typeerror(lua_State *L, int arg, const char *expected)
{
    const char *got = kind_of(L, arg);
    return lmpe_argerror(L, arg, lua_pushfstring(L, "%s expected, got %s", expected, got));
}

void
lmpe_check_type_of(lua_State *L, int arg)
{
    if (lua_getmetatable(L, arg)) {
        if (lua_rawequal(L, -1, arg + 1)) {
            lua_pop(L, 1);
            return;
        }
        lua_pop(L, 1);
    }
    const char *got = lua_isnil(L, arg) ? "nil" : kind_of(L, arg);
    lua_getfield(L, arg + 1, "__name");
    lmpe_error(L, "calling '%s' on bad self (%s expected, got %s)", lua_tostring(L, arg + 2),
               lua_tostring(L, -1), got);
}

void
lmpe_checktype(lua_State *L, int arg, int type)
{
    if (lua_type(L, arg) != type)
        lmpe_typeerror(L, arg, lua_typename(L, type));
}

void
lmpe_checkany(lua_State *L, int arg)
{
    if (lua_type(L, arg) == LUA_TNONE)
        lmpe_argerror(L, arg, "value expected, got no value");
}

const char *
lmpe_checklstring(lua_State *L, int arg, size_t *size)
{
    const char *s = lua_tolstring(L, arg, size);
    if (!s)
        lmpe_typeerror(L, arg, lua_typename(L, LUA_TSTRING));
    return s;
}

const char *
lmpe_optlstring(lua_State *L, int arg, const char *other, size_t *size)
{
    if (!lua_isnoneornil(L, arg))
        return lmpe_checklstring(L, arg, size);
    if (size)
        *size = other ? strlen(other) : 0;
    return other;
}

lua_Integer
lmpe_checkinteger(lua_State *L, int arg)
{
    int is;
    lua_Integer n = lua_tointegerx(L, arg, &is);
    if (!is && lua_isnumber(L, arg))
        lmpe_argerror(L, arg, "number has no integer representation");
    if (!is)
        lmpe_typeerror(L, arg, lua_typename(L, LUA_TNUMBER));
    return n;
}

lua_Integer
lmpe_optinteger(lua_State *L, int arg, lua_Integer other)
{
    return lua_isnoneornil(L, arg) ? other : lmpe_checkinteger(L, arg);
}

lua_Number
lmpe_checknumber(lua_State *L, int arg)
{
    int is;
    lua_Number n = lua_tonumberx(L, arg, &is);
    if (!is)
        lmpe_typeerror(L, arg, lua_typename(L, LUA_TNUMBER));
    return n;
}

void *
lmpe_checkudata(lua_State *L, int arg, const char *name)
{
    void *p = luaL_testudata(L, arg, name);
    if (!p)
        lmpe_typeerror(L, arg, name);
    return p;
}

int
lmpe_checkoption(lua_State *L, int arg, const char *other, const char *const list[])
{
    const char *name = other ? lmpe_optlstring(L, arg, other, NULL)
                             : lmpe_checklstring(L, arg, NULL);
    for (int i = 0; list[i]; i++)
        if (strcmp(list[i], name) == 0)
            return i;
    return lmpe_argerror(L, arg, lua_pushfstring(L, "invalid option '%s'", name));
}
