/* SPDX-License-Identifier: MIT
 *
 * lsocket_patched.c - the waiting methods of LuaSocket's and LuaSec's sockets after
 * mp.monkey.patch_all(). The socket stays LuaSocket's, and never waits itself; a table has the state
 * of each (lsocket.h), with its timeouts.
 *
 * receive and send of a stream are made here as a whole. The other methods are LuaSocket's own,
 * called again when the descriptor is ready until they do not time out, so that their results are
 * its results. One that is called wrongly is called once more as RAISE, for the message.
 */
#include "io/lsocket.h"
#include "task/lturn.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/* Upvalues of the methods, behind the state. RAISE: the library's method, which is called with
 * wrong arguments. */
enum { CLASS = 2, STREAMS, ADOPT, RAISE, GETFD, STREAM_LAST = GETFD, OWN, EVENT, BY_NAME };

/* Calls LuaSocket's own, which says what is wrong with the arguments. */
static int
call_stock(lua_State *L)
{
    lua_pushvalue(L, lua_upvalueindex(RAISE));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

/* A socket gets its descriptor by connect or bind, and may be given another by setfd. 0: it is no socket
 * of this class. */
static int
update_fd(lua_State *L, lmpe_socket *s)
{
    lua_pushvalue(L, lua_upvalueindex(GETFD));
    lua_pushvalue(L, 1);
    int ok = lua_pcall(L, 1, 1, 0) == LUA_OK;
    if (ok)
        s->fd = (int)lua_tointeger(L, -1);
    lua_pop(L, 1);
    return ok;
}

/* The state of the socket at index 1; NULL: it is none of this class. */
static lmpe_socket *
state_of(lua_State *L)
{
    if (lua_type(L, 1) != LUA_TUSERDATA)
        return NULL;
    lua_pushvalue(L, 1);
    if (lua_rawget(L, lua_upvalueindex(STREAMS)) == LUA_TNIL) {
        int is_ours = lua_getmetatable(L, 1) && lua_rawequal(L, -1, lua_upvalueindex(CLASS));
        if (!is_ours)
            return NULL;
        lua_pushvalue(L, lua_upvalueindex(ADOPT));
        lua_pushvalue(L, 1);
        lua_call(L, 1, 1);
    }
    lmpe_socket *s = lua_touserdata(L, -1); /* kept by the table as long as the socket */
    return update_fd(L, s) ? s : NULL;
}

/* The same of a stream, whose input is kept here from now on; the stack stays as it is. */
static lmpe_socket *
stream_of(lua_State *L)
{
    int top = lua_gettop(L);
    lmpe_socket *s = state_of(L);
    if (s && !s->is_stream) {
        lua_pushvalue(L, lua_upvalueindex(ADOPT));
        lua_pushvalue(L, 1);
        lua_pushboolean(L, 1);
        lua_call(L, 2, 0);
    }
    lua_settop(L, top);
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

/* ---- the methods that are LuaSocket's own ---- */

static int call_own(lua_State *L, lmpe *S, lmpe_socket *s, uint64_t deadline, int count);
static int finish_connect(lua_State *L, lmpe *S, lmpe_await *a, int status);

/* Is it the first attempt? What is waited for has not come yet. */
static int
attempt_ready(lmpe *S, lmpe_await *a)
{
    (void)S;
    return a->scratch[2]++ == 0 ? MPE_EAGAIN : MPE_OK;
}

static int
finish_ready(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    lmpe_socket *s = (lmpe_socket *)(uintptr_t)a->scratch[0];
    int is_over = a->ending == LMPE_TIMED_OUT;
    if (status != MPE_OK && status != MPE_ETIMEDOUT)
        return lmpe_raise(L, status, "wait");
    return call_own(L, S, s, is_over ? MPE_NOW : a->deadline, (int)a->scratch[1]);
}

static int
is_reason(lua_State *L, int idx, const char *reason)
{
    return lua_type(L, idx) == LUA_TSTRING && strcmp(lua_tostring(L, idx), reason) == 0;
}

/* The event to wait for after a call that has failed with the reason at idx; 0: none. */
static int
event_after(lua_State *L, int idx)
{
    if (is_reason(L, idx, "timeout") || is_reason(L, idx, "Operation already in progress"))
        return (int)lua_tointeger(L, lua_upvalueindex(EVENT));
    return is_reason(L, idx, "wantread")    ? MPE_READABLE
           : is_reason(L, idx, "wantwrite") ? MPE_WRITABLE
                                            : 0;
}

static int
wait_ready(lua_State *L, lmpe *S, lmpe_socket *s, uint64_t deadline, int count, int event)
{
    lua_settop(L, count);
    lmpe_await *a = lmpe_await_new(S, deadline, "timeout");
    a->scratch[0] = (uintptr_t)s;
    a->scratch[1] = (uint64_t)count;
    a->source = LMPE_FD;
    a->on.fd = s->fd;
    a->event = (uint8_t)(event | MPE_EDGE);
    a->attempt = attempt_ready;
    a->finish = lua_isnil(L, lua_upvalueindex(BY_NAME)) ? finish_ready : finish_connect;
    return lmpe_await_run(L, S, a);
}

/* What has come of connecting, as LuaSocket finds out; 0: nothing yet. */
static int
push_connected(lua_State *L, lmpe_socket *s)
{
    struct sockaddr_storage peer;
    socklen_t size = sizeof peer, error_size = sizeof s->error;
    if (!update_fd(L, s) || getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &s->error, &error_size) != 0)
        s->error = EBADF;
    if (s->error) {
        lua_pushnil(L);
        lua_pushstring(L, s->error == EBADF ? "closed" : lmpe_socket_word(s->error));
        return 2;
    }
    if (getpeername(s->fd, (struct sockaddr *)&peer, &size) != 0)
        return 0;
    lua_pushnumber(L, 1); /* a float, as LuaSocket's */
    return 1;
}

static int
finish_connect(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    lmpe_socket *s = (lmpe_socket *)(uintptr_t)a->scratch[0];
    int n = 0;
    if (status != MPE_OK && status != MPE_ETIMEDOUT)
        return lmpe_raise(L, status, "connect");
    if ((n = push_connected(L, s)) > 0)
        return n;
    if (a->ending != LMPE_TIMED_OUT)
        return wait_ready(L, S, s, a->deadline, (int)a->scratch[1], MPE_WRITABLE);
    lua_pushnil(L);
    lua_pushliteral(L, "timeout");
    return 2;
}

/* Calls it with the arguments of the call, the first count values of the stack. */
static int
call_own(lua_State *L, lmpe *S, lmpe_socket *s, uint64_t deadline, int count)
{
    luaL_checkstack(L, count + 8, NULL);
    lua_pushvalue(L, lua_upvalueindex(OWN));
    for (int i = 1; i <= count; i++)
        lua_pushvalue(L, i);
    if (lua_pcall(L, count, LUA_MULTRET, 0) != LUA_OK) {
        lua_settop(L, count);
        return call_stock(L);
    }
    int n = lua_gettop(L) - count, failed = n > 0 && !lua_toboolean(L, count + 1);
    int event = failed ? event_after(L, count + 2) : 0;
    if (event && deadline != MPE_NOW && update_fd(L, s) && s->fd >= 0)
        return wait_ready(L, S, s, deadline, count, event);
    return event ? lmpe_let_others(L, S, n) : lmpe_did(L, S, failed ? LMPE_LOOKED : LMPE_DID, n);
}

static int
own_method(lua_State *L)
{
    int count = lua_gettop(L);
    lmpe *S = lmpe_self(L);
    lmpe_socket *s = state_of(L);
    lua_settop(L, count);
    if (!s)
        return call_stock(L);
    lmpe_await_check(L, S);
    return call_own(L, S, s, lmpe_socket_deadline(s), count);
}

static int
all_results(lua_State *L, int status, lua_KContext ctx)
{
    (void)status, (void)ctx;
    return lua_gettop(L);
}

/* The methods whose first argument is a host: one that is a name is looked up by BY_NAME. */
static int
own_method_of_host(lua_State *L)
{
    const char *host = lua_tostring(L, 2);
    if (!host || strcmp(host, "*") == 0 || lmpe_is_address(host))
        return own_method(L);
    lua_pushvalue(L, lua_upvalueindex(BY_NAME));
    lua_insert(L, 1);
    lua_callk(L, lua_gettop(L) - 1, LUA_MULTRET, 0, all_results);
    return all_results(L, LUA_OK, 0);
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

/* stream_new() -> the state of a socket */
static int
stream_new(lua_State *L)
{
    lmpe_socket_new(L);
    return 1;
}

/* stream_adopt(state, bytes, tells_elapsed): the socket is read and written here from now on; bytes:
 * the input that LuaSocket had already */
static int
stream_adopt(lua_State *L)
{
    size_t size;
    lmpe_socket *s = check_stream(L);
    const char *bytes = luaL_checklstring(L, 2, &size);
    s->tells_elapsed = (uint8_t)lua_toboolean(L, 3);
    s->is_stream = 1;
    s->received -= size; /* LuaSocket counts it already */
    if (lmpe_socket_append(s, bytes, size) != MPE_OK)
        return lmpe_raise(L, MPE_ENOMEM, "receive");
    return 0;
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

/* stream_counts(stream [, anew]) -> bytes taken and sent so far; anew: they count from 0 on */
static int
stream_counts(lua_State *L)
{
    lmpe_socket *s = check_stream(L);
    lua_settop(L, 2);
    lua_pushinteger(L, (lua_Integer)lmpe_socket_taken(s));
    lua_pushinteger(L, (lua_Integer)s->sent);
    if (lua_toboolean(L, 2))
        s->received = s->sent = 0;
    return 2;
}

static int
method(lua_State *L, lua_CFunction f, int last)
{
    luaL_argcheck(L, lua_gettop(L) >= last - 1, last - 1, "missing");
    lua_settop(L, last - 1);
    lua_pushvalue(L, lua_upvalueindex(1)); /* the state comes first */
    lua_insert(L, 1);
    lua_pushcclosure(L, f, last);
    return 1;
}

/* receive_method(class, streams, adopt, raise, getfd) -> a method. class: the metatable of the sockets;
 * streams: of each its state; adopt(socket, is_stream) makes one; raise: the method for calls with
 * wrong arguments. */
static int
receive_method(lua_State *L)
{
    return method(L, receive, STREAM_LAST);
}

static int
send_method(lua_State *L)
{
    return method(L, send_bytes, STREAM_LAST);
}

/* method_of_own(class, streams, adopt, raise, getfd, own, event, by_name) -> a method. own: the
 * library's method; event: "r" or "w", what it waits for; by_name: what connects to hosts that are names,
 * or nil: the method has no host */
static int
method_of_own(lua_State *L)
{
    const char *event = luaL_checkstring(L, EVENT - 1);
    lua_pushinteger(L, *event == 'r' ? MPE_READABLE : MPE_WRITABLE);
    lua_replace(L, EVENT - 1);
    lua_settop(L, BY_NAME - 1);
    return method(L, lua_isnil(L, BY_NAME - 1) ? own_method : own_method_of_host, BY_NAME);
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {
        {"stream_new", stream_new},         {"stream_adopt", stream_adopt},
        {"stream_limits", stream_limits},   {"stream_closing", stream_closing},
        {"stream_input", stream_input},     {"stream_counts", stream_counts},
        {"receive_method", receive_method}, {"send_method", send_method},
        {"method_of_own", method_of_own},   {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
}

const lmpe_module lmpe_socket_patched_module = {.open = on_open};
