/* SPDX-License-Identifier: MIT
 *
 * lpoll.h - waiting for any of several descriptors, for lpoll.c and lselect.c.
 */
#ifndef LMPE_LPOLL_H
#define LMPE_LPOLL_H

#include "task/ltask.h"

#include <poll.h>

struct lmpe_pollset;

/* The waiter of one descriptor. */
typedef struct lmpe_poll_part {
    mpe_waiter w; /* first: a fire finds its part by it */
    struct lmpe_pollset *set;
    int filed;
    uint32_t at; /* the caller's own */
} lmpe_poll_part;

typedef struct lmpe_pollset {
    lmpe *S;
    lmpe_await *await;
    nfds_t count;
    struct pollfd *fds; /* behind the parts */
    lmpe_poll_part parts[];
} lmpe_pollset;

/* Pushes an empty set with room for so many; it has one user value. */
lmpe_pollset *lmpe_pollset_new(lua_State *L, lmpe *S, size_t room);
/* Adds one that is waited for until it can be read (POLLIN) or written (POLLOUT). */
void lmpe_pollset_add(lmpe_pollset *set, int fd, short events, uint32_t at);
/* Waits: the value of a C function. finish finds the set in a->scratch[0], and what is ready in its
 * fds. */
int lmpe_pollset_wait(lua_State *L, lmpe *S, lmpe_pollset *set, uint64_t deadline,
                      int (*finish)(lua_State *L, lmpe *S, lmpe_await *a, int status));
/* Withdraws the waiters; finish begins with it. */
void lmpe_pollset_unfile(lmpe_pollset *set);

#endif
