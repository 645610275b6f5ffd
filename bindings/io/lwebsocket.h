/* SPDX-License-Identifier: MIT
 *
 * lwebsocket.h - one WebSocket. lwebsocket.c has its methods, lwebsocket_frames.c the bytes of its connection,
 * and lwebsocket_text.c its texts.
 */
#ifndef LMPE_LWEBSOCKET_H
#define LMPE_LWEBSOCKET_H

#include "io/lhttpd.h"
#include "io/lwslay.h"

#if defined LMPE_WSLAY && defined LMPE_MHD

/* One that was received. */
struct lmpe_ws_message {
    struct lmpe_ws_message *next;
    int is_text;
    size_t size;
    char bytes[];
};

typedef struct lmpe_websocket {
    lmpe_request *r; /* it has a reference */
    lmpe *S;
    wslay_event_context_ptr ctx;
    void *tls;                             /* the session; NULL without TLS */
    struct lmpe_ws_message *first, **last; /* received */
    mpe_buf out;                           /* from `sent` on */
    size_t sent;
    lmpe_task *sender; /* whose message is on its way */
    mpe_waitlist senders;
    uint8_t drained; /* the last recv has left nothing */
    uint8_t lost;    /* the connection has ended, or failed */
    uint8_t damaged; /* a frame was none: nothing more is received */
    uint8_t failed;  /* and its close frame is in out, past the library */
    uint8_t is_short;
} lmpe_websocket;

/* ---- lwebsocket_frames.c ---- */

/* Begins to speak on the connection of a request that was handed over. Errors: ENOMEM. */
int lmpe_ws_open(lmpe_websocket *ws, lmpe_request *r);
/* Has the connection neither ended nor failed? */
int lmpe_ws_is_there(const lmpe_websocket *ws);
/* Sends. OK: the socket has all that there was to send; EAGAIN: it takes no more; ECLOSED. */
int lmpe_ws_flush(lmpe_websocket *ws);
/* Feeds the library with what has arrived, until there is a message. */
void lmpe_ws_feed(lmpe_websocket *ws);

/* ---- lwebsocket_text.c ---- */

int lmpe_ws_is_utf8(const char *text, size_t size);
/* websocket_accept(key) -> what the server answers to it; raises when the library is missing */
int lmpe_ws_accept(lua_State *L);

#endif
#endif
