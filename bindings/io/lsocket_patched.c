/* SPDX-License-Identifier: MIT
 *
 * lsocket_patched.c - receive and send of LuaSocket's stream sockets after mp.monkey.patch_all().
 * The socket stays LuaSocket's; a table has the stream of each (lsocket.h).
 */
#include "io/lsocket.h"

/* Upvalues of the methods, behind the state. */
enum { CLASS = 2, STREAMS, ADOPT, STOCK, GETFD };

/* Calls LuaSocket's own, which says what is wrong with the arguments. */
static int
call_stock(lua_State *L)
{
    lua_pushvalue(L, lua_upvalueindex(STOCK));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

/* The stream of the socket at index 1; NULL: it is none of this class. */
static lmpe_socket *
stream_of(lua_State *L)
{
    if (lua_type(L, 1) != LUA_TUSERDATA || !lua_getmetatable(L, 1))
        return NULL;
    int is_ours = lua_rawequal(L, -1, lua_upvalueindex(CLASS));
    lua_pop(L, 1);
    if (!is_ours)
        return NULL;
    lua_pushvalue(L, 1);
    if (lua_rawget(L, lua_upvalueindex(STREAMS)) == LUA_TNIL) {
        lua_pop(L, 1);
        lua_pushvalue(L, lua_upvalueindex(ADOPT));
        lua_pushvalue(L, 1);
        lua_call(L, 1, 1);
    }
    lmpe_socket *s = lua_touserdata(L, -1); /* kept by the table as long as the socket */
    lua_pop(L, 1);
    lua_pushvalue(L, lua_upvalueindex(GETFD));
    lua_pushvalue(L, 1);
    lua_call(L, 1, 1);
    s->fd = (int)lua_tointeger(L, -1);
    lua_pop(L, 1);
    return s;
}

static int
receive(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lmpe_socket *s = stream_of(L);
    int n = s ? lmpe_socket_receive(L, S, s) : LMPE_MISUSED;
    return n == LMPE_MISUSED ? call_stock(L) : n;
}

static int
send_bytes(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lmpe_socket *s = stream_of(L);
    int n = s ? lmpe_socket_send(L, S, s) : LMPE_MISUSED;
    return n == LMPE_MISUSED ? call_stock(L) : n;
}

/* ---- for the modules in Lua ---- */

static lmpe_socket *
check_stream(lua_State *L)
{
    return luaL_checkudata(L, 1, LMPE_SOCKET);
}

static double
seconds_at(lua_State *L, int idx)
{
    return lua_isnoneornil(L, idx) ? -1 : luaL_checknumber(L, idx);
}

/* stream_new(bytes, tells_elapsed) -> the state of a socket; bytes: the input that LuaSocket had
 * already */
static int
stream_new(lua_State *L)
{
    size_t size;
    const char *bytes = luaL_checklstring(L, 1, &size);
    lmpe_socket *s = lmpe_socket_new(L);
    s->tells_elapsed = (uint8_t)lua_toboolean(L, 2);
    if (lmpe_socket_append(s, bytes, size) != MPE_OK)
        return lmpe_raise(L, MPE_ENOMEM, "receive");
    return 1;
}

/* stream_limits(stream, block, total): seconds, or nil */
static int
stream_limits(lua_State *L)
{
    lmpe_socket *s = check_stream(L);
    s->block = seconds_at(L, 2);
    s->total = seconds_at(L, 3);
    return 0;
}

/* stream_closing(stream): its socket has no descriptor from now on */
static int
stream_closing(lua_State *L)
{
    lmpe_socket_closing(lmpe_self_or_closed(L), check_stream(L));
    return 0;
}

/* stream_input(stream) -> the bytes that were received and not taken */
static int
stream_input(lua_State *L)
{
    lmpe_socket *s = check_stream(L);
    lua_pushlstring(L, s->bytes ? s->bytes + s->first : "", lmpe_socket_available(s));
    return 1;
}

/* stream_counts(stream [, 0]) -> bytes received and sent so far; 0 starts anew */
static int
stream_counts(lua_State *L)
{
    lmpe_socket *s = check_stream(L);
    lua_pushinteger(L, (lua_Integer)s->received);
    lua_pushinteger(L, (lua_Integer)s->sent);
    if (lua_toboolean(L, 2))
        s->received = s->sent = 0;
    return 2;
}

/* stream_method("receive" | "send", class, streams, adopt, stock, getfd) -> a method. class: the
 * metatable of the sockets; streams: of each its stream; adopt(socket): makes one; stock: the
 * method for calls with wrong arguments. */
static int
stream_method(lua_State *L)
{
    static const char *const names[] = {"receive", "send", NULL};
    int which = luaL_checkoption(L, 1, NULL, names);
    lua_settop(L, GETFD);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_replace(L, 1);
    lua_pushcclosure(L, which == 0 ? receive : send_bytes, GETFD);
    return 1;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"stream_new", stream_new},
                                         {"stream_limits", stream_limits},
                                         {"stream_closing", stream_closing},
                                         {"stream_input", stream_input},
                                         {"stream_counts", stream_counts},
                                         {"stream_method", stream_method},
                                         {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
}

const lmpe_module lmpe_socket_patched_module = {.open = on_open};
