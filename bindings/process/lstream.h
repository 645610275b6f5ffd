/* SPDX-License-Identifier: MIT
 *
 * lstream.h - what leaves by a descriptor that may not take it at once. See lstream.c.
 */
#ifndef LSTREAM_H
#define LSTREAM_H

#include "task/ltask.h"

typedef struct lmpe_stream {
    lmpe *S;
    int fd;
    mpe_buf buf;    /* what was written and has not left yet; positions count from its beginning */
    size_t left;    /* so far it has left */
    size_t due;     /* so far it is to leave */
    size_t unit;    /* so far under the lock that is held */
    int is_locked;  /* it holds the lock of the output */
    int has_begun;  /* and something has left under it */
    int wants_lock; /* another one has it, which is what there is to wait for */
    int watches;    /* what the waiter is filed for: see lstream.c */
    int error;      /* errno of the write that failed last */
    mpe_waiter waiter;
    mpe_waitlist callers; /* they wait until all that is due has left */
} lmpe_stream;

/* Appends. Errors: ENOMEM. */
int lmpe_stream_append(lmpe_stream *st, const void *bytes, size_t size);
/* Lets all that is due leave, and calls finish when it has, with its status: suspends the task if need be,
 * or blocks where the loop must not run. The value of a C function. A caller that is cancelled does not
 * wait: its bytes leave without it. */
int lmpe_stream_let_go(lua_State *L, lmpe_stream *st, lmpe_finish_fn finish);
/* The same, blocking. Errors: ESYS, with errno; what cannot be written is lost. */
int lmpe_stream_drain(lmpe_stream *st);
/* Does it go to another file than stdout? */
int lmpe_stream_is_apart(const lmpe_stream *st);
/* In a forked child: what is in it is the parent's. */
void lmpe_stream_forked(lmpe_stream *st);

#endif
