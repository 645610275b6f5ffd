/* SPDX-License-Identifier: MIT
 *
 * lpassing.c - the parts in C of mpengine/passing.lua: files and sockets from descriptors that have
 * arrived from another process, and what is known of those that leave.
 */
#include "io/ldescriptors.h"
#include "base/lsystem.h"
#include "io/lsocket.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The mode to fdopen a descriptor with. */
static const char *
mode_of(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    int appends = (flags & O_APPEND) != 0;
    switch (flags & O_ACCMODE) {
    case O_RDONLY:
        return "r";
    case O_WRONLY:
        return appends ? "a" : "w";
    default:
        return appends ? "a+" : "r+";
    }
}

/* passing_file(file) -> its descriptor, its mode | nil, why it cannot be sent. What was written is
 * flushed, and the position is where the script is. Input that cannot be given back stays with its file. */
static int
passing_file(lua_State *L)
{
    luaL_Stream *s = luaL_checkudata(L, 1, LUA_FILEHANDLE);
    luaL_argcheck(L, s->closef, 1, "the file is closed");
    if (fflush(s->f) != 0 && errno != ESPIPE && errno != EBADF)
        return luaL_fileresult(L, 0, NULL);
    if (lmpe_bytes_buffered(s->f) > 0) {
        luaL_pushfail(L);
        lua_pushliteral(L, "bytes that were read ahead cannot be given back");
        return 2;
    }
    lua_pushinteger(L, fileno(s->f));
    lua_pushstring(L, mode_of(fileno(s->f)));
    return 2;
}

static int
close_file(lua_State *L)
{
    luaL_Stream *s = lua_touserdata(L, 1);
    return luaL_fileresult(L, fclose(s->f) == 0, NULL);
}

/* passed_file(fd | nil, mode) -> a file that owns the descriptor; without one, a closed file */
static int
passed_file(lua_State *L)
{
    const char *mode = luaL_checkstring(L, 2);
    luaL_Stream *s = lua_newuserdatauv(L, sizeof *s, 0);
    s->closef = NULL;
    s->f = NULL;
    luaL_setmetatable(L, LUA_FILEHANDLE);
    if (lua_isnil(L, 1))
        return 1;
    s->f = fdopen((int)luaL_checkinteger(L, 1), mode);
    if (!s->f)
        return luaL_error(L, "cannot receive a file: %s", lmpe_reason(errno));
    s->closef = close_file;
    return 1;
}

/* passing_is_nonblocking(fd) */
static int
passing_is_nonblocking(lua_State *L)
{
    lua_pushboolean(L, (fcntl((int)luaL_checkinteger(L, 1), F_GETFL) & O_NONBLOCK) != 0);
    return 1;
}

/* passing_block(fd): it blocks from now on, wherever it is open */
static int
passing_block(lua_State *L)
{
    int fd = (int)luaL_checkinteger(L, 1);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    return 0;
}

/* passed_socket(fd | nil) -> a stream socket of this library that owns the descriptor */
static int
passed_socket(lua_State *L)
{
    lmpe_socket *s = lmpe_socket_new(L);
    s->fd = (int)luaL_optinteger(L, 1, -1);
    s->owns_fd = 1;
    return 1;
}

/* passing_is_v6(fd) -> is it a socket of IPv6? */
static int
passing_is_v6(lua_State *L)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    int fd = (int)luaL_checkinteger(L, 1);
    lua_pushboolean(L, getsockname(fd, (struct sockaddr *)&address, &size) == 0 &&
                           address.ss_family == AF_INET6);
    return 1;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"passing_file", passing_file},
                                         {"passed_file", passed_file},
                                         {"passed_socket", passed_socket},
                                         {"passing_is_nonblocking", passing_is_nonblocking},
                                         {"passing_block", passing_block},
                                         {"passing_is_v6", passing_is_v6},
                                         {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
}

const lmpe_module lmpe_passing_module = {.open = on_open};
