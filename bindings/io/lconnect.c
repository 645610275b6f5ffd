/* SPDX-License-Identifier: MIT
 *
 * lconnect.c - a stream to a server of another protocol than HTTP, through libcurl: it makes the
 * connection over TCP, TLS or the socket of a path, verifies the certificate, and leaves the bytes to
 * the caller. mpengine/remote/connection.lua waits for the descriptor between the calls.
 */
#include "base/lfinalize.h"
#include "io/lhttp.h"
#include "task/ltask.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#define STREAM "mpengine.stream"
#define PIECE (64u << 10)
#define UNANSWERED_MS 10000 /* a peer that acknowledges nothing for so long is gone */

/* User values: memory that curl points into. */
enum { UV_CONNECTIONS = 1 };

typedef struct stream {
    lmpe_transfer t;
    lmpe *S;
    const lmpe_curl_api *curl;
    struct curl_slist *resolve;
    uint64_t deadline;
    curl_socket_t fd; /* CURL_SOCKET_BAD: there is none yet */
} stream;

static stream *
check_stream(lua_State *L)
{
    stream *s = luaL_checkudata(L, 1, STREAM);
    if (!s->S->e)
        lmpe_raise_closed(L);
    return s;
}

static const char *
text(lua_State *L, const char *name)
{
    lua_getfield(L, 1, name);
    const char *s = lua_tostring(L, -1);
    lua_pop(L, 1);
    return s;
}

static void
set_options(lua_State *L, stream *s)
{
    const lmpe_curl_api *curl = s->curl;
    CURL *easy = s->t.easy;
    const char *path = text(L, "path"), *ca = text(L, "ca"), *resolve = text(L, "resolve");
    curl->easy_setopt(easy, CURLOPT_URL, text(L, "url"));
    curl->easy_setopt(easy, CURLOPT_CONNECT_ONLY, 1L);
    curl->easy_setopt(easy, CURLOPT_SSL_ENABLE_ALPN, 0L);
    curl->easy_setopt(easy, CURLOPT_PROXY, "");
    curl->easy_setopt(easy, CURLOPT_NOPROXY, "");
    curl->easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl->easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, 15L);
    curl->easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, 5L);
    if (path)
        curl->easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, path);
    if (ca)
        curl->easy_setopt(easy, CURLOPT_CAINFO, ca);
    if (!resolve)
        return;
    s->resolve = curl->slist_append(NULL, resolve);
    if (!s->resolve)
        luaL_error(L, "out of memory");
    curl->easy_setopt(easy, CURLOPT_RESOLVE, s->resolve);
}

static int
end_stream(stream *s)
{
    s->fd = CURL_SOCKET_BAD;
    lmpe_transfer_close(s->S, &s->t);
    if (s->resolve)
        s->curl->slist_free_all(s->resolve);
    s->resolve = NULL;
    return 0;
}

static int
stream_close(lua_State *L)
{
    return end_stream(check_stream(L));
}

static int
stream_gc(lua_State *L)
{
    stream *s = lmpe_finalized(L, STREAM, sizeof *s);
    return s && s->S->e ? end_stream(s) : 0;
}

/* connect_stream(connections, options) -> stream: starts to connect. Fields: url (http://host:port, https: with
 * TLS), path of a socket, ca (a file), resolve (a line for the host), timeout. */
static int
new_stream(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    const lmpe_curl_api *curl = lmpe_check_curl(L);
    uint64_t deadline;
    lmpe_connections *from = lmpe_transfer_arguments(L, &deadline);
    lmpe_await_check(L, S);
    stream *s = lua_newuserdatauv(L, sizeof *s, UV_CONNECTIONS);
    memset(s, 0, sizeof *s);
    s->S = S;
    s->curl = curl;
    s->deadline = deadline;
    s->fd = CURL_SOCKET_BAD;
    if (lmpe_transfer_open(curl, &s->t) != MPE_OK)
        return luaL_error(L, "out of memory");
    luaL_setmetatable(L, STREAM);
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, -2, UV_CONNECTIONS);
    set_options(L, s);
    const char *why = lmpe_transfer_start(from, &s->t);
    if (why)
        return luaL_error(L, "%s", why);
    return 1;
}

