/* SPDX-License-Identifier: MIT
 *
 * lcheck.h - messages about wrong arguments, in place of the functions of lauxlib. A message
 * names the call as the manual does, "Queue:get", however the function was reached. An argument
 * is counted without the object. The place is the script's line nearest to the call.
 * mpengine/check.lua makes the messages of calls that are written in Lua, in the same form.
 */
#ifndef LMPE_LCHECK_H
#define LMPE_LCHECK_H

#include <lauxlib.h>
#include <lua.h>

/* Pushes "script.lua:3: " of the innermost function of the script; "" outside any. */
void lmpe_push_place(lua_State *L);
int lmpe_error(lua_State *L, const char *format, ...);
int lmpe_argerror(lua_State *L, int arg, const char *what);
int lmpe_typeerror(lua_State *L, int arg, const char *expected);
/* Raises for a call at the wrong time: "CALL: words", by a key of mpengine/messages.lua. CALL is
 * the function that runs; of the second, the given one. */
int lmpe_misuse(lua_State *L, const char *key);
int lmpe_misuse_in(lua_State *L, const char *call, const char *key);
/* Arguments arg to arg + 2 are an object, the metatable of its type and the call for a message:
 * raises when the object is of another type. For methods in Lua that call C anyway. */
void lmpe_check_type_of(lua_State *L, int arg);
void lmpe_checktype(lua_State *L, int arg, int type);
void lmpe_checkany(lua_State *L, int arg);
const char *lmpe_checklstring(lua_State *L, int arg, size_t *size);
const char *lmpe_optlstring(lua_State *L, int arg, const char *other, size_t *size);
lua_Integer lmpe_checkinteger(lua_State *L, int arg);
lua_Integer lmpe_optinteger(lua_State *L, int arg, lua_Integer other);
lua_Number lmpe_checknumber(lua_State *L, int arg);
void *lmpe_checkudata(lua_State *L, int arg, const char *name);
int lmpe_checkoption(lua_State *L, int arg, const char *other, const char *const list[]);

#ifndef LMPE_AS_LUA
#define luaL_error lmpe_error
#define luaL_argerror lmpe_argerror
#define luaL_typeerror lmpe_typeerror
#define luaL_checktype lmpe_checktype
#define luaL_checkany lmpe_checkany
#define luaL_checklstring lmpe_checklstring
#define luaL_optlstring lmpe_optlstring
#define luaL_checkinteger lmpe_checkinteger
#define luaL_optinteger lmpe_optinteger
#define luaL_checknumber lmpe_checknumber
#define luaL_checkudata lmpe_checkudata
#define luaL_checkoption lmpe_checkoption
#endif

#endif
