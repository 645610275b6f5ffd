/* SPDX-License-Identifier: MIT
 *
 * lsocket_class.c - the stream sockets of this library, as servers give them to their handlers: the
 * methods of LuaSocket's, which suspend only the task whether or not LuaSocket is patched, and no
 * buffer while nothing has arrived.
 */
#include "base/lfinalize.h"
#include "io/llisten.h"
#include "io/lsocket.h"
#include "task/lturn.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static lmpe_socket *
check_socket(lua_State *L)
{
    return luaL_checkudata(L, 1, LMPE_SOCKET);
}

static int
fail(lua_State *L, int error)
{
    luaL_pushfail(L);
    lua_pushstring(L, error == EBADF ? "closed" : lmpe_socket_word(error));
    lua_pushinteger(L, error);
    return 3;
}

static void
close_socket(lmpe *S, lmpe_socket *s)
{
    int fd = s->fd;
    lmpe_socket_closing(S, s);
    if (fd >= 0 && s->owns_fd)
        close(fd);
}

/* ---- making ---- */

/* Pushes a socket that owns the descriptor. */
static void
push_socket(lua_State *L, int fd)
{
    lmpe_socket *s = lmpe_socket_new(L);
    s->fd = fd;
    s->owns_fd = 1;
}

/* listen(address, port, backlog) -> a listening socket | nil, message, errno. The address is
 * numeric, or "*". */
static int
listen_at(lua_State *L)
{
    lmpe_address a;
    size_t size;
    const char *text = luaL_checklstring(L, 1, &size);
    int error = lmpe_address_of(&a, text, size, (int)luaL_checkinteger(L, 2));
    if (error)
        return fail(L, error);
    int fd = lmpe_listen_at(&a, (int)luaL_checkinteger(L, 3));
    if (fd < 0)
        return fail(L, errno);
    push_socket(L, fd);
    return 1;
}

