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
#include "io/lwebsocket.h"
#include "task/lturn.h"

#if defined LMPE_WSLAY && defined LMPE_MHD

#include <stdlib.h>
#include <sys/socket.h>

#define WEBSOCKET "mp.WebSocket" /* messages name its methods by it */
#define REASON_MAX 123
#define CODE_LOST 1006

static lmpe_websocket *
check_websocket(lua_State *L)
{
    lmpe_websocket *ws = luaL_checkudata(L, 1, WEBSOCKET);
    luaL_argcheck(L, ws->r, 1, "the program ends"); /* it was finalized */
    return ws;
}

/* ---- receive ---- */

static int
reads_on(const lmpe_websocket *ws)
{
    return lmpe_ws_is_there(ws) && !ws->damaged && lmpe_wslay.get_read_enabled(ws->ctx);
}

static int
attempt_recv(lmpe *S, lmpe_await *a)
{
    lmpe_websocket *ws = (lmpe_websocket *)(uintptr_t)a->scratch[0];
    (void)S;
    a->source = LMPE_FD;
    a->event = MPE_READABLE | MPE_EDGE;
    if (ws->first)
        return MPE_OK;
    if (!lmpe_ws_is_there(ws))
        return MPE_ECLOSED;
    if (a->scratch[1]) /* it was woken: there is something */
        ws->drained = 0;
    lmpe_ws_feed(ws);
    lmpe_ws_flush(ws); /* pongs, and closes */
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
code_of(const lmpe_websocket *ws)
{
    int code = ws->damaged ? WSLAY_CODE_PROTOCOL_ERROR
               : lmpe_wslay.get_close_received(ws->ctx)
                   ? lmpe_wslay.get_status_code_received(ws->ctx)
                   : lmpe_wslay.get_status_code_sent(ws->ctx);
    return code ? code : CODE_LOST;
}

static int
push_closed(lua_State *L, const lmpe_websocket *ws)
{
    luaL_pushfail(L);
    lua_pushliteral(L, "closed");
    lua_pushinteger(L, code_of(ws));
    return 3;
}

static int
finish_recv(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    lmpe_websocket *ws = (lmpe_websocket *)(uintptr_t)a->scratch[0];
    struct lmpe_ws_message *m = ws->first;
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
    lmpe_websocket *ws = check_websocket(L);
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
queue(lmpe_websocket *ws, const lmpe_await *a)
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
    lmpe_websocket *ws = (lmpe_websocket *)(uintptr_t)a->scratch[0];
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
    if (!lmpe_ws_is_there(ws))
        return MPE_ECLOSED;
    if (a->scratch[2] != QUEUED) {
        int rc = queue(ws, a);
        if (rc != MPE_OK)
            return rc;
        a->scratch[2] = QUEUED;
    }
    int rc = lmpe_ws_flush(ws);
    a->source = LMPE_FD;
    a->on.fd = ws->r->fd;
    a->event = MPE_WRITABLE | MPE_EDGE;
    return rc;
}

static int
finish_send(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    lmpe_websocket *ws = (lmpe_websocket *)(uintptr_t)a->scratch[0];
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
run_send(lua_State *L, lmpe_websocket *ws, uint64_t what, const char *bytes, size_t size)
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

/* ws:send(s [, "text" | "binary"]) -> true | nil, "closed", code */
static int
websocket_send(lua_State *L)
{
    static const char *const kinds[] = {"text", "binary", NULL};
    size_t size;
    lmpe_websocket *ws = check_websocket(L);
    const char *bytes = luaL_checklstring(L, 2, &size);
    int kind = luaL_checkoption(L, 3, "text", kinds);
    if (kind == 0 && !lmpe_ws_is_utf8(bytes, size))
        return luaL_argerror(L, 2, "a text must be UTF-8; send other bytes as \"binary\"");
    return run_send(L, ws, kind == 0 ? WSLAY_TEXT_FRAME : WSLAY_BINARY_FRAME, bytes, size);
}

/* ws:close([code [, reason]]) -> true | nil, "closed", code: tells the peer; its own close is what
 * recv gives next */
static int
websocket_close(lua_State *L)
{
    size_t size;
    lmpe_websocket *ws = check_websocket(L);
    lua_Integer code = luaL_optinteger(L, 2, WSLAY_CODE_NORMAL_CLOSURE);
    const char *reason = luaL_optlstring(L, 3, "", &size);
    luaL_argcheck(L,
                  (code >= 1000 && code <= 1014 && (code < 1004 || code > 1006)) ||
                      (code >= 3000 && code <= 4999),
                  2, "a code that may be sent, such as 1000 or 3000 to 4999, expected");
    luaL_argcheck(L, size < REASON_MAX && lmpe_ws_is_utf8(reason, size), 3,
                  "a text of less than 123 bytes expected");
    return run_send(L, ws, (uint64_t)code << CODE_SHIFT | WSLAY_CONNECTION_CLOSE, reason, size);
}

/* ---- life ---- */

/* The end of the connection. What the peer still sends is read when it has not said that it closes. */
static void
drop(lmpe_websocket *ws)
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
    lmpe_websocket *ws = luaL_checkudata(L, 1, WEBSOCKET);
    if (ws->r) /* else the program ends, and it was finalized */
        drop(ws);
    return 0;
}

static int
websocket_gc(lua_State *L)
{
    lmpe_websocket *ws = lmpe_finalized(L, WEBSOCKET, sizeof *ws);
    if (!ws || !ws->r)
        return 0;
    if (!lmpe_httpd_is_ours(ws->r->h))
        return 0;
    drop(ws);
    while (ws->first) {
        struct lmpe_ws_message *m = ws->first;
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
    lua_pushstring(L, lmpe_ws_is_there(check_websocket(L)) ? "mp.http.WebSocket"
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
    lmpe_request *r = lmpe_check_request(L);
    luaL_argcheck(L, r->fd >= 0, 1, "its connection was not handed over");
    lmpe_websocket *ws = lua_newuserdatauv(L, sizeof *ws, 0);
    if (lmpe_ws_open(ws, r) != MPE_OK)
        return luaL_error(L, "out of memory");
    luaL_setmetatable(L, WEBSOCKET);
    if (mpe_buf_append(&ws->out, head, size) != MPE_OK)
        return luaL_error(L, "out of memory");
    lmpe_ws_flush(ws);
    return 1;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {
        {"websocket", new_websocket}, {"websocket_accept", lmpe_ws_accept}, {NULL, NULL}};
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
