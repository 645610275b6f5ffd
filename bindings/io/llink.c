/* SPDX-License-Identifier: MIT
 *
 * llink.c - the sockets under mp.Listener and mp.Client, as descriptors that do not block: to a
 * numeric address and port, or to a path. mpengine/link.lua waits for them, reads and writes them.
 */
#include "base/lmpe.h"
#include "base/lsystem.h"
#include "io/llisten.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#define BACKLOG 1024

/* The address at idx: a path, or with a port at idx + 1 a numeric host. errno, or 0. */
static int
get_address(lua_State *L, int idx, lmpe_address *a)
{
    size_t size;
    const char *text = luaL_checklstring(L, idx, &size);
    int port = (int)luaL_optinteger(L, idx + 1, LMPE_NO_PORT);
    return lmpe_address_of(a, text, size, port);
}

static int
fail(lua_State *L, int error)
{
    luaL_pushfail(L);
    lua_pushstring(L, error == EAGAIN ? "again" : lmpe_reason(error));
    lua_pushinteger(L, error);
    return 3;
}

/* ---- listening ---- */

static int
port_of(int fd)
{
    lmpe_address a = {.size = sizeof a.u};
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
    lmpe_address a;
    int error = get_address(L, 1, &a);
    if (error)
        return fail(L, error);
    int fd = lmpe_listen_at(&a, BACKLOG);
    if (fd < 0)
        return fail(L, errno);
    lua_pushinteger(L, fd);
    lua_pushinteger(L, port_of(fd));
    return 2;
}

/* link_accept(fd) -> descriptor | nil, "again" | nil, message, errno */
static int
link_accept(lua_State *L)
{
    int fd = lmpe_accept_next((int)luaL_checkinteger(L, 1));
    if (fd < 0)
        return fail(L, errno);
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
    lmpe_address a;
    int error = get_address(L, 1, &a);
    if (error)
        return fail(L, error);
    int fd = lmpe_socket_for(&a);
    if (fd < 0)
        return fail(L, errno);
    lmpe_send_at_once(fd, &a);
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
