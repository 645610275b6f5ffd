/* SPDX-License-Identifier: MIT
 *
 * lhttpd_connection.c - the connections of a daemon: their deadlines, and how they end.
 *
 * Deadlines are in the order in which they were set, since all have the same time. A connection that
 * is late is shut down: the library then sees its end, and closes it.
 *
 * The library does not shut a socket down before it closes it (TURBO), so that an answer can still be
 * sent where it sends none. A socket that is closed with unread input resets the connection, and
 * the peer may lose the answer. So a connection whose request was refused is not just closed: a
 * copy of its socket is given to next(), and what is still sent is read for a while.
 */
#include "io/lhttpd.h"

#ifdef LMPE_MHD

#include <fcntl.h>
#include <linux/tcp.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- deadlines of connections ---- */

void
lmpe_connection_not_due(struct lmpe_connection *c)
{
    if (!c->due_link)
        return;
    *c->due_link = c->later;
    if (c->later)
        c->later->due_link = c->due_link;
    else
        c->h->last_due = c->due_link;
    c->due_link = NULL;
}

void
lmpe_connection_due(struct lmpe_connection *c)
{
    lmpe_httpd *h = c->h;
    lmpe_connection_not_due(c);
    if (h->timeout_ns == MPE_FOREVER)
        return;
    c->deadline = mpe_now() + h->timeout_ns;
    c->later = NULL;
    c->due_link = h->last_due;
    *h->last_due = c;
    h->last_due = &c->later;
}

void
lmpe_connection_shut(struct lmpe_connection *c, int how)
{
    c->ending = 1;
    shutdown(c->fd, how);
}

void
lmpe_connections_shut_late(lmpe_httpd *h)
{
    uint64_t now = h->first_due ? mpe_now() : 0;
    while (h->first_due && h->first_due->deadline <= now) {
        struct lmpe_connection *c = h->first_due;
        lmpe_connection_not_due(c);
        lmpe_connection_shut(c, SHUT_RDWR);
    }
}

/* ---- what the library calls ---- */

static void
add_lingering(lmpe_httpd *h, int fd)
{
    if (h->lingering_count == h->lingering_room) {
        uint32_t room = h->lingering_room ? h->lingering_room * 2 : 8;
        int *fds = realloc(h->lingering, room * sizeof *fds);
        if (!fds) {
            close(fd);
            return;
        }
        h->lingering = fds;
        h->lingering_room = room;
    }
    h->lingering[h->lingering_count++] = fd;
}

static int
has_sent(int fd)
{
    struct tcp_info info = {0};
    socklen_t size = sizeof info;
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0 || info.tcpi_data_segs_out > 0;
}

/* The library closes without an answer when the first line that it reads is none of a request. */
static void
answer_bad_line(const struct lmpe_connection *c)
{
    static const char answer[] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n"
                                 "Content-Length: 16\r\n\r\n400 Bad Request\n";
    char byte;
    if (c->request || c->answers || c->ending || c->h->cert || has_sent(c->fd) ||
        recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
        return;
    if (send(c->fd, answer, sizeof answer - 1, MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
        shutdown(c->fd, SHUT_WR);
}

/* The library is about to close the socket. */
static void
connection_ends(struct lmpe_connection *c)
{
    lmpe_httpd *h = c->h;
    int unread = 0, copy = -1;
    lmpe_connection_not_due(c);
    answer_bad_line(c);
    if (c->lingers || (ioctl(c->fd, FIONREAD, &unread) == 0 && unread > 0))
        copy = h->draining > 1 ? -1 : fcntl(c->fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (copy >= 0) {
        shutdown(copy, SHUT_WR);
        add_lingering(h, copy);
    } else {
        h->ended++;
    }
    *c->link = c->next;
    if (c->next)
        c->next->link = c->link;
    if (c->request) { /* its lines were no request */
        h->active--;
        lmpe_request_drop(c->request);
    }
    free(c);
}

void
lmpe_connection_notified(void *cls, struct MHD_Connection *mhd, void **socket_context,
                         enum MHD_ConnectionNotificationCode what)
{
    lmpe_httpd *h = cls;
    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (*socket_context)
            connection_ends(*socket_context);
        else
            h->ended++;
        return;
    }
    struct lmpe_connection *c = calloc(1, sizeof *c);
    *socket_context = c;
    if (!c)
        return; /* its request is refused */
    c->h = h;
    c->fd = lmpe_mhd.get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    c->peer = h->adding;
    c->link = &h->connections;
    c->next = h->connections;
    if (c->next)
        c->next->link = &c->next;
    h->connections = c;
    lmpe_connection_due(c);
}

#endif
