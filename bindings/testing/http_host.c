/* SPDX-License-Identifier: MIT
 *
 * http_host.c - requests that are in every stage when the state is closed: their sockets are closed
 * and their memory is freed. The server never answers, and accepts at most two connections; those
 * of the others are not finished.
 */
#include "testing/host.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <sys/socket.h>

static int
open_server(int *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (!CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&a, n) == 0 && listen(fd, 0) == 0 &&
               getsockname(fd, (struct sockaddr *)&a, &n) == 0))
        exit(1);
    *port = ntohs(a.sin_port);
    return fd;
}

static int
open_sockets(void)
{
    int n = 0;
    char path[300], link[64];
    struct dirent *entry;
    DIR *d = opendir("/proc/self/fd");
    while (d && (entry = readdir(d)) != NULL) {
        snprintf(path, sizeof path, "/proc/self/fd/%s", entry->d_name);
        ssize_t size = readlink(path, link, sizeof link);
        n += size > 7 && memcmp(link, "socket:", 7) == 0;
    }
    closedir(d);
    return n;
}

/* Requests by number and by name go on for so many seconds, then all is closed. */
static void
closes_amid_requests(int port, double seconds)
{
    mpe_engine *e = open_engine(NULL);
    lua_State *L = open_state(e);
    lua_pushinteger(L, port);
    lua_setglobal(L, "port");
    lua_pushnumber(L, seconds);
    lua_setglobal(L, "seconds");
    RUN(L, "local mp, http = require 'mpengine', require 'mpengine.http'\n"
           "for i = 1, 12 do\n"
           "  local host = i % 2 == 0 and 'localhost' or '127.0.0.1'\n"
           "  mp.co.spawn(function() http.get('http://' .. host .. ':' .. port .. '/' .. i) end)\n"
           "end\n"
           "mp.co.sleep(seconds)");
    lua_close(L);
    mpe_close(e);
}

int
main(void)
{
    static const double seconds[] = {0, 0.001, 0.005, 0.02, 0.1};
    int port, server = open_server(&port);
    int before = open_sockets();
    for (size_t i = 0; i < sizeof seconds / sizeof *seconds; i++)
        closes_amid_requests(port, seconds[i]);
    CHECK_EQ(open_sockets(), before);
    close(server);
    return failures != 0;
}
