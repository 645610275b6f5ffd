/* SPDX-License-Identifier: MIT
 *
 * llisten.h - listening and accepting, at numeric addresses and paths, without Lua: for the sockets of
 * servers (lsocket_class.c) and for links (llink.c).
 */
#ifndef LMPE_LLISTEN_H
#define LMPE_LLISTEN_H

#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

typedef struct lmpe_address {
    socklen_t size;
    union {
        struct sockaddr any;
        struct sockaddr_un path;
        struct sockaddr_storage room;
    } u;
} lmpe_address;

#define LMPE_NO_PORT (-1) /* the text is a path */

/* The address of a text: an address, "*" for all, or a path. 0, or an errno. */
int lmpe_address_of(lmpe_address *a, const char *text, size_t size, int port);
/* A socket of its family that does not block; -1: errno. */
int lmpe_socket_for(const lmpe_address *a);
/* A listener, whose accept does not block; -1: errno. The socket file of a listener that was killed is
 * replaced. */
int lmpe_listen_at(const lmpe_address *a, int backlog);
/* The next connection, which does not block; -1: errno, EAGAIN when there is none. Blocks: never. */
int lmpe_accept_next(int listener);
/* Small pieces are sent at once, where the family has such a thing. */
void lmpe_send_at_once(int fd, const lmpe_address *a);

#endif
