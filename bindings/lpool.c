/* SPDX-License-Identifier: MIT
 *
 * lpool.c - the pool's side of what lpool.h describes: it puts tasks, receives results, and looks
 * after the control words. mpengine/pool.lua and what is beside it decide what to do when.
 *
 * A task is here a table of Lua's: number; first, the index of its first item; values, where the
 * results of items go, or nil: those of a call, which are returned.
 */
#include "lpool.h"

#include "lcodec.h"

#include <signal.h>
#include <string.h>

/* ---- the control ---- */

lmpe_control
lmpe_check_control(lua_State *L, int idx)
{
    lmpe_box *b = lmpe_test_any(L, idx);
    char type;
    luaL_argcheck(L, b && b->o && mpe_kind_of(b->o) == MPE_KIND_RAW_ARRAY, idx,
                  "a pool's control expected");
    uint64_t length, *data = mpe_array_data(b->S->e, b->o, &type, &length);
    luaL_argcheck(L, type == 'Q' && length > POOL_WORDS && data[0] < length / POOL_WORDS, idx,
                  "a pool's control expected");
    return (lmpe_control){(_Atomic uint64_t *)data, data[0],
                          length - POOL_WORDS - POOL_WORDS * data[0]};
}

uint64_t
lmpe_check_worker(lua_State *L, int idx, const lmpe_control *c)
{
    return (uint64_t)lmpe_check_count(L, idx, 1, (lua_Integer)c->workers, "worker") - 1;
}

static uint64_t
check_place(lua_State *L, int idx, const lmpe_control *c)
{
    return (uint64_t)lmpe_check_count(L, idx, 1, (lua_Integer)c->places, "place") - 1;
}

/* pool_control_size(workers, places) -> words */
static int
pool_control_size(lua_State *L)
{
    lua_pushinteger(L, POOL_WORDS + POOL_WORDS * luaL_checkinteger(L, 1) + luaL_checkinteger(L, 2));
    return 1;
}

/* ---- heads ---- */

size_t
lmpe_pool_head(uint8_t out[HEAD_MAX], const void *head, size_t size)
{
    size_t n = mpe_wire_str_header(out, size);
    memcpy(out + n, head, size);
    return n + size;
}

int
lmpe_pool_read_head(void *head, size_t head_size, const uint8_t **data, size_t *size)
{
    uint8_t expected[MPE_WIRE_STR_HEADER];
    size_t n = mpe_wire_str_header(expected, head_size);
    if (*size < n + head_size || memcmp(*data, expected, n) != 0)
        return 0;
    memcpy(head, *data + n, head_size);
    *data += n + head_size;
    *size -= n + head_size;
    return 1;
}

/* ---- tasks ---- */

static int
is_scalar(lua_State *L, int idx)
{
    int type = lua_type(L, idx);
    return type <= LUA_TBOOLEAN || type == LUA_TNUMBER || type == LUA_TSTRING;
}

/* Encodes the items first .. first + n - 1 of the table at idx, which are pushed and stay; whether
 * there are handles among them. */
static int
encode_items(lua_State *L, lmpe *S, int idx, uint32_t mode, const char *where)
{
    char name[32];
    const char *const names[] = {name};
    lua_Integer first = luaL_checkinteger(L, idx + 1);
    int n = (int)lmpe_check_count(L, idx + 2, 0, 1000000, "number of items"), handles = 0;
    luaL_checkstack(L, n + 8, "too many items");
    int base = lua_gettop(L) + 1;
    for (int i = 0; i < n; i++)
        lua_geti(L, idx, first + i);
    lmpe_encode_opts opts = {.root = mode & MODE_APPLY ? "args" : "items", .in_program = 1};
    if (!(mode & MODE_APPLY) && n == 1) {
        snprintf(name, sizeof name, "items[%lld]", (long long)first);
        opts.names = names;
        opts.nnames = 1;
    }
    if (lmpe_try_encode(L, S, base, n, &opts, &handles) < 0)
        luaL_error(L, "%s: %s", where, lua_tostring(L, -1));
    return handles;
}

