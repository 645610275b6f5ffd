/* SPDX-License-Identifier: MIT
 *
 * lwebsocket.c - a connection that was handed over, as a WebSocket. wslay has the frames: it puts
 * messages together, answers pings and closes, and refuses what is damaged, too large, or text that
 * is not UTF-8, by a close frame with the code of the reason.
 *
 * One receive at a time feeds the library, until there is a message. What the library has to say
 * goes through one buffer to the socket, whichever task brings it there. Sends are in turn: one
 * message is on its way at a time, and its task waits until the socket has all of it. That of a task
 * which is killed meanwhile goes on with the next call.
 */
#include "base/lfinalize.h"
#include "io/lhttpd.h"
#include "io/lwslay.h"
#include "task/lturn.h"

#if defined LMPE_WSLAY && defined LMPE_MHD

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WEBSOCKET "mp.WebSocket"   /* messages name its methods by it */
#define OUT_MAX ((size_t)64 << 10) /* bytes for the socket at once */
#define OUT_KEPT ((size_t)4 << 10)
#define SHA1 3 /* in GnuTLS */
#define SHA1_SIZE 20
#define REASON_MAX 123
#define CODE_LOST 1006

struct message {
    struct message *next;
    int is_text;
    size_t size;
    char bytes[];
};

typedef struct websocket {
    lmpe_request *r; /* it has a reference */
    lmpe *S;
    wslay_event_context_ptr ctx;
    void *tls;                     /* the session; NULL without TLS */
    struct message *first, **last; /* received */
    mpe_buf out;                   /* from `sent` on */
    size_t sent;
    lmpe_task *sender; /* whose message is on its way */
    mpe_waitlist senders;
    uint8_t drained; /* the last recv has left nothing */
    uint8_t lost;    /* the connection has ended, or failed */
    uint8_t damaged; /* a frame was none: nothing more is received */
    uint8_t failed;  /* and its close frame is in out, past the library */
    uint8_t is_short;
} websocket;

static websocket *
check_websocket(lua_State *L)
{
    websocket *ws = luaL_checkudata(L, 1, WEBSOCKET);
    luaL_argcheck(L, ws->r, 1, "the program ends"); /* it was finalized */
    return ws;
}

static int
is_there(const websocket *ws)
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
read_bytes(websocket *ws, void *to, size_t room)
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
write_bytes(websocket *ws, const void *bytes, size_t size)
{
    return ws->tls ? result_of_tls(lmpe_wslay.record_send(ws->tls, bytes, size))
                   : send(ws->r->fd, bytes, size, MSG_NOSIGNAL);
}

/* ---- what wslay calls ---- */

static ssize_t
on_recv(wslay_event_context_ptr ctx, uint8_t *to, size_t room, int flags, void *ud)
{
    websocket *ws = ud;
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
    websocket *ws = ud;
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
    websocket *ws = ud;
    (void)ctx;
    ws->damaged |= arg->opcode == WSLAY_CONNECTION_CLOSE && arg->payload_length == 1;
}