static int
attempt_connect(lmpe *S, lmpe_await *a)
{
    stream *s = (stream *)(uintptr_t)a->scratch[0];
    (void)S;
    a->source = LMPE_LIST;
    a->on.list = &s->t.waiters;
    return s->t.done ? MPE_OK : MPE_EAGAIN;
}

static int
finish_connect(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    stream *s = (stream *)(uintptr_t)a->scratch[0];
    unsigned limit = UNANSWERED_MS;
    (void)S;
    if (status != MPE_OK)
        return lmpe_outcome(L, status, "timeout");
    if (s->t.result != CURLE_OK)
        return lmpe_transfer_failure(L, s->curl, &s->t);
    s->curl->easy_getinfo(s->t.easy, CURLINFO_ACTIVESOCKET, &s->fd);
    setsockopt(s->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &limit, sizeof limit); /* a path's has none */
    lua_pushinteger(L, s->fd);
    return 1;
}

/* stream:connect() -> the descriptor, once there is a connection | nil, message */
static int
stream_connect(lua_State *L)
{
    stream *s = check_stream(L);
    luaL_argcheck(L, s->t.easy, 1, "the stream is closed");
    lmpe_await *a = lmpe_await_new(s->S, s->deadline, "timeout");
    a->scratch[0] = (uintptr_t)s;
    a->attempt = attempt_connect;
    a->finish = finish_connect;
    return lmpe_await_run(L, s->S, a);
}

static int
push_reason(lua_State *L, stream *s, CURLcode rc)
{
    luaL_pushfail(L);
    lua_pushstring(L, rc == CURLE_AGAIN ? "again" : s->curl->easy_strerror(rc));
    return 2;
}

static stream *
check_connected(lua_State *L)
{
    stream *s = check_stream(L);
    luaL_argcheck(L, s->t.easy && s->fd != CURL_SOCKET_BAD, 1, "the stream is not connected");
    return s;
}

/* stream:write(bytes, from) -> how many were taken | nil, "again" | nil, message; does not wait */
static int
stream_write(lua_State *L)
{
    stream *s = check_connected(L);
    size_t size, sent = 0;
    const char *bytes = luaL_checklstring(L, 2, &size);
    size_t from = (size_t)luaL_checkinteger(L, 3) - 1;
    luaL_argcheck(L, from < size, 3, "beyond the bytes");
    CURLcode rc = s->curl->easy_send(s->t.easy, bytes + from, size - from, &sent);
    if (rc != CURLE_OK)
        return push_reason(L, s, rc);
    lua_pushinteger(L, (lua_Integer)sent);
    return 1;
}

/* stream:read() -> bytes | nil, "again" | nil, "closed" | nil, message; does not wait */
static int
stream_read(lua_State *L)
{
    stream *s = check_connected(L);
    char bytes[PIECE];
    size_t n = 0;
    CURLcode rc = s->curl->easy_recv(s->t.easy, bytes, sizeof bytes, &n);
    if (rc != CURLE_OK)
        return push_reason(L, s, rc);
    if (n == 0) {
        luaL_pushfail(L);
        lua_pushliteral(L, "closed");
        return 2;
    }
    lua_pushlstring(L, bytes, n);
    return 1;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"connect_stream", new_stream}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"connect", stream_connect},
                                       {"read", stream_read},
                                       {"write", stream_write},
                                       {"close", stream_close},
                                       {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
    lmpe_http_kind(L, STREAM, methods, stream_close, stream_gc);
}

const lmpe_module lmpe_connect_module = {.open = on_open};