#define KEPT_MOST 256 /* bytes of scalars that are kept encoded */

/* Of a call, what is needed to put it again with the arguments as they are now: the bytes, and
 * whether objects in them must be kept alive; or nothing for scalars that are long. */
static int
push_kept(lua_State *L, int first, const mpe_bytes *bytes, int handles)
{
    int scalars = 1;
    for (int i = first; scalars && i < lua_gettop(L); i++)
        scalars = is_scalar(L, i);
    if (scalars && bytes->size > KEPT_MOST)
        return 0;
    lua_pushlstring(L, bytes->data, bytes->size);
    lua_pushboolean(L, handles);
    return 2;
}

/* pool_put(queue, control, where, place, function, shared, mode, items, first, count) -> number of
 * the task [, bytes, has objects]. items is a table, or the bytes of an earlier put. */
static int
pool_put(lua_State *L)
{
    lmpe_box *q = lmpe_check_kind(L, 1, MPE_KIND_QUEUE, "mp.Queue");
    lmpe *S = q->S;
    lmpe_control c = lmpe_check_control(L, 2);
    const char *where = luaL_checkstring(L, 3);
    uint64_t place = check_place(L, 4, &c);
    struct lmpe_task_head head = {.place = (uint32_t)place,
                                  .function = (uint32_t)luaL_checkinteger(L, 5),
                                  .shared = (uint32_t)luaL_checkinteger(L, 6),
                                  .mode = (uint32_t)luaL_checkinteger(L, 7)};
    head.items = head.mode & MODE_APPLY ? 1 : (uint32_t)luaL_checkinteger(L, 10);
    uint8_t bytes[HEAD_MAX];
    mpe_bytes parts[2] = {{bytes, lmpe_pool_head(bytes, &head, sizeof head)}};
    int handles = 1, kept = lua_type(L, 8) == LUA_TSTRING;
    if (kept) {
        parts[1].data = lua_tolstring(L, 8, &parts[1].size);
    } else {
        lua_settop(L, 10);
        handles = encode_items(L, S, 8, head.mode, where);
        parts[1] = (mpe_bytes){S->scratch->data, S->scratch->len};
    }
    uint32_t number, got;
    mpe_queue_seqs(S->e, q->o, &number, &got);
    atomic_store_explicit(lmpe_pool_claims(&c, place), 0, memory_order_relaxed); /* put publishes */
    int rc = mpe_queue_put(S->e, q->o, parts, 2, handles);
    if (rc == MPE_ECLOSED)
        return luaL_error(L, "%s: the pool is closed", where);
    if (rc != MPE_OK)
        return lmpe_raise(L, rc, where);
    lua_pushinteger(L, number);
    if (kept || !(head.mode & MODE_APPLY))
        return 1;
    return 1 + push_kept(L, 11, &parts[1], handles);
}

/* ---- results ---- */

/* Replaces the message of a failed decoding by a report. */
static void
wrap_decode_error(lua_State *L)
{
    lua_createtable(L, 0, 2);
    lua_pushfstring(L, "the result cannot be received: %s", lua_tostring(L, -2));
    lua_setfield(L, -2, "message");
    lua_remove(L, -2);
}

/* Pushes the values of a record, or one report; *failed says which. How many. */
static int
push_record(lua_State *L, const uint8_t *data, size_t size, int *failed)
{
    int n;
    if (lmpe_decode(L, data, size, &n, LMPE_DECODE_FUNCTIONS) >= 0)
        return n;
    wrap_decode_error(L);
    *failed = 1;
    return 1;
}

/* Stores what one item came to: a result in the table `values`, a report in the table `failed`,
 * which is made when it is needed. Both are at these places of the stack. */
static void
store_item(lua_State *L, int values, int reports, lua_Integer index, const uint8_t *data,
           size_t size, int failed)
{
    int top = lua_gettop(L);
    push_record(L, data, size, &failed);
    lua_settop(L, top + 1);
    if (!failed) {
        lua_rawseti(L, values, index);
        return;
    }
    if (lua_isnil(L, reports)) {
        lua_newtable(L);
        lua_replace(L, reports);
    }
    lua_rawseti(L, reports, index);
}

