/* SPDX-License-Identifier: MIT
 *
 * llisten.c - addresses, listeners and accepted connections as descriptors.
 *
 * The socket file of a listener that was killed stays. The next listener removes it, if no process
 * accepts there any more.
 */
#include "io/llisten.h"

#include "mpengine_core.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int
path_of(lmpe_address *a, const char *text, size_t size)
{
    if (size >= sizeof a->u.path.sun_path)
        return ENAMETOOLONG;
    a->u.path.sun_family = AF_UNIX;
    memcpy(a->u.path.sun_path, text, size + 1);
    a->size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size + 1);
    return 0;
}

int
lmpe_address_of(lmpe_address *a, const char *text, size_t size, int port)
{
    char digits[16];
    struct addrinfo *found, hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                                     .ai_socktype = SOCK_STREAM};
    memset(a, 0, sizeof *a);
    if (port == LMPE_NO_PORT)
        return path_of(a, text, size);
    snprintf(digits, sizeof digits, "%d", port);
    if (getaddrinfo(strcmp(text, "*") == 0 ? NULL : text, digits, &hints, &found) != 0)
        return EADDRNOTAVAIL;
    memcpy(&a->u, found->ai_addr, found->ai_addrlen);
    a->size = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}

int
lmpe_socket_for(const lmpe_address *a)
{
    return mpe_fd_lift(socket(a->u.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

void
lmpe_send_at_once(int fd, const lmpe_address *a)
{
    int on = 1;
    if (a->u.any.sa_family != AF_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* Removes the socket file of a listener that is gone. */
static int
remove_stale(const lmpe_address *a)
{
    struct stat st;
    if (a->u.any.sa_family != AF_UNIX || lstat(a->u.path.sun_path, &st) != 0 ||
        !S_ISSOCK(st.st_mode))
        return 0;
    int fd = lmpe_socket_for(a);
    int is_stale = fd >= 0 && connect(fd, &a->u.any, a->size) != 0 && errno == ECONNREFUSED;
    if (fd >= 0)
        close(fd);
    return is_stale && unlink(a->u.path.sun_path) == 0;
}

/* 0, or an errno. */
static int
bind_at(int fd, const lmpe_address *a)
{
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, &a->u.any, a->size) == 0)
        return 0;
    int error = errno;
    if (error != EADDRINUSE || !remove_stale(a))
        return error;
    return bind(fd, &a->u.any, a->size) == 0 ? 0 : errno;
}

int
lmpe_listen_at(const lmpe_address *a, int backlog)
{
    int fd = lmpe_socket_for(a);
    if (fd < 0)
        return -1;
    int error = bind_at(fd, a);
    if (!error && listen(fd, backlog) != 0)
        error = errno;
    if (!error)
        return fd;
    close(fd);
    errno = error;
    return -1;
}

int
lmpe_accept_next(int listener)
{
    lmpe_address a = {.size = sizeof a.u};
    int fd;
    do
        fd = accept4(listener, &a.u.any, &a.size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
    if (fd < 0)
        return -1;
    fd = mpe_fd_lift(fd);
    lmpe_send_at_once(fd, &a);
    return fd;
}