static void
on_message(wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *arg, void *ud)
{
    websocket *ws = ud;
    (void)ctx;
    if (wslay_is_ctrl_frame(arg->opcode))
        return;
    struct message *m = malloc(sizeof *m + arg->msg_length);
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

/* OK: the socket has all that there was to send; EAGAIN: it takes no more; ECLOSED. */
static int
flush(websocket *ws)
{
    while (is_there(ws)) {
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

/* ---- receive ---- */

/* The library closes without a code when the head of a frame is wrong: this one says it. Where a
 * message is on its way, the library's own comes behind it. */
static void
fail(websocket *ws)
{
    static const uint8_t close[] = {0x88, 2, WSLAY_CODE_PROTOCOL_ERROR >> 8,
                                    WSLAY_CODE_PROTOCOL_ERROR & 0xff};
    ws->failed = !ws->sender && mpe_buf_append(&ws->out, close, sizeof close) == MPE_OK;
}

/* Feeds the library with what has arrived, until there is a message. */
static void
feed(websocket *ws)
{
    if (ws->damaged || !lmpe_wslay.get_read_enabled(ws->ctx))
        return;
    ws->damaged |= lmpe_wslay.recv(ws->ctx) != 0 && !ws->lost;
    if (ws->damaged)
        fail(ws);
}

static int
reads_on(const websocket *ws)
{
    return is_there(ws) && !ws->damaged && lmpe_wslay.get_read_enabled(ws->ctx);
}

static int
attempt_recv(lmpe *S, lmpe_await *a)
{
    websocket *ws = (websocket *)(uintptr_t)a->scratch[0];
    (void)S;
    a->source = LMPE_FD;
    a->event = MPE_READABLE | MPE_EDGE;
    if (ws->first)
        return MPE_OK;
    if (!is_there(ws))
        return MPE_ECLOSED;
    if (a->scratch[1]) /* it was woken: there is something */
        ws->drained = 0;
    feed(ws);
    flush(ws); /* pongs, and closes */
    if (ws->first)
        return MPE_OK;
    if (ws->is_short)
        return MPE_ENOMEM;
    if (!reads_on(ws))
        return MPE_ECLOSED;
    a->on.fd = ws->r->fd;
    a->scratch[1] = 1;
    return MPE_EAGAIN;
}

/* That of the close frame that came, or of the one that was sent because something was wrong. */
static int
code_of(const websocket *ws)
{
    int code = ws->damaged ? WSLAY_CODE_PROTOCOL_ERROR
               : lmpe_wslay.get_close_received(ws->ctx)
                   ? lmpe_wslay.get_status_code_received(ws->ctx)
                   : lmpe_wslay.get_status_code_sent(ws->ctx);
    return code ? code : CODE_LOST;
}

static int
push_closed(lua_State *L, const websocket *ws)
{
    luaL_pushfail(L);
    lua_pushliteral(L, "closed");
    lua_pushinteger(L, code_of(ws));
    return 3;
}

static int
finish_recv(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    websocket *ws = (websocket *)(uintptr_t)a->scratch[0];
    struct message *m = ws->first;
    (void)S;
    if (status == MPE_ECLOSED)
        return push_closed(L, ws);
    if (status != MPE_OK)
        return lmpe_outcome(L, status, "timeout");
    lua_pushlstring(L, m->bytes, m->size);
    if (m->is_text)
        lua_pushliteral(L, "text");
    else
        lua_pushliteral(L, "binary");
    ws->first = m->next;
    if (!ws->first)
        ws->last = &ws->first;
    free(m);
    return 2;
}

/* ws:recv([timeout]) -> message, "text" or "binary" | nil, "timeout" | nil, "closed", code */
static int
websocket_recv(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    websocket *ws = check_websocket(L);
    lmpe_await *a = lmpe_await_new(S, lmpe_check_deadline(L, 2), "timeout");
    a->scratch[0] = (uintptr_t)ws;
    a->attempt = attempt_recv;
    a->finish = finish_recv;
    return lmpe_await_run(L, S, a);
}

/* ---- send ---- */

/* The opcode is in scratch[1], with the code of a close above it; scratch[2]: it is the library's. */
#define QUEUED UINT64_MAX
#define CODE_SHIFT 8

static int
queue(websocket *ws, const lmpe_await *a)
{
    struct wslay_event_msg m = {.opcode = (uint8_t)a->scratch[1],
                                .msg = (const uint8_t *)(uintptr_t)a->object,
                                .msg_length = (size_t)a->scratch[2]};
    if (ws->damaged)
        return MPE_ECLOSED;
    int rc = m.opcode == WSLAY_CONNECTION_CLOSE
                 ? lmpe_wslay.queue_close(ws->ctx, (uint16_t)(a->scratch[1] >> CODE_SHIFT), m.msg,
                                          m.msg_length)
                 : lmpe_wslay.queue_msg(ws->ctx, &m);
    return rc == 0 ? MPE_OK : rc == WSLAY_ERR_NOMEM ? MPE_ENOMEM : MPE_ECLOSED;
}

static int
attempt_send(lmpe *S, lmpe_await *a)
{
    websocket *ws = (websocket *)(uintptr_t)a->scratch[0];
    (void)S;
    if (a->ending == LMPE_KILLED)
        return MPE_EAGAIN;
    if (!ws->sender)
        ws->sender = a->task;
    if (ws->sender != a->task) {
        a->source = LMPE_LIST;
        a->on.list = &ws->senders;
        return MPE_EAGAIN;
    }
    if (!is_there(ws))
        return MPE_ECLOSED;
    if (a->scratch[2] != QUEUED) {
        int rc = queue(ws, a);
        if (rc != MPE_OK)
            return rc;
        a->scratch[2] = QUEUED;
    }
    int rc = flush(ws);
    a->source = LMPE_FD;
    a->on.fd = ws->r->fd;
    a->event = MPE_WRITABLE | MPE_EDGE;
    return rc;
}

static int
finish_send(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    websocket *ws = (websocket *)(uintptr_t)a->scratch[0];
    int is_killed = a->ending == LMPE_KILLED;
    mpe_waiter *next = ws->senders.head;
    if (ws->sender == a->task) {
        ws->sender = next ? ((lmpe_await *)next)->task : NULL;
        if (next)
            mpe_waitlist_wake(S->e, &ws->senders, 1);
    }
    if (is_killed)
        return 0;
    if (status == MPE_ECLOSED)
        return push_closed(L, ws);
    if (status != MPE_OK)
        return lmpe_outcome(L, status, "timeout");
    lua_pushboolean(L, 1);
    return 1;
}

static int
run_send(lua_State *L, websocket *ws, uint64_t what, const char *bytes, size_t size)
{
    lmpe *S = lmpe_self(L);
    lmpe_await *a = lmpe_await_new(S, MPE_FOREVER, "timeout");
    a->scratch[0] = (uintptr_t)ws;
    a->scratch[1] = what;
    a->scratch[2] = size;
    a->object = (mpe_object *)(uintptr_t)bytes;
    a->attempt = attempt_send;
    a->finish = finish_send;
    a->cleans_up = 1;
    return lmpe_await_run(L, S, a);
}

/* Bytes of the character that begins here, in UTF-8; 0: it is none. */
static size_t
character(const unsigned char *s, size_t left)
{
    unsigned char low = 0x80, high = 0xbf;
    size_t n = *s < 0x80 ? 1 : *s >= 0xc2 && *s <= 0xdf ? 2 : *s >= 0xe0 && *s <= 0xef ? 3 : 4;
    if (n == 1)
        return 1;
    if (*s < 0xc2 || *s > 0xf4 || n > left)
        return 0;
    if (*s == 0xe0)
        low = 0xa0;
    else if (*s == 0xed)
        high = 0x9f;
    else if (*s == 0xf0)
        low = 0x90;
    else if (*s == 0xf4)
        high = 0x8f;
    if (s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++)
        if (s[i] < 0x80 || s[i] > 0xbf)
            return 0;
    return n;
}

static int
is_utf8(const char *text, size_t size)
{
    for (size_t i = 0, n; i < size; i += n)
        if ((n = character((const unsigned char *)text + i, size - i)) == 0)
            return 0;
    return 1;
}

/* ws:send(s [, "text" | "binary"]) -> true | nil, "closed", code */
static int
websocket_send(lua_State *L)
{
    static const char *const kinds[] = {"text", "binary", NULL};
    size_t size;
    websocket *ws = check_websocket(L);
    const char *bytes = luaL_checklstring(L, 2, &size);
    int kind = luaL_checkoption(L, 3, "text", kinds);
    if (kind == 0 && !is_utf8(bytes, size))
        return luaL_argerror(L, 2, "a text must be UTF-8; send other bytes as \"binary\"");
    return run_send(L, ws, kind == 0 ? WSLAY_TEXT_FRAME : WSLAY_BINARY_FRAME, bytes, size);
}

/* ws:close([code [, reason]]) -> true | nil, "closed", code: tells the peer; its own close is what
 * recv gives next */
static int
websocket_close(lua_State *L)
{
    size_t size;
    websocket *ws = check_websocket(L);
    lua_Integer code = luaL_optinteger(L, 2, WSLAY_CODE_NORMAL_CLOSURE);
    const char *reason = luaL_optlstring(L, 3, "", &size);
    luaL_argcheck(L,
                  (code >= 1000 && code <= 1014 && (code < 1004 || code > 1006)) ||
                      (code >= 3000 && code <= 4999),
                  2, "a code that may be sent, such as 1000 or 3000 to 4999, expected");
    luaL_argcheck(L, size < REASON_MAX && is_utf8(reason, size), 3,
                  "a text of less than 123 bytes expected");
    return run_send(L, ws, (uint64_t)code << CODE_SHIFT | WSLAY_CONNECTION_CLOSE, reason, size);
}

/* ---- life ---- */

/* The end of the connection. What the peer still sends is read when it has not said that it closes. */
static void
drop(websocket *ws)
{
    lmpe_request *r = ws->r;
    if (!lmpe_httpd_is_open(r->h) || r->fd < 0)
        return;
    if (!ws->lost && r->c) {
        r->c->lingers = !lmpe_wslay.get_close_received(ws->ctx);
        if (!ws->tls)
            shutdown(r->fd, SHUT_WR);
    }
    lmpe_request_end_upgrade(r);
}

/* ws:drop(): no call on it waits, or will be made */
static int
websocket_drop(lua_State *L)
{
    websocket *ws = luaL_checkudata(L, 1, WEBSOCKET);
    if (ws->r) /* else the program ends, and it was finalized */
        drop(ws);
    return 0;
}

static int
websocket_gc(lua_State *L)
{
    websocket *ws = lmpe_finalized(L, WEBSOCKET, sizeof *ws);
    if (!ws || !ws->r)
        return 0;
    if (!lmpe_httpd_is_ours(ws->r->h))
        return 0;
    drop(ws);
    while (ws->first) {
        struct message *m = ws->first;
        ws->first = m->next;
        free(m);
    }
    lmpe_wslay.context_free(ws->ctx);
    mpe_buf_free(&ws->out);
    lmpe_request_drop(ws->r);
    ws->r = NULL;
    return 0;
}

static int
websocket_tostring(lua_State *L)
{
    lua_pushstring(L, is_there(check_websocket(L)) ? "mp.http.WebSocket"
                                                   : "mp.http.WebSocket (closed)");
    return 1;
}

/* websocket(request, head) -> that of a request whose connection was handed over; sends the head, if it
 * is given */
static int
new_websocket(lua_State *L)
{
    size_t size;
    const char *head = luaL_optlstring(L, 2, "", &size);
    static const struct wslay_event_callbacks calls = {.recv_callback = on_recv,
                                                       .send_callback = on_send,
                                                       .on_frame_recv_start_callback = on_frame,
                                                       .on_msg_recv_callback = on_message};
    lmpe_request *r = lmpe_check_request(L);
    luaL_argcheck(L, r->fd >= 0, 1, "its connection was not handed over");
    websocket *ws = lua_newuserdatauv(L, sizeof *ws, 0);
    memset(ws, 0, sizeof *ws);
    ws->S = r->h->S;
    ws->last = &ws->first;
    mpe_buf_init(&ws->out);
    if (lmpe_wslay.context_server_init(&ws->ctx, &calls, ws) != 0)
        return luaL_error(L, "out of memory");
    if (r->h->max_body < INT32_MAX)
        lmpe_wslay.config_set_max_recv_msg_length(ws->ctx, r->h->max_body);
    ws->r = r;
    r->refs++;
    luaL_setmetatable(L, WEBSOCKET);
    if (!r->upgrade)
        ws->tls =
            lmpe_mhd.get_connection_info(r->mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION)->tls_session;
    if (mpe_buf_append(&ws->out, head, size) != MPE_OK)
        return luaL_error(L, "out of memory");
    flush(ws);
    return 1;
}

/* ---- the handshake ---- */

static void
push_base64(lua_State *L, const unsigned char *bytes, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (size_t i = 0; i < size; i += 3) {
        unsigned v = (unsigned)bytes[i] << 16 | (i + 1 < size ? bytes[i + 1] : 0u) << 8 |
                     (i + 2 < size ? bytes[i + 2] : 0u);
        luaL_addchar(&b, digits[v >> 18]);
        luaL_addchar(&b, digits[v >> 12 & 63]);
        luaL_addchar(&b, i + 1 < size ? digits[v >> 6 & 63] : '=');
        luaL_addchar(&b, i + 2 < size ? digits[v & 63] : '=');
    }
    luaL_pushresult(&b);
}

/* websocket_accept(key) -> what the server answers to it; raises when the library is missing */
static int
websocket_accept(lua_State *L)
{
    unsigned char digest[SHA1_SIZE];
    size_t size;
    const char *why = lmpe_wslay_load();
    if (why)
        return luaL_error(L, "%s", why);
    luaL_checkstring(L, 1);
    lua_settop(L, 1);
    lua_pushliteral(L, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    lua_concat(L, 2);
    const char *text = lua_tolstring(L, -1, &size);
    if (lmpe_wslay.hash_fast(SHA1, text, size, digest) != 0)
        return luaL_error(L, "a WebSocket needs SHA-1, which this GnuTLS does not have");
    push_base64(L, digest, sizeof digest);
    return 1;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {
        {"websocket", new_websocket}, {"websocket_accept", websocket_accept}, {NULL, NULL}};
    static const luaL_Reg meta[] = {
        {"__gc", websocket_gc}, {"__tostring", websocket_tostring}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"recv", websocket_recv},
                                       {"send", websocket_send},
                                       {"close", websocket_close},
                                       {"drop", websocket_drop},
                                       {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
    luaL_newmetatable(L, WEBSOCKET);
    lmpe_setfuncs(L, S, meta);
    lua_newtable(L);
    lmpe_setfuncs(L, S, methods);
    lua_setfield(L, -2, "__index");
    lua_setfield(L, -2, "WebSocket");
}

#else

static int
no_websocket(lua_State *L)
{
    return luaL_error(L,
                      "a WebSocket needs wslay (Debian package libwslay-dev), which was not there "
                      "when mpengine was built");
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"websocket_accept", no_websocket}, {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
}

#endif

const lmpe_module lmpe_websocket_module = {.open = on_open};
