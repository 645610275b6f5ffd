/* SPDX-License-Identifier: MIT
 *
 * lpipe.c - the ends of mp.Pipe. An end sends into one queue and receives from another; user value 1
 * and 2 of its userdata are those queues' userdata, once they were needed.
 */
#include "base/llabel.h"
#include "base/lobject.h"
#include "codec/lmessage.h"
#include "codec/lcodec.h"
#include "task/lturn.h"
#include "shared/lshared.h"

enum { CLOSED = 1 }; /* extra of the box */

static int
end_of(const lmpe_box *b)
{
    return mpe_handle_kind(b->h) == MPE_KIND_PIPE_OTHER;
}

/* An end that has arrived with a message: this process holds it now. */
static void
arrived(lmpe_box *b)
{
    b->extra &= ~(uint32_t)CLOSED; /* sent again, it is open again */
    mpe_pipe_use(b->S->e, b->o, end_of(b));
}

/* The end at index 1, open in this process. */
static lmpe_box *
check_open(lua_State *L, const char *call)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    if (b->extra & CLOSED)
        luaL_error(L, "%s: this end of the pipe is closed", call);
    mpe_pipe_use(b->S->e, b->o, end_of(b));
    return b;
}

/* Pushes the queue into which from_end sends, or returns NULL: it sends nothing. */
static lmpe_box *
push_queue(lua_State *L, lmpe_box *b, int from_end)
{
    int slot = 1 + from_end;
    if (lua_getiuservalue(L, 1, slot) == LUA_TUSERDATA)
        return lua_touserdata(L, -1);
    lua_pop(L, 1);
    mpe_handle h = mpe_pipe_queue(b->S->e, b->o, from_end);
    if (h == 0)
        return NULL;
    int rc = lmpe_push_handle(L, b->S, h);
    if (rc != MPE_OK)
        lmpe_raise(L, rc, "pipe");
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, slot);
    return lua_touserdata(L, -1);
}

static lmpe_box *
outgoing(lua_State *L, lmpe_box *b, const char *call)
{
    lmpe_box *q = push_queue(L, b, end_of(b));
    if (!q)
        luaL_error(L, "%s: this end of the pipe only receives", call);
    return q;
}

static lmpe_box *
incoming(lua_State *L, lmpe_box *b, const char *call)
{
    lmpe_box *q = push_queue(L, b, !end_of(b));
    if (!q)
        luaL_error(L, "%s: this end of the pipe only sends", call);
    return q;
}

/* ---- sending ---- */

static int
send_parts(lua_State *L, lmpe_box *q, const mpe_bytes *parts, int count, int handles,
           const char *call)
{
    int rc, tries = 0;
    do
        rc = mpe_queue_put(q->S->e, q->o, parts, count, handles);
    while (lmpe_try_again(L, q->S, rc, &tries));
    if (rc != MPE_OK && handles)
        lmpe_unsent(q->S, parts->data, parts->size);
    lmpe_sent(L, q->S);
    if (rc == MPE_ECLOSED)
        return lmpe_outcome(L, rc, NULL);
    if (rc != MPE_OK)
        return lmpe_raise(L, rc, call);
    lua_pushboolean(L, 1);
    return lmpe_did(L, q->S, LMPE_DID, 1);
}

static int
send_string(lua_State *L, lmpe_box *q, const char *call)
{
    const char *bytes;
    size_t n, header_len;
    uint8_t header[MPE_WIRE_STR_HEADER];
    lmpe_encode_is_bytes(L, 2, &bytes, &n, header, &header_len);
    mpe_bytes parts[2] = {{header, header_len}, {bytes, n}};
    return send_parts(L, q, parts, 2, 0, call);
}