static void
store_records(lua_State *L, int values, int reports, lua_Integer index, uint32_t count,
              const uint8_t *data, size_t size)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t n;
        if (size < sizeof n)
            return;
        memcpy(&n, data, sizeof n);
        int failed = (n & RECORD_FAILED) != 0;
        n &= ~RECORD_FAILED;
        data += sizeof n;
        size -= sizeof n;
        if (n > size)
            return;
        store_item(L, values, reports, index + i, data, n, failed);
        data += n;
        size -= n;
    }
}

/* What a result gives: task, worker, from, count, seconds, is it the last of the task, reports of failed
 * items by index or nil, and of a call what it returned. The task's table is on top. */
static int
push_result(lua_State *L, const struct lmpe_result_head *h, const uint8_t *data, size_t size)
{
    int task = lua_gettop(L), failed = h->kind == RESULT_FAILED;
    lua_pushinteger(L, (lua_Integer)h->worker + 1);
    lua_pushinteger(L, h->from);
    lua_pushinteger(L, h->count);
    lua_pushnumber(L, (lua_Number)h->elapsed_ns / 1e9);
    lua_pushboolean(L, h->last != 0);
    lua_pushnil(L);
    int reports = task + 6;
    if (h->count == 0)
        return reports - task + 1;
    if (lua_getfield(L, task, "values") != LUA_TTABLE) { /* a call */
        lua_pop(L, 1);
        int n = push_record(L, data, size, &failed);
        if (!failed)
            return reports - task + 1 + n;
        lua_settop(L, reports + 1);
        lua_replace(L, reports);
        return reports - task + 1;
    }
    lua_getfield(L, task, "first");
    lua_Integer index = lua_tointeger(L, -1) + h->from;
    lua_pop(L, 1);
    if (h->kind == RESULT_SEVERAL)
        store_records(L, reports + 1, reports, index, h->count, data, size);
    else
        store_item(L, reports + 1, reports, index, data, size, failed);
    lua_settop(L, reports);
    return reports - task + 1;
}

/* Pushes the task of a result, which may be over, or not be its any more: then 0. */
static int
push_task(lua_State *L, int tasks, const struct lmpe_result_head *h)
{
    if (lua_rawgeti(L, tasks, (lua_Integer)h->place + 1) != LUA_TTABLE) {
        lua_pop(L, 1);
        return 0;
    }
    lua_getfield(L, -1, "number");
    int same = lua_isinteger(L, -1) && lua_tointeger(L, -1) == h->number;
    lua_pop(L, 1 + !same);
    return same;
}

/* A message: a result; false, what, worker [, report] for news of a worker; false for a result that
 * concerns nobody any more. */
static int
push_news(lua_State *L, int tasks, const uint8_t *data, size_t size)
{
    struct lmpe_result_head h;
    int failed = 0;
    luaL_checkstack(L, 16, NULL);
    if (!lmpe_pool_read_head(&h, sizeof h, &data, &size))
        return luaL_error(L, "pool: a damaged message");
    if (h.kind < WORKER_READY) {
        if (push_task(L, tasks, &h))
            return push_result(L, &h, data, size);
        lua_pushboolean(L, 0);
        return 1;
    }
    lua_pushboolean(L, 0);
    lua_pushstring(L, h.kind == WORKER_READY ? "ready" : "failed");
    lua_pushinteger(L, (lua_Integer)h.worker + 1);
    return 3 + (size > 0 ? push_record(L, data, size, &failed) : 0);
}

static int
push_news_protected(lua_State *L)
{
    const mpe_message *m = lua_touserdata(L, 2);
    return push_news(L, 1, m->data, m->size);
}

static int
attempt_receive(lmpe *S, lmpe_await *a)
{
    a->source = LMPE_OBJECT;
    a->on.object = a->object;
    a->event = MPE_EVENT_READY;
    return mpe_queue_get(S->e, a->object, &S->message);
}

