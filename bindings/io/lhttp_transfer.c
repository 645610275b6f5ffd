/* SPDX-License-Identifier: MIT
 *
 * lhttp_transfer.c - what the userdata of transfers have in common, HTTP requests (lhttp.c) and streams
 * (lconnect.c): they are made, closed by their scope or the collector, and fail in the same way. Each begins
 * with an lmpe_transfer, and its last user value is the connections that it uses.
 */
#include "base/lfinalize.h"
#include "base/lsystem.h"
#include "io/lhttp.h"
#include "task/ltask.h"

#include <string.h>

const char *
lmpe_text_field(lua_State *L, const char *name)
{
    lua_getfield(L, 1, name);
    const char *s = lua_tostring(L, -1);
    lua_pop(L, 1);
    return s;
}

void *
lmpe_transfer_new(lua_State *L, const char *kind, size_t size, int values)
{
    lmpe *S = lmpe_self(L);
    lmpe_check_curl(L);
    luaL_checkudata(L, 1, LMPE_CONNECTIONS);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
    lua_insert(L, 1);
    lua_getfield(L, 1, "timeout");
    uint64_t deadline = lmpe_check_deadline(L, 3);
    lmpe_await_check(L, S);
    lmpe_transfer *t = lua_newuserdatauv(L, size, values);
    memset(t, 0, size);
    t->deadline = deadline;
    if (lmpe_transfer_open(S, t) != MPE_OK)
        luaL_error(L, "out of memory");
    luaL_setmetatable(L, kind);
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, -2, values);
    return t;
}

int
lmpe_transfer_run(lua_State *L, lmpe_transfer *t)
{
    const char *why = lmpe_transfer_start(lua_touserdata(L, 2), t);
    if (why)
        return luaL_error(L, "%s", why);
    return 1;
}

void *
lmpe_transfer_check(lua_State *L, const char *kind)
{
    lmpe_transfer *t = luaL_checkudata(L, 1, kind);
    if (!t->S->e)
        lmpe_raise_closed(L);
    return t;
}

/* The kernel's reason is reported where curl has only a general text. */
static void
push_cause(lua_State *L, const lmpe_transfer *t)
{
    long number = t->socket_error;
    const char *words = t->error[0] ? t->error : lmpe_libcurl.easy_strerror(t->result);
    if (number) {
        lua_pushfstring(L, "cannot make a socket: %s", lmpe_reason((int)number));
        return;
    }
    if (t->result == CURLE_COULDNT_CONNECT || t->result == CURLE_RECV_ERROR ||
        t->result == CURLE_SEND_ERROR)
        lmpe_libcurl.easy_getinfo(t->easy, CURLINFO_OS_ERRNO, &number);
    if (number)
        lua_pushfstring(L, "%s (%s)", words, lmpe_reason((int)number));
    else
        lua_pushstring(L, words);
}

int
lmpe_transfer_failure(lua_State *L, const lmpe_transfer *t)
{
    luaL_pushfail(L);
    if (t->result == CURLE_OPERATION_TIMEDOUT)
        lua_pushliteral(L, "timeout");
    else if (t->failed)
        lua_pushstring(L, mpe_strerror(t->failed));
    else
        push_cause(L, t);
    return 2;
}

/* The upvalues are the name of the kind and its size. */
static int
transfer_close(lua_State *L)
{
    lmpe_transfer_close(lmpe_transfer_check(L, lua_tostring(L, lua_upvalueindex(1))));
    return 0;
}

static int
transfer_gc(lua_State *L)
{
    const char *kind = lua_tostring(L, lua_upvalueindex(1));
    lmpe_transfer *t = lmpe_finalized(L, kind, (size_t)lua_tointeger(L, lua_upvalueindex(2)));
    if (t && t->S->e)
        lmpe_transfer_close(t);
    return 0;
}

void
lmpe_transfer_kind(lua_State *L, const char *name, size_t size, const luaL_Reg *methods)
{
    static const luaL_Reg ends[] = {
        {"__close", transfer_close}, {"__gc", transfer_gc}, {NULL, NULL}};
    static const luaL_Reg close[] = {{"close", transfer_close}, {NULL, NULL}};
    luaL_newmetatable(L, name);
    lua_pushstring(L, name);
    lua_pushinteger(L, (lua_Integer)size);
    luaL_setfuncs(L, ends, 2);
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_pushstring(L, name);
    lua_pushinteger(L, (lua_Integer)size);
    luaL_setfuncs(L, close, 2);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}
