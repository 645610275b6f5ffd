/* SPDX-License-Identifier: MIT
 *
 * lqueue.c - mp.Queue, mp.JoinableQueue, mp.SimpleQueue.
 */
#include "base/llabel.h"
#include "base/lobject.h"
#include "codec/lmessage.h"
#include "codec/lcodec.h"
#include "task/lturn.h"
#include "shared/lshared.h"

#include <string.h>

#define QUEUE (1u << MPE_KIND_QUEUE | 1u << MPE_KIND_JOINABLE)

/* ---- put ---- */

/* The message: scratch[1] bytes at scratch[0] with S->header before them; or, with WHOLE, those
 * bytes alone. HANDLES: they hold handles. */
enum { HANDLES = 1, WHOLE = 2 };

static int
attempt_put(lmpe *S, lmpe_await *a)
{
    mpe_bytes parts[2] = {{S->header, S->header_len}, {(void *)a->scratch[0], a->scratch[1]}};
    int whole = (a->scratch[2] & WHOLE) != 0;
    a->source = LMPE_OBJECT;
    a->on.object = a->object;
    a->event = MPE_EVENT_SPACE;
    return mpe_queue_put(S->e, a->object, parts + whole, 2 - whole, (int)(a->scratch[2] & HANDLES));
}

static int
finish_put(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    if (status != MPE_OK && a->scratch[2] & HANDLES)
        lmpe_unsent(S, (const void *)a->scratch[0], a->scratch[1]);
    if (status < 0 && status != MPE_ETIMEDOUT && status != MPE_ECLOSED && status != MPE_EAGAIN)
        return lmpe_raise(L, status, "put");
    return lmpe_finish_true(L, S, a, status);
}

/* The bytes must outlive the call when it waits: other calls use buffer and header then. So must
 * the objects that they name, even if the value is dropped. */
static void
keep_bytes(lua_State *L, lmpe *S, lmpe_await *a)
{
    if (a->scratch[2] & WHOLE) {
        lua_pushlstring(L, (const char *)a->scratch[0], a->scratch[1]);
    } else {
        lua_pushlstring(L, (const char *)S->header, S->header_len);
        lua_pushvalue(L, 2); /* the string itself */
        lua_concat(L, 2);
    }
    size_t n;
    a->scratch[0] = (uintptr_t)lua_tolstring(L, -1, &n);
    a->scratch[1] = n;
    a->scratch[2] |= WHOLE;
    if (!(a->scratch[2] & HANDLES))
        return;
    lmpe_push_holds(L, S, (const void *)a->scratch[0], n);
}

/* The value to put is at index 2. */
static int
put_with(lua_State *L, lmpe *S, lmpe_box *b, uint64_t deadline)
{
    const char *bytes;
    size_t n;
    uint64_t flags = 0;
    if (!lmpe_encode_is_bytes(L, 2, &bytes, &n, S->header, &S->header_len)) {
        flags = WHOLE | (lmpe_encode_item(L, S, 2, "put") ? HANDLES : 0);
        bytes = (const char *)S->scratch->data;
        n = S->scratch->len;
    }
    lmpe_await *a = lmpe_await_new(S, deadline, "full");
    a->object = b->o;
    a->scratch[0] = (uintptr_t)bytes;
    a->scratch[1] = n;
    a->scratch[2] = flags;
    a->attempt = attempt_put;
    a->finish = finish_put;
    int rc = attempt_put(S, a);
    if (rc == MPE_OK) {
        lmpe_sent(L, S);
        lua_pushboolean(L, 1);
        return lmpe_did(L, S, LMPE_DID, 1);
    }
    if (rc != MPE_EAGAIN && rc != MPE_EARENA)
        return lmpe_did(L, S, LMPE_DID, finish_put(L, S, a, rc));
    if (deadline != MPE_NOW || a->scratch[2] & HANDLES)
        keep_bytes(L, S, a);
    lmpe_sent(L, S); /* what was kept holds them now */
    return lmpe_await_run(L, S, a);
}

/* q:put(v [, timeout]) -> true | nil, "full" | nil, "closed" */
static int
queue_put(lua_State *L)
{
    lmpe_box *b = lmpe_check_kinds(L, 1, QUEUE);
    luaL_checkany(L, 2);
    uint64_t deadline = lmpe_check_deadline(L, 3);
    lua_settop(L, 2);
    return put_with(L, b->S, b, deadline);
}

static int
queue_put_nowait(lua_State *L)
{
    lmpe_box *b = lmpe_check_kinds(L, 1, QUEUE);
    luaL_checkany(L, 2);
    lua_settop(L, 2);
    return put_with(L, b->S, b, MPE_NOW);
}