/* end:send(v) -> true | nil, "closed" */
static int
pipe_send(lua_State *L)
{
    lmpe_box *b = check_open(L, "send");
    luaL_checkany(L, 2);
    lua_settop(L, 2);
    lmpe_box *q = outgoing(L, b, "send");
    if (lua_type(L, 2) == LUA_TSTRING)
        return send_string(L, q, "send");
    int handles = lmpe_encode_item(L, b->S, 2, "send");
    mpe_bytes bytes = {b->S->scratch->data, b->S->scratch->len};
    return send_parts(L, q, &bytes, 1, handles, "send");
}

/* end:send_bytes(s) -> true | nil, "closed" */
static int
pipe_send_bytes(lua_State *L)
{
    lmpe_box *b = check_open(L, "send_bytes");
    luaL_checktype(L, 2, LUA_TSTRING);
    lua_settop(L, 2);
    return send_string(L, outgoing(L, b, "send_bytes"), "send_bytes");
}

/* ---- receiving ---- */

static int
attempt_recv(lmpe *S, lmpe_await *a)
{
    a->source = LMPE_OBJECT;
    a->on.object = a->object;
    a->event = MPE_EVENT_READY;
    return lmpe_get_item(S, a->object);
}

static int
finish_recv(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    if (status != MPE_OK)
        return lmpe_outcome(L, status, a->reason);
    int n = lmpe_push_item(L, S, a->object);
    if (a->scratch[0] && lua_type(L, -1) != LUA_TSTRING)
        return luaL_error(L, "recv_bytes: a %s was sent, not bytes", luaL_typename(L, -1));
    return n;
}

static int
receive(lua_State *L, const char *call, int bytes_only)
{
    lmpe_box *b = check_open(L, call);
    uint64_t deadline = lmpe_check_deadline(L, 2);
    lmpe_box *q = incoming(L, b, call);
    lmpe_await *a = lmpe_await_new(b->S, deadline, "timeout");
    a->object = q->o;
    a->scratch[0] = (uint64_t)bytes_only;
    a->attempt = attempt_recv;
    a->finish = finish_recv;
    return lmpe_await_run(L, b->S, a);
}

/* end:recv([timeout]) -> v | nil, "timeout" | nil, "closed" */
static int
pipe_recv(lua_State *L)
{
    return receive(L, "recv", 0);
}

static int
pipe_recv_bytes(lua_State *L)
{
    return receive(L, "recv_bytes", 1);
}

static int
attempt_poll(lmpe *S, lmpe_await *a)
{
    a->source = LMPE_OBJECT;
    a->on.object = a->object;
    a->event = MPE_EVENT_READY;
    int is_ready = mpe_queue_size(S->e, a->object) > 0 || mpe_queue_is_closed(S->e, a->object) ||
                   (S->kept_count && lmpe_kept_items(S, a->object) > 0);
    return is_ready ? MPE_OK : MPE_EAGAIN;
}

static int
finish_poll(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    (void)S, (void)a;
    lua_pushboolean(L, status == MPE_OK);
    return 1;
}

/* end:poll([timeout]) -> is there something to receive, or the end of file? Does not wait without
 * a timeout. */
static int
pipe_poll(lua_State *L)
{
    lmpe_box *b = check_open(L, "poll");
    uint64_t deadline = lua_isnoneornil(L, 2) ? MPE_NOW : lmpe_check_deadline(L, 2);
    lmpe_box *q = incoming(L, b, "poll");
    lmpe_await *a = lmpe_await_new(b->S, deadline, NULL);
    a->object = q->o;
    a->attempt = attempt_poll;
    a->finish = finish_poll;
    return lmpe_await_run(L, b->S, a);
}

/* ---- the rest ---- */

/* end:close(): for this process; harmless when closed already */
static int
pipe_close(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    if (!(b->extra & CLOSED)) {
        b->extra |= CLOSED;
        mpe_pipe_close(b->S->e, b->o, end_of(b));
    }
    return 0;
}

/* __wait_source: the queue that it receives from; nil and why it cannot be waited for */
static int
pipe_wait_source(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    const char *why = "it only sends";
    if (b->extra & CLOSED) {
        why = "this end of the pipe is closed";
    } else {
        mpe_pipe_use(b->S->e, b->o, end_of(b));
        if (push_queue(L, b, !end_of(b)))
            return 1;
    }
    luaL_pushfail(L);
    lua_pushstring(L, why);
    return 2;
}

