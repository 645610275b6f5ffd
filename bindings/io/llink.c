/* SPDX-License-Identifier: MIT
 *
 * llink.c - the sockets under mp.Listener and mp.Client, as descriptors that do not block: to a
 * numeric address and port, or to a path. mpengine/link.lua waits for them, reads and writes them.
 *
 * The socket file of a listener that was killed stays. The next listener removes it, if no process
 * accepts there any more.
 */
#include "base/lmpe.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 1024

struct address {
    socklen_t size;
    union {
        struct sockaddr any;
        struct sockaddr_un path;
        struct sockaddr_storage room;
    } u;
};

/* The address at idx: a path, or with a port at idx + 1 a numeric host. errno, or 0. */
static int
get_address(lua_State *L, int idx, struct address *a)
{
    size_t size;
    const char *text = luaL_checklstring(L, idx, &size);
    memset(a, 0, sizeof *a);
    if (lua_isnoneornil(L, idx + 1)) {
        if (size >= sizeof a->u.path.sun_path)
            return ENAMETOOLONG;
        a->u.path.sun_family = AF_UNIX;
        memcpy(a->u.path.sun_path, text, size + 1);
        a->size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size + 1);
        return 0;
    }
    char port[16];
    struct addrinfo *found,
        hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    snprintf(port, sizeof port, "%d", (int)luaL_checkinteger(L, idx + 1));
    if (getaddrinfo(text, port, &hints, &found) != 0)
        return EADDRNOTAVAIL;
    memcpy(&a->u, found->ai_addr, found->ai_addrlen);
    a->size = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}

static int
fail(lua_State *L, int error)
{
    luaL_pushfail(L);
    lua_pushstring(L, error == EAGAIN ? "again" : strerror(error));
    lua_pushinteger(L, error);
    return 3;
}

static int
open_socket(const struct address *a)
{
    return mpe_fd_lift(socket(a->u.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

static void
send_at_once(int fd, const struct address *a)
{
    int on = 1;
    if (a->u.any.sa_family != AF_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* ---- listening ---- */

/* Removes the socket file of a listener that is gone. */
static int
remove_stale(const struct address *a)
{
    struct stat st;
    if (a->u.any.sa_family != AF_UNIX || lstat(a->u.path.sun_path, &st) != 0 ||
        !S_ISSOCK(st.st_mode))
        return 0;
    int fd = open_socket(a);
    int is_stale = fd >= 0 && connect(fd, &a->u.any, a->size) != 0 && errno == ECONNREFUSED;
    if (fd >= 0)
        close(fd);
    return is_stale && unlink(a->u.path.sun_path) == 0;
}

static int
bind_listener(int fd, const struct address *a)
{
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, &a->u.any, a->size) != 0 &&
        (errno != EADDRINUSE || !remove_stale(a) || bind(fd, &a->u.any, a->size) != 0))
        return errno == 0 ? EADDRINUSE : errno;
    return listen(fd, BACKLOG) != 0 ? errno : 0;
}

static int
port_of(int fd)
{
    struct address a = {.size = sizeof a.u};
    if (getsockname(fd, &a.u.any, &a.size) != 0)
        return 0;
    if (a.u.any.sa_family == AF_INET)
        return ntohs(((struct sockaddr_in *)&a.u)->sin_port);
    return a.u.any.sa_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&a.u)->sin6_port) : 0;
}

/* link_listen(path) or (address, port) -> descriptor, port | nil, message, errno */
static int
link_listen(lua_State *L)
{
    struct address a;
    int error = get_address(L, 1, &a);
    if (error)
        return fail(L, error);
    int fd = open_socket(&a);
    if (fd < 0)
        return fail(L, errno);
    error = bind_listener(fd, &a);
    if (error) {
        close(fd);
        return fail(L, error);
    }
    lua_pushinteger(L, fd);
    lua_pushinteger(L, port_of(fd));
    return 2;
}

/* link_accept(fd) -> descriptor | nil, "again" | nil, message, errno */
static int
link_accept(lua_State *L)
{
    struct address a = {.size = sizeof a.u};
    int listener = (int)luaL_checkinteger(L, 1), fd;
    do
        fd = accept4(listener, &a.u.any, &a.size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
    if (fd < 0)
        return fail(L, errno);
    fd = mpe_fd_lift(fd);
    send_at_once(fd, &a);
    lua_pushinteger(L, fd);
    return 1;
}

/* ---- connecting ---- */

/* link_connect(path) or (address, port) -> descriptor, which becomes writable when it is
 * connected, or has failed, as link_error says | nil, message, errno; "again": a path's listener has
 * no room */
static int
link_connect(lua_State *L)
{
    struct address a;
    int error = get_address(L, 1, &a);
    if (error)
        return fail(L, error);
    int fd = open_socket(&a);
    if (fd < 0)
        return fail(L, errno);
    send_at_once(fd, &a);
    if (connect(fd, &a.u.any, a.size) != 0 && errno != EINPROGRESS) {
        error = errno;
        close(fd);
        return fail(L, error);
    }
    lua_pushinteger(L, fd);
    return 1;
}

/* link_error(fd) -> true | nil, message, errno: how connecting went */
static int
link_error(lua_State *L)
{
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt((int)luaL_checkinteger(L, 1), SOL_SOCKET, SO_ERROR, &error, &size) != 0)
        error = errno;
    if (error)
        return fail(L, error);
    lua_pushboolean(L, 1);
    return 1;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"link_listen", link_listen},
                                         {"link_accept", link_accept},
                                         {"link_connect", link_connect},
                                         {"link_error", link_error},
                                         {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
}

const lmpe_module lmpe_link_module = {.open = on_open};