/* ---- get ---- */

static int
attempt_get(lmpe *S, lmpe_await *a)
{
    a->source = LMPE_OBJECT;
    a->on.object = a->object;
    a->event = MPE_EVENT_READY;
    return lmpe_get_item(S, a->object);
}

static int
finish_get(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    if (status != MPE_OK)
        return lmpe_outcome(L, status, a->reason);
    return lmpe_push_item(L, S, a->object);
}

static int
get_with(lua_State *L, lmpe_box *b, uint64_t deadline)
{
    lmpe *S = b->S;
    if (!lmpe_may_be_cancelled(S->current) && lmpe_get_item(S, b->o) == MPE_OK)
        return lmpe_did(L, S, LMPE_DID,
                        lmpe_push_item(L, S, b->o)); /* the common case: there is one */
    lmpe_await *a = lmpe_await_new(S, deadline, "empty");
    a->object = b->o;
    a->attempt = attempt_get;
    a->finish = finish_get;
    return lmpe_await_run(L, S, a);
}

/* q:get([timeout]) -> v | nil, "empty" | nil, "closed" */
static int
queue_get(lua_State *L)
{
    lmpe_box *b = lmpe_check_kinds(L, 1, QUEUE);
    return get_with(L, b, lmpe_check_deadline(L, 2));
}

static int
queue_get_nowait(lua_State *L)
{
    return get_with(L, lmpe_check_kinds(L, 1, QUEUE), MPE_NOW);
}

/* Pushes "Queue:iter": the loop function has no name of its own. */
static const char *
iterated_name(lua_State *L)
{
    lua_getfield(L, lua_upvalueindex(2), "__name");
    return lua_pushfstring(L, "%s:iter", lua_tostring(L, -1) + strlen("mp."));
}

/* The loop function of q:iter(). */
static int
finish_next(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    int n = finish_get(L, S, a, status);
    if (status == MPE_ECLOSED)
        lua_pop(L, 1), n--;
    else if (lua_isnil(L, -n))
        return lmpe_misuse_in(L, iterated_name(L), "nil_item");
    return n;
}

/* Its queue is upvalue 3, so that it can be handed on alone. */
static int
iter_next(lua_State *L)
{
    lua_settop(L, 0);
    lua_pushvalue(L, lua_upvalueindex(3));
    lmpe_box *b = lmpe_check_kinds(L, 1, QUEUE);
    lmpe_await *a = lmpe_await_new(b->S, MPE_FOREVER, NULL);
    a->object = b->o;
    a->attempt = attempt_get;
    a->finish = finish_next;
    return lmpe_await_run(L, b->S, a);
}

static int
queue_iter(lua_State *L)
{
    lmpe_check_kinds(L, 1, QUEUE);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_pushvalue(L, 1);
    lua_pushcclosure(L, iter_next, 3);
    return 1;
}

/* ---- state ---- */

/* With the items that this process has and could not receive. */
static uint32_t
size_of(const lmpe_box *b)
{
    return mpe_queue_size(b->S->e, b->o) + (b->S->kept_count ? lmpe_kept_items(b->S, b->o) : 0);
}

int
lmpe_queue_is_ready(const lmpe_box *b)
{
    return size_of(b) > 0 || mpe_queue_is_closed(b->S->e, b->o);
}

static int
size_now(lua_State *L)
{
    lmpe_box *b = lmpe_check_kinds(L, 1, QUEUE);
    lua_pushinteger(L, size_of(b));
    return 1;
}

static int
queue_qsize(lua_State *L)
{
    return lmpe_look(L, lmpe_self(L), size_now);
}

static int
empty_now(lua_State *L)
{
    lmpe_box *b = lmpe_check_kinds(L, 1, QUEUE);
    lua_pushboolean(L, size_of(b) == 0);
    return 1;
}

static int
queue_empty(lua_State *L)
{
    return lmpe_look(L, lmpe_self(L), empty_now);
}

static int
full_now(lua_State *L)
{
    lmpe_box *b = lmpe_check_kinds(L, 1, QUEUE);
    uint32_t bound = mpe_queue_bound(b->S->e, b->o);
    lua_pushboolean(L, bound && mpe_queue_size(b->S->e, b->o) >= bound);
    return 1;
}

static int
queue_full(lua_State *L)
{
    return lmpe_look(L, lmpe_self(L), full_now);
}

static int
closed_now(lua_State *L)
{
    lmpe_box *b = lmpe_check_kinds(L, 1, QUEUE);
    lua_pushboolean(L, mpe_queue_is_closed(b->S->e, b->o));
    return 1;
}

static int
queue_is_closed(lua_State *L)
{
    return lmpe_look(L, lmpe_self(L), closed_now);
}

