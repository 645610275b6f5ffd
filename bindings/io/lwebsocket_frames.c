/* SPDX-License-Identifier: MIT
 *
 * lwebsocket_frames.c - the bytes of a WebSocket: what wslay calls to have and to send them, and the buffer
 * between it and the socket.
 */
#include "io/lwebsocket.h"

#if defined LMPE_WSLAY && defined LMPE_MHD

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define OUT_MAX ((size_t)64 << 10) /* bytes for the socket at once */
#define OUT_KEPT ((size_t)4 << 10)

int
lmpe_ws_is_there(const lmpe_websocket *ws)
{
    return lmpe_httpd_is_open(ws->r->h) && ws->r->fd >= 0 && !ws->lost;
}

/* ---- bytes of the connection ---- */

/* In GnuTLS. */
#define TLS_AGAIN (-28)
#define TLS_INTERRUPTED (-52)

static ssize_t
result_of_tls(ssize_t n)
{
    if (n < 0)
        errno = n == TLS_AGAIN ? EAGAIN : n == TLS_INTERRUPTED ? EINTR : EPROTO;
    return n < 0 ? -1 : n;
}

/* recv(2) and send(2), or the same by TLS. */
static ssize_t
read_bytes(lmpe_websocket *ws, void *to, size_t room)
{
    ssize_t n;
    do
        n = ws->tls ? result_of_tls(lmpe_wslay.record_recv(ws->tls, to, room))
                    : recv(ws->r->fd, to, room, 0);
    while (n < 0 && errno == EINTR);
    ws->drained = ws->tls ? n < 0 : n < (ssize_t)room;
    return n;
}

static ssize_t
write_bytes(lmpe_websocket *ws, const void *bytes, size_t size)
{
    return ws->tls ? result_of_tls(lmpe_wslay.record_send(ws->tls, bytes, size))
                   : send(ws->r->fd, bytes, size, MSG_NOSIGNAL);
}

/* ---- what wslay calls ---- */

static ssize_t
on_recv(wslay_event_context_ptr ctx, uint8_t *to, size_t room, int flags, void *ud)
{
    lmpe_websocket *ws = ud;
    mpe_buf *extra = &ws->r->extra;
    ssize_t n = -1;
    (void)flags;
    if (ws->first || ws->drained) {
        lmpe_wslay.set_error(ctx, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    if (extra->len > 0) {
        size_t part = extra->len < room ? extra->len : room;
        memcpy(to, extra->data, part);
        memmove(extra->data, extra->data + part, extra->len - part);
        extra->len -= part;
        return (ssize_t)part;
    }
    n = read_bytes(ws, to, room);
    if (n > 0)
        return n;
    ws->lost = n == 0 || errno != EAGAIN;
    lmpe_wslay.set_error(ctx, ws->lost ? WSLAY_ERR_CALLBACK_FAILURE : WSLAY_ERR_WOULDBLOCK);
    return -1;
}

static ssize_t
on_send(wslay_event_context_ptr ctx, const uint8_t *bytes, size_t size, int flags, void *ud)
{
    lmpe_websocket *ws = ud;
    size_t room = ws->out.len < OUT_MAX ? OUT_MAX - ws->out.len : 0;
    size_t n = size < room ? size : room;
    (void)flags;
    if (n > 0 && mpe_buf_append(&ws->out, bytes, n) == MPE_OK)
        return (ssize_t)n;
    lmpe_wslay.set_error(ctx, n > 0 ? WSLAY_ERR_CALLBACK_FAILURE : WSLAY_ERR_WOULDBLOCK);
    return -1;
}

/* The library lets a close frame pass that has half a code. */
static void
on_frame(wslay_event_context_ptr ctx, const struct wslay_event_on_frame_recv_start_arg *arg,
         void *ud)
{
    lmpe_websocket *ws = ud;
    (void)ctx;
    ws->damaged |= arg->opcode == WSLAY_CONNECTION_CLOSE && arg->payload_length == 1;
}

static void
on_message(wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *arg, void *ud)
{
    lmpe_websocket *ws = ud;
    (void)ctx;
    if (wslay_is_ctrl_frame(arg->opcode))
        return;
    struct lmpe_ws_message *m = malloc(sizeof *m + arg->msg_length);
    if (!m) {
        ws->is_short = 1;
        return;
    }
    m->next = NULL;
    m->is_text = arg->opcode == WSLAY_TEXT_FRAME;
    m->size = arg->msg_length;
    if (m->size)
        memcpy(m->bytes, arg->msg, m->size);
    *ws->last = m;
    ws->last = &m->next;
}

/* ---- the socket ---- */

int
lmpe_ws_flush(lmpe_websocket *ws)
{
    while (lmpe_ws_is_there(ws)) {
        if (ws->sent == ws->out.len) {
            mpe_buf_reset(&ws->out, OUT_KEPT);
            ws->sent = 0;
            if (ws->failed || !lmpe_wslay.want_write(ws->ctx))
                return MPE_OK;
            if (lmpe_wslay.send(ws->ctx) != 0)
                ws->lost = 1;
            if (ws->out.len == 0)
                return ws->lost ? MPE_ECLOSED : MPE_OK;
        }
        ssize_t n = write_bytes(ws, ws->out.data + ws->sent, ws->out.len - ws->sent);
        if (n >= 0)
            ws->sent += (size_t)n;
        else if (errno == EAGAIN)
            return MPE_EAGAIN;
        else if (errno != EINTR)
            ws->lost = 1;
    }
    return MPE_ECLOSED;
}

/* The library closes without a code when the head of a frame is wrong: this one says it. Where a
 * message is on its way, the library's own comes behind it. */
static void
fail(lmpe_websocket *ws)
{
    static const uint8_t close[] = {0x88, 2, WSLAY_CODE_PROTOCOL_ERROR >> 8,
                                    WSLAY_CODE_PROTOCOL_ERROR & 0xff};
    ws->failed = !ws->sender && mpe_buf_append(&ws->out, close, sizeof close) == MPE_OK;
}

void
lmpe_ws_feed(lmpe_websocket *ws)
{
    if (ws->damaged || !lmpe_wslay.get_read_enabled(ws->ctx))
        return;
    ws->damaged |= lmpe_wslay.recv(ws->ctx) != 0 && !ws->lost;
    if (ws->damaged)
        fail(ws);
}

int
lmpe_ws_open(lmpe_websocket *ws, lmpe_request *r)
{
    static const struct wslay_event_callbacks calls = {.recv_callback = on_recv,
                                                       .send_callback = on_send,
                                                       .on_frame_recv_start_callback = on_frame,
                                                       .on_msg_recv_callback = on_message};
    memset(ws, 0, sizeof *ws);
    ws->S = r->h->S;
    ws->last = &ws->first;
    mpe_buf_init(&ws->out);
    if (lmpe_wslay.context_server_init(&ws->ctx, &calls, ws) != 0)
        return MPE_ENOMEM;
    if (r->h->max_body < INT32_MAX)
        lmpe_wslay.config_set_max_recv_msg_length(ws->ctx, r->h->max_body);
    if (!r->upgrade)
        ws->tls =
            lmpe_mhd.get_connection_info(r->mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION)->tls_session;
    ws->r = r;
    r->refs++;
    return MPE_OK;
}

#endif