/* What holds memory or objects of the engine is given back whatever decoding does. */
static int
finish_receive(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    mpe_message own, *m = &S->message;
    if (status != MPE_OK)
        return lmpe_outcome(L, status, a->reason);
    memcpy(&own, m,
           offsetof(mpe_message, small) + (m->block ? 0 : m->size)); /* decoding may wait */
    if (!own.block)
        own.data = own.small;
    if (!own.block && own.pins == mpe_pin_mark(S->e))
        return push_news(L, 2, own.data, own.size);
    int top = lua_gettop(L);
    lua_pushcfunction(L, push_news_protected);
    lua_pushvalue(L, 2);
    lua_pushlightuserdata(L, &own);
    int rc = lua_pcall(L, 2, LUA_MULTRET, 0);
    mpe_message_free(S->e, &own);
    return rc == LUA_OK ? lua_gettop(L) - top : lua_error(L);
}

/* pool_receive(queue, tasks [, timeout]) -> as push_result and push_news say | nil, reason */
static int
pool_receive(lua_State *L)
{
    lmpe_box *q = lmpe_check_kind(L, 1, MPE_KIND_QUEUE, "mp.Queue");
    luaL_checktype(L, 2, LUA_TTABLE);
    lmpe_await *a = lmpe_await_new(q->S, lmpe_check_deadline(L, 3), "empty");
    a->object = q->o;
    a->attempt = attempt_receive;
    a->finish = finish_receive;
    return lmpe_await_run(L, q->S, a);
}

/* pool_salvage(buffer, worker, task) -> what a dead worker had finished and not sent, as a result |
 * false */
static int
pool_salvage(lua_State *L)
{
    lmpe_box *b = lmpe_check_kind(L, 1, MPE_KIND_RAW_ARRAY, "mp.RawArray");
    char type;
    uint64_t length;
    struct lmpe_pool_buffer *buffer = mpe_array_data(b->S->e, b->o, &type, &length);
    uint64_t published = atomic_load(&buffer->published), bytes = (uint32_t)published;
    lua_settop(L, 3);
    lua_getfield(L, 3, "number");
    if (published == 0 || sizeof *buffer + bytes > length ||
        lua_tointeger(L, -1) != buffer->number) {
        lua_pushboolean(L, 0);
        return 1;
    }
    lua_settop(L, 3);
    struct lmpe_result_head h = {.kind = RESULT_SEVERAL,
                                 .worker = (uint32_t)luaL_checkinteger(L, 2) - 1,
                                 .from = buffer->from,
                                 .count = (uint32_t)(published >> 32)};
    return push_result(L, &h, buffer->bytes, bytes);
}

/* ---- workers ---- */

/* pool_reclaim(control, place) -> how many items were claimed; the others are the caller's again */
static int
pool_reclaim(lua_State *L)
{
    lmpe_control c = lmpe_check_control(L, 1);
    uint64_t claims = atomic_fetch_or(lmpe_pool_claims(&c, check_place(L, 2, &c)), CLAIM_ALL);
    lua_pushinteger(L, (lua_Integer)(claims & (CLAIM_ALL - 1)));
    return 1;
}

/* pool_lease(queue, control, worker) -> number of the task it took last and seconds since then, or
 * nothing: none, or one that had not left the queue yet */
static int
pool_lease(lua_State *L)
{
    lmpe_box *q = lmpe_check_kind(L, 1, MPE_KIND_QUEUE, "mp.Queue");
    lmpe_control c = lmpe_check_control(L, 2);
    uint64_t w = lmpe_check_worker(L, 3, &c), lease = atomic_load(lmpe_pool_word(&c, w, LEASE));
    uint32_t next, got;
    mpe_queue_seqs(q->S->e, q->o, &next, &got);
    if (lease == 0 || (int32_t)(got - (uint32_t)lease) < 0)
        return 0;
    lua_pushinteger(L, (lua_Integer)(uint32_t)(lease - 1));
    lua_pushnumber(L, (lua_Number)(mpe_now() - atomic_load(lmpe_pool_word(&c, w, SINCE))) / 1e9);
    return 2;
}

