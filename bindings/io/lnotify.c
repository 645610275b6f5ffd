/* SPDX-License-Identifier: MIT
 *
 * lnotify.c - the socket of the service manager that started the program (NOTIFY_SOCKET, as systemd
 * sets it). What is said through it, and when, is in mpengine/notify.lua.
 */
#include "base/lmpe.h"
#include "base/lsystem.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Of a path, or of a name without a file: @name. */
static socklen_t
address_of(struct sockaddr_un *address, const char *name, size_t size)
{
    if (size == 0 || size >= sizeof address->sun_path || (*name != '/' && *name != '@'))
        return 0;
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(address->sun_path, name, size);
    if (*name == '@') {
        address->sun_path[0] = 0;
        size--; /* no zero at the end: it would be part of the name */
    }
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size + 1);
}

/* notify_open(name) -> descriptor | nil, message: a datagram socket of the service manager, which
 * does not block. */
static int
notify_open(lua_State *L)
{
    size_t size;
    const char *name = luaL_checklstring(L, 1, &size);
    struct sockaddr_un address;
    socklen_t length = address_of(&address, name, size);
    int fd = -1;
    if (length)
        fd = mpe_fd_lift(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    else
        errno = EINVAL;
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, length) == 0) {
        lua_pushinteger(L, fd);
        return 1;
    }
    int err = errno;
    if (fd >= 0)
        close(fd);
    luaL_pushfail(L);
    lua_pushstring(L, lmpe_reason(err));
    return 2;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"notify_open", notify_open}, {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
}

const lmpe_module lmpe_notify_module = {.open = on_open};