static int
queue_close(lua_State *L)
{
    lmpe_box *b = lmpe_check_kinds(L, 1, QUEUE);
    mpe_queue_close(b->S->e, b->o);
    return 0;
}

/* ---- joinable ---- */

static int
queue_task_done(lua_State *L)
{
    lmpe_box *b = lmpe_check_kinds(L, 1, QUEUE);
    int rc = mpe_queue_task_done(b->S->e, b->o);
    if (rc == MPE_EOVER)
        return lmpe_misuse(L, "all_done");
    if (rc != MPE_OK)
        return lmpe_misuse(L, "not_joinable");
    return 0;
}

static int
attempt_join(lmpe *S, lmpe_await *a)
{
    a->source = LMPE_OBJECT;
    a->on.object = a->object;
    a->event = MPE_EVENT_DONE;
    return mpe_queue_join(S->e, a->object);
}

static int
finish_join(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    if (status == MPE_EINVAL)
        return lmpe_misuse(L, "not_joinable");
    return lmpe_finish_true(L, S, a, status);
}

static int
queue_join(lua_State *L)
{
    lmpe_box *b = lmpe_check_kinds(L, 1, QUEUE);
    lmpe_await *a = lmpe_await_new(b->S, lmpe_check_deadline(L, 2), "timeout");
    a->object = b->o;
    a->attempt = attempt_join;
    a->finish = finish_join;
    return lmpe_await_run(L, b->S, a);
}

/* ---- metamethods and making ---- */

/* __ready: would get return at once? */
static int
queue_ready(lua_State *L)
{
    lmpe_box *b = lmpe_check_kinds(L, 1, QUEUE);
    lua_pushboolean(L, lmpe_queue_is_ready(b));
    return 1;
}

static int
queue_tostring(lua_State *L)
{
    lmpe_box *b = lmpe_check_kinds(L, 1, QUEUE);
    uint32_t bound = mpe_queue_bound(b->S->e, b->o), size = mpe_queue_size(b->S->e, b->o);
    const char *closed = mpe_queue_is_closed(b->S->e, b->o) ? ", closed" : "";
    lmpe_push_identity(L, b);
    if (bound)
        lua_pushfstring(L, " (%d of %d items%s)", (int)size, (int)bound, closed);
    else
        lua_pushfstring(L, " (%d items%s)", (int)size, closed);
    lua_concat(L, 2);
    return 1;
}

static int
create(lua_State *L, unsigned flags, const char *function)
{
    lmpe *S = lmpe_self(L);
    static const char *const fields[] = {"maxsize", NULL};
    lmpe_take_fields(L, function, fields);
    lua_Integer n = lua_isnil(L, 1) ? 0 : lmpe_check_count(L, 1, 0, INT32_MAX, "maxsize");
    mpe_object *o;
    int rc, tries = 0;
    do
        rc = mpe_queue_create(S->e, (uint32_t)n, flags, &o);
    while (lmpe_try_again(L, S, rc, &tries));
    return lmpe_created(L, S, rc, &o, function, 2);
}

static int
new_queue(lua_State *L)
{
    return create(L, 0, "Queue");
}

static int
new_joinable(lua_State *L)
{
    return create(L, MPE_QUEUE_JOINABLE, "JoinableQueue");
}

static int
new_simple(lua_State *L)
{
    lua_settop(L, 0);
    return create(L, 0, "SimpleQueue");
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg methods[] = {
        {"put", queue_put},
        {"get", queue_get},
        {"put_nowait", queue_put_nowait},
        {"get_nowait", queue_get_nowait},
        {"iter", queue_iter},
        {"qsize", queue_qsize},
        {"empty", queue_empty},
        {"full", queue_full},
        {"close", queue_close},
        {"is_closed", queue_is_closed},
        {"task_done", queue_task_done},
        {"join", queue_join},
        {NULL, NULL},
    };
    static const luaL_Reg meta[] = {{"__tostring", queue_tostring},
                                    {"__close", queue_close},
                                    {"__ready", queue_ready},
                                    {NULL, NULL}};
    static const luaL_Reg makers[] = {{"Queue", new_queue},
                                      {"JoinableQueue", new_joinable},
                                      {"SimpleQueue", new_simple},
                                      {NULL, NULL}};
    lmpe_new_type(L, S, &(lmpe_type){.kind = MPE_KIND_QUEUE, .methods = methods, .meta = meta});
    lmpe_new_type(L, S, &(lmpe_type){.kind = MPE_KIND_JOINABLE, .methods = methods, .meta = meta});
    lmpe_set_makers(L, S, makers);
}

const lmpe_module lmpe_queue_module = {.open = on_open};