/* pool_counts(control, worker) -> items it has run, seconds it was busy */
static int
pool_counts(lua_State *L)
{
    lmpe_control c = lmpe_check_control(L, 1);
    uint64_t w = lmpe_check_worker(L, 2, &c);
    lua_pushinteger(L, (lua_Integer)atomic_load(lmpe_pool_word(&c, w, TASKS)));
    lua_pushnumber(L, (lua_Number)atomic_load(lmpe_pool_word(&c, w, BUSY)) / 1e9);
    return 2;
}

/* pool_forget(control, worker, buffer): its place is for a new worker */
static int
pool_forget(lua_State *L)
{
    lmpe_control c = lmpe_check_control(L, 1);
    uint64_t w = lmpe_check_worker(L, 2, &c), length;
    char type;
    lmpe_box *b = lmpe_check_kind(L, 3, MPE_KIND_RAW_ARRAY, "mp.RawArray");
    struct lmpe_pool_buffer *buffer = mpe_array_data(b->S->e, b->o, &type, &length);
    atomic_store(&buffer->published, 0);
    for (int i = 0; i < POOL_WORDS; i++)
        atomic_store(lmpe_pool_word(&c, w, i), 0);
    return 0;
}

/* pool_retire(control, worker) -> the signal that tells it: it ends when it has no task */
static int
pool_retire(lua_State *L)
{
    lmpe_control c = lmpe_check_control(L, 1);
    atomic_store(lmpe_pool_word(&c, lmpe_check_worker(L, 2, &c), RETIRE), 1);
    lua_pushinteger(L, STOP_SIGNAL);
    return 1;
}

/* pool_running(control, worker) -> number of its task, item that runs (from 0), seconds since SINCE */
static int
pool_running(lua_State *L)
{
    lmpe_control c = lmpe_check_control(L, 1);
    uint64_t w = lmpe_check_worker(L, 2, &c), run = atomic_load(lmpe_pool_word(&c, w, RUN));
    if (run == 0)
        return 0;
    lua_pushinteger(L, (lua_Integer)(uint32_t)(run - 1));
    lua_pushinteger(L, (lua_Integer)((run & ~(STOP | DOOMED)) >> 34));
    lua_pushnumber(L, (lua_Number)(mpe_now() - atomic_load(lmpe_pool_word(&c, w, SINCE))) / 1e9);
    return 3;
}

/* Adds a flag to what worker (2) runs if that is item (4) of the task with number (3) and has the
 * flags `before`. */
static int
mark_run(lua_State *L, uint64_t before, uint64_t flag)
{
    lmpe_control c = lmpe_check_control(L, 1);
    uint64_t w = lmpe_check_worker(L, 2, &c);
    uint64_t run = before | lmpe_pool_run((uint32_t)luaL_checkinteger(L, 3),
                                          (uint32_t)luaL_checkinteger(L, 4));
    return atomic_compare_exchange_strong(lmpe_pool_word(&c, w, RUN), &run, run | flag);
}

/* pool_stop(control, worker, number, item) -> the signal to send to the worker | nil: it does not
 * run that any more */
static int
pool_stop(lua_State *L)
{
    if (mark_run(L, 0, STOP))
        lua_pushinteger(L, STOP_SIGNAL);
    else
        lua_pushnil(L);
    return 1;
}

/* pool_doom(control, worker, number, item) -> does it still run that, and will it begin nothing new? */
static int
pool_doom(lua_State *L)
{
    lua_pushboolean(L, mark_run(L, STOP, DOOMED));
    return 1;
}

void
lmpe_open_pool(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {
        {"pool_control_size", pool_control_size},
        {"pool_put", pool_put},
        {"pool_receive", pool_receive},
        {"pool_salvage", pool_salvage},
        {"pool_reclaim", pool_reclaim},
        {"pool_lease", pool_lease},
        {"pool_counts", pool_counts},
        {"pool_forget", pool_forget},
        {"pool_retire", pool_retire},
        {"pool_running", pool_running},
        {"pool_stop", pool_stop},
        {"pool_doom", pool_doom},
        {NULL, NULL},
    };
    lmpe_setfuncs(L, S, functions);
    lmpe_open_pool_worker(L, S);
}
