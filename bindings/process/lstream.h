/* SPDX-License-Identifier: MIT
 *
 * lstream.h - output to a descriptor that may not take it at once. See lstream.c.
 */
#ifndef LSTREAM_H
#define LSTREAM_H

#include "task/ltask.h"

typedef struct lmpe_stream {
    lmpe *S;
    int fd;
    mpe_buf buf;    /* written and not sent yet; positions count from its beginning */
    size_t left;    /* sent so far */
    size_t due;     /* to be sent so far */
    size_t unit;    /* covered by the lock that is held */
    int is_locked;  /* it holds the lock of the output */
    int has_begun;  /* and some bytes were sent under it */
    int wants_lock; /* another process has it, and this one waits for it */
    int watches;    /* what the waiter is filed for: see lstream.c */
    int error;      /* errno of the last failed write */
    int mid_line;   /* the last byte sent was no newline */
    mpe_waiter waiter;
    mpe_waitlist callers; /* they wait until everything due was sent */
} lmpe_stream;

/* Appends. Errors: ENOMEM. */
int lmpe_stream_append(lmpe_stream *st, const void *bytes, size_t size);
/* Sends everything due, and calls finish when that is done, with its status: suspends the task
 * if necessary, or blocks where the loop must not run. The value of a C function. A caller that
 * is cancelled does not wait: its bytes are sent without it. */
int lmpe_stream_let_go(lua_State *L, lmpe_stream *st, lmpe_finish_fn finish);
/* The same, blocking. Errors: ESYS, with errno; bytes that cannot be written are lost. */
int lmpe_stream_drain(lmpe_stream *st);
/* Does it go to another file than stdout? */
int lmpe_stream_is_apart(const lmpe_stream *st);
/* In a forked child: its contents belong to the parent. */
void lmpe_stream_forked(lmpe_stream *st);

#endif