/* socket_copy(fd) -> a socket with a copy of that descriptor | nil, message, errno */
static int
socket_copy(lua_State *L)
{
    int fd = fcntl((int)luaL_checkinteger(L, 1), F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (fd < 0)
        return fail(L, errno);
    push_socket(L, fd);
    return 1;
}

/* ---- accept ---- */

static int
attempt_accept(lmpe *S, lmpe_await *a)
{
    lmpe_socket *s = (lmpe_socket *)(uintptr_t)a->scratch[0];
    (void)S;
    if (s->fd < 0)
        return MPE_ECLOSED;
    int fd = lmpe_accept_next(s->fd);
    if (fd >= 0) {
        a->scratch[1] = (uint64_t)fd;
        return MPE_OK;
    }
    if (errno == EAGAIN) {
        a->source = LMPE_FD;
        a->on.fd = s->fd;
        a->event = MPE_READABLE; /* others may accept here too: no edge */
        return MPE_EAGAIN;
    }
    s->error = errno;
    return MPE_ESYS;
}

static int
finish_accept(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    lmpe_socket *s = (lmpe_socket *)(uintptr_t)a->scratch[0];
    (void)S;
    if (status == MPE_OK) {
        push_socket(L, (int)a->scratch[1]);
        return 1;
    }
    if (status == MPE_ESYS)
        return fail(L, s->error);
    luaL_pushfail(L);
    lua_pushstring(L, status == MPE_ECLOSED ? "closed" : "timeout");
    return 2;
}

static int
socket_accept(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lmpe_socket *s = check_socket(L);
    lmpe_await *a = lmpe_await_new(S, lmpe_socket_deadline(s), "timeout");
    a->scratch[0] = (uintptr_t)s;
    a->attempt = attempt_accept;
    a->finish = finish_accept;
    return lmpe_await_run(L, S, a);
}

/* ---- receive and send ---- */

static int
socket_receive(lua_State *L)
{
    lmpe_socket *s = check_socket(L);
    int n = lmpe_socket_receive(L, lmpe_self(L), s);
    if (n != LMPE_MISUSED)
        return n;
    luaL_checkstring(L, 3);
    return luaL_argerror(L, 2, "'*l', '*a' or a number of bytes expected");
}

static int
socket_send(lua_State *L)
{
    lmpe_socket *s = check_socket(L);
    luaL_checkstring(L, 2);
    int n = lmpe_socket_send(L, lmpe_self(L), s);
    if (n != LMPE_MISUSED)
        return n;
    luaL_optinteger(L, 3, 1);
    return (int)luaL_optinteger(L, 4, -1);
}

/* ---- the other methods ---- */

static int
socket_close(lua_State *L)
{
    close_socket(lmpe_self_or_closed(L), check_socket(L));
    lua_pushinteger(L, 1);
    return 1;
}

static int
socket_gc(lua_State *L)
{
    lmpe_socket *s = lmpe_finalized(L, LMPE_SOCKET, sizeof *s);
    if (s)
        close_socket(lmpe_self_or_closed(L), s);
    return 0;
}

static double
check_seconds(lua_State *L, int idx)
{
    double seconds = lua_isnoneornil(L, idx) ? -1 : luaL_checknumber(L, idx);
    return seconds >= 0 ? seconds : -1;
}

/* settimeout([seconds [, "b" | "t"]]) -> 1 */
static int
socket_settimeout(lua_State *L)
{
    static const char *const modes[] = {"b", "t", NULL};
    lmpe_socket *s = check_socket(L);
    double seconds = check_seconds(L, 2);
    if (luaL_checkoption(L, 3, "b", modes) == 0)
        s->block = seconds;
    else
        s->total = seconds;
    lua_pushinteger(L, 1);
    return 1;
}

static int
socket_gettimeout(lua_State *L)
{
    lmpe_socket *s = check_socket(L);
    lua_pushnumber(L, s->block);
    lua_pushnumber(L, s->total);
    return 2;
}

static int
socket_getfd(lua_State *L)
{
    lua_pushinteger(L, check_socket(L)->fd);
    return 1;
}

/* setfd(fd): the socket gives up its descriptor, without closing it, and has this one, or none. */
static int
socket_setfd(lua_State *L)
{
    lmpe_socket *s = check_socket(L);
    int fd = (int)luaL_checkinteger(L, 2);
    lmpe_socket_closing(lmpe_self(L), s);
    s->fd = fd;
    return 0;
}

/* socket_lend(socket): another object closes its descriptor */
static int
socket_lend(lua_State *L)
{
    check_socket(L)->owns_fd = 0;
    return 0;
}

static int
push_address(lua_State *L, int (*get)(int, struct sockaddr *, socklen_t *))
{
    lmpe_socket *s = check_socket(L);
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    char host[NI_MAXHOST], port[NI_MAXSERV];
    if (get(s->fd, (struct sockaddr *)&address, &size) != 0)
        return fail(L, errno);
    if (getnameinfo((struct sockaddr *)&address, size, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return fail(L, EAFNOSUPPORT);
    lua_pushstring(L, host);
    lua_pushinteger(L, atoi(port));
    lua_pushstring(L, address.ss_family == AF_INET6 ? "inet6" : "inet");
    return 3;
}

static int
socket_getpeername(lua_State *L)
{
    return push_address(L, getpeername);
}

static int
socket_getsockname(lua_State *L)
{
    return push_address(L, getsockname);
}

/* shutdown(["both" | "send" | "receive"]) -> 1 | nil, reason */
static int
socket_shutdown(lua_State *L)
{
    static const char *const ways[] = {"receive", "send", "both", NULL};
    static const int numbers[] = {SHUT_RD, SHUT_WR, SHUT_RDWR};
    lmpe_socket *s = check_socket(L);
    int way = numbers[luaL_checkoption(L, 2, "both", ways)];
    if (shutdown(s->fd, way) != 0)
        return fail(L, errno);
    lua_pushinteger(L, 1);
    return 1;
}

static const char *const option_names[] = {"tcp-nodelay", "keepalive", "reuseaddr", NULL};
static const struct {
    int level, name;
} options[] = {{IPPROTO_TCP, TCP_NODELAY}, {SOL_SOCKET, SO_KEEPALIVE}, {SOL_SOCKET, SO_REUSEADDR}};

static int
socket_setoption(lua_State *L)
{
    lmpe_socket *s = check_socket(L);
    int which = luaL_checkoption(L, 2, NULL, option_names);
    int on = lua_isnone(L, 3) ? 1 : lua_toboolean(L, 3);
    if (setsockopt(s->fd, options[which].level, options[which].name, &on, sizeof on) != 0)
        return fail(L, errno);
    lua_pushinteger(L, 1);
    return 1;
}

static int
socket_getoption(lua_State *L)
{
    lmpe_socket *s = check_socket(L);
    int which = luaL_checkoption(L, 2, NULL, option_names), on = 0;
    socklen_t size = sizeof on;
    if (getsockopt(s->fd, options[which].level, options[which].name, &on, &size) != 0)
        return fail(L, errno);
    lua_pushboolean(L, on);
    return 1;
}

static int
socket_dirty(lua_State *L)
{
    lua_pushboolean(L, lmpe_socket_available(check_socket(L)) > 0);
    return 1;
}

static int
socket_getstats(lua_State *L)
{
    lmpe_socket *s = check_socket(L);
    lua_pushinteger(L, (lua_Integer)lmpe_socket_taken(s));
    lua_pushinteger(L, (lua_Integer)s->sent);
    return 2;
}

static int
socket_tostring(lua_State *L)
{
    lmpe_socket *s = check_socket(L);
    if (s->fd < 0)
        lua_pushliteral(L, LMPE_SOCKET ": closed");
    else
        lua_pushfstring(L, LMPE_SOCKET ": descriptor %d", s->fd);
    return 1;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"listen", listen_at},
                                         {"socket_lend", socket_lend},
                                         {"socket_copy", socket_copy},
                                         {NULL, NULL}};
    static const luaL_Reg methods[] = {{"accept", socket_accept},
                                       {"receive", socket_receive},
                                       {"send", socket_send},
                                       {"close", socket_close},
                                       {"settimeout", socket_settimeout},
                                       {"gettimeout", socket_gettimeout},
                                       {"getfd", socket_getfd},
                                       {"setfd", socket_setfd},
                                       {"getpeername", socket_getpeername},
                                       {"getsockname", socket_getsockname},
                                       {"shutdown", socket_shutdown},
                                       {"setoption", socket_setoption},
                                       {"getoption", socket_getoption},
                                       {"dirty", socket_dirty},
                                       {"getstats", socket_getstats},
                                       {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__gc", socket_gc},
                                    {"__close", socket_close},
                                    {"__tostring", socket_tostring},
                                    {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
    luaL_newmetatable(L, LMPE_SOCKET);
    lmpe_setfuncs(L, S, meta);
    lua_newtable(L);
    lmpe_setfuncs(L, S, methods);
    lua_setfield(L, -2, "__index");
    lua_setfield(L, -2, "Socket");
}

const lmpe_module lmpe_socket_class_module = {.open = on_open};
