/* SPDX-License-Identifier: MIT
 *
 * lconnect.c - a stream to a server of another protocol than HTTP, through libcurl: it makes the
 * connection over TCP, TLS or the socket of a path, verifies the certificate, and leaves the bytes to
 * the caller. mpengine/remote/connection.lua waits for the descriptor between the calls.
 */
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
    curl_socket_t fd; /* CURL_SOCKET_BAD: there is none yet */
} stream;

static void
set_options(lua_State *L, stream *s)
{
    const lmpe_curl_api *curl = &lmpe_libcurl;
    CURL *easy = s->t.easy;
    const char *path = lmpe_text_field(L, "path"), *ca = lmpe_text_field(L, "ca"),
               *resolve = lmpe_text_field(L, "resolve");
    curl->easy_setopt(easy, CURLOPT_URL, lmpe_text_field(L, "url"));
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
    s->t.resolve = curl->slist_append(NULL, resolve);
    if (!s->t.resolve)
        luaL_error(L, "out of memory");
    curl->easy_setopt(easy, CURLOPT_RESOLVE, s->t.resolve);
}

/* connect_stream(connections, options) -> stream: starts to connect. Fields: url (http://host:port, https: with
 * TLS), path of a socket, ca (a file), resolve (a line for the host), timeout. */
static int
new_stream(lua_State *L)
{
    stream *s = lmpe_transfer_new(L, STREAM, sizeof *s, UV_CONNECTIONS);
    s->fd = CURL_SOCKET_BAD;
    set_options(L, s);
    return lmpe_transfer_run(L, &s->t);
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
        return lmpe_transfer_failure(L, &s->t);
    lmpe_libcurl.easy_getinfo(s->t.easy, CURLINFO_ACTIVESOCKET, &s->fd);
    setsockopt(s->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &limit, sizeof limit); /* a path's has none */
    lua_pushinteger(L, s->fd);
    return 1;
}

/* stream:connect() -> the descriptor, once there is a connection | nil, message */
static int
stream_connect(lua_State *L)
{
    stream *s = lmpe_transfer_check(L, STREAM);
    luaL_argcheck(L, s->t.easy, 1, "the stream is closed");
    lmpe_await *a = lmpe_await_new(s->t.S, s->t.deadline, "timeout");
    a->scratch[0] = (uintptr_t)s;
    a->attempt = attempt_connect;
    a->finish = finish_connect;
    return lmpe_await_run(L, s->t.S, a);
}

static int
push_reason(lua_State *L, CURLcode rc)
{
    luaL_pushfail(L);
    lua_pushstring(L, rc == CURLE_AGAIN ? "again" : lmpe_libcurl.easy_strerror(rc));
    return 2;
}

static stream *
check_connected(lua_State *L)
{
    stream *s = lmpe_transfer_check(L, STREAM);
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
    CURLcode rc = lmpe_libcurl.easy_send(s->t.easy, bytes + from, size - from, &sent);
    if (rc != CURLE_OK)
        return push_reason(L, rc);
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
    CURLcode rc = lmpe_libcurl.easy_recv(s->t.easy, bytes, sizeof bytes, &n);
    if (rc != CURLE_OK)
        return push_reason(L, rc);
    if (n == 0) {
        luaL_pushfail(L);
        lua_pushliteral(L, "closed");
        return 2;
    }
    lua_pushlstring(L, bytes, n);
    return 1;
}

/* stream:discard(): what was written, and has not arrived, never does, once the stream is closed: the other end gets
 * a reset. */
static int
stream_discard(lua_State *L)
{
    const struct linger none = {.l_onoff = 1, .l_linger = 0};
    setsockopt(check_connected(L)->fd, SOL_SOCKET, SO_LINGER, &none,
               sizeof none); /* a path's has no effect */
    return 0;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"connect_stream", new_stream}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"connect", stream_connect},
                                       {"read", stream_read},
                                       {"write", stream_write},
                                       {"discard", stream_discard},
                                       {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
    lmpe_transfer_kind(L, STREAM, sizeof(stream), methods);
}

const lmpe_module lmpe_connect_module = {.open = on_open};