/* __ready: is there something to receive, or the end of file? */
static int
pipe_ready(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    lmpe_box *q = push_queue(L, b, !end_of(b));
    lua_pushboolean(L, q && lmpe_queue_is_ready(q));
    return 1;
}

static int
pipe_tostring(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    lmpe_push_identity(L, b);
    int sends = mpe_pipe_queue(b->S->e, b->o, end_of(b)) != 0;
    int receives = mpe_pipe_queue(b->S->e, b->o, !end_of(b)) != 0;
    lua_pushfstring(L, " (end %d, %s%s)", end_of(b) + 1,
                    sends && receives ? "duplex"
                    : sends           ? "sends"
                                      : "receives",
                    b->extra & CLOSED ? ", closed" : "");
    lua_concat(L, 2);
    return 1;
}

/* A process that has not closed the end releases it by that. */
static void
collected(lmpe_box *b)
{
    mpe_pipe_close(b->S->e, b->o, end_of(b));
}

/* A trace calls its queues by its name. */
static void
trace_queues(lmpe *S, mpe_object *o)
{
    for (int end = 0; end < 2; end++) {
        mpe_handle h = mpe_pipe_queue(S->e, o, end);
        if (h)
            mpe_trace_add(S->e, MPE_TRACE_PART, 0, h, mpe_handle_of(S->e, o));
    }
}

/* new_pipe([duplex = true]) -> end, end */
static int
new_pipe(lua_State *L)
{
    static const char *const fields[] = {"duplex", NULL};
    lmpe *S = lmpe_self(L);
    int duplex = 1;
    lmpe_take_fields(L, "Pipe", fields);
    if (!lua_isnil(L, 1)) {
        luaL_checktype(L, 1, LUA_TBOOLEAN);
        duplex = lua_toboolean(L, 1);
    }
    mpe_object *o, *again;
    int rc, tries = 0;
    do
        rc = mpe_pipe_create(S->e, duplex, &o);
    while (lmpe_try_again(L, S, rc, &tries));
    lmpe_created(L, S, rc, &o, "Pipe", 2);
    if (*S->trace)
        trace_queues(S, o);
    mpe_handle other = mpe_pipe_handle(S->e, o, 1);
    rc = mpe_hold(S->e, other, &again);
    if (rc != MPE_OK)
        return lmpe_raise(L, rc, "Pipe");
    lmpe_push_object(L, S, again, other);
    return 2;
}

static void
new_type(lua_State *L, lmpe *S, int kind, const char *suffix)
{
    static const luaL_Reg methods[] = {
        {"send", pipe_send}, {"send_bytes", pipe_send_bytes}, {"recv", pipe_recv},
        {"poll", pipe_poll}, {"recv_bytes", pipe_recv_bytes}, {"close", pipe_close},
        {NULL, NULL},
    };
    static const luaL_Reg meta[] = {
        {"__tostring", pipe_tostring},
        {"__close", pipe_close},
        {"__wait_source", pipe_wait_source},
        {"__ready", pipe_ready},
        {NULL, NULL},
    };
    static const lmpe_box_calls calls = {.arrived = arrived, .collected = collected};
    lmpe_new_type(L, S, &(lmpe_type){kind, methods, meta, &calls, suffix});
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg makers[] = {{"Pipe", new_pipe}, {NULL, NULL}};
    new_type(L, S, MPE_KIND_PIPE, NULL);
    lmpe_set_makers(L, S, makers);
}

static void
on_open_other(lua_State *L, lmpe *S)
{
    new_type(L, S, MPE_KIND_PIPE_OTHER, ".other");
}

const lmpe_module lmpe_pipe_module = {.open = on_open};
const lmpe_module lmpe_pipe_other_module = {.open = on_open_other};
