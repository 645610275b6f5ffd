/* SPDX-License-Identifier: MIT
 *
 * lsocket.h - stream sockets: the state of one, and its receive and send. lsocket_class.c has the
 * sockets of this library, lsocket_patched.c those of LuaSocket, which are read and written here
 * after mp.monkey.patch_all().
 */
#ifndef LSOCKET_H
#define LSOCKET_H

#include "task/ltask.h"

#define LMPE_SOCKET "mp.Socket"

/* The calls of one direction. */
struct lmpe_turns {
    lmpe_task *owner;
    mpe_waitlist waiting;
};

typedef struct lmpe_socket {
    int fd;                /* -1: closed */
    double block, total;   /* seconds, negative: no limit */
    uint8_t owns_fd;       /* a socket of this library, which closes it */
    uint8_t is_stream;     /* of LuaSocket's: it is read and written here */
    uint8_t tells_elapsed; /* LuaSocket has a further result: the seconds it took */
    uint8_t drained;       /* nothing was left by the last recv */
    int error;             /* errno of a call that failed */
    uint32_t forks;        /* of this process, when it was used last */
    struct lmpe_turns reading, writing;
    char *bytes; /* input: from first to end */
    size_t first, end, room;
    size_t scanned;          /* bytes without the end of a line */
    uint64_t received, sent; /* bytes that calls have taken, and sent */
} lmpe_socket;

/* Pushes a new one, which is zeroed but for what a closed socket has. */
lmpe_socket *lmpe_socket_new(lua_State *L);
/* Appends input that was received elsewhere.  Errors: ENOMEM. */
int lmpe_socket_append(lmpe_socket *s, const char *bytes, size_t size);
size_t lmpe_socket_available(const lmpe_socket *s);
/* The bytes that calls have taken, those of a call that waits for more included. */
uint64_t lmpe_socket_taken(const lmpe_socket *s);
/* The descriptor is no longer this stream's: wakes the tasks in its calls, and drops the input. */
void lmpe_socket_closing(lmpe *S, lmpe_socket *s);
/* Is it an address, which needs no look-up (lnames.c)? */
int lmpe_is_address(const char *host);
/* LuaSocket's words for an errno. */
const char *lmpe_socket_word(int error);
/* The absolute deadline of a call that begins now. */
uint64_t lmpe_socket_deadline(const lmpe_socket *s);

/* The methods, with their arguments from index 2 on: the value of a C function, or LMPE_MISUSED when the
 * arguments are wrong, and left as they are. */
#define LMPE_MISUSED (-1)
int lmpe_socket_receive(lua_State *L, lmpe *S, lmpe_socket *s);
int lmpe_socket_send(lua_State *L, lmpe *S, lmpe_socket *s);

#endif
