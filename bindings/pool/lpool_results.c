/* SPDX-License-Identifier: MIT
 *
 * lpool_results.c - receives results and news of workers in the pool, and takes over the
 * finished results of dead workers.
 *
 * A task is here a table of Lua's: number; first, the index of its first item; values, where the
 * results of items go, or nil: those of a call, which are returned.
 */
#include "base/lobject.h"
#include "codec/lcodec.h"
#include "task/ltask.h"
#include "pool/lpool.h"

#include <string.h>

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

/* A second result, which accompanies a first that is nil: stored in the task's table of reasons,
 * if the job wants them. It is on top and is popped. */
static void
store_reason(lua_State *L, int task, lua_Integer index)
{
    if (lua_getfield(L, task, "reasons") == LUA_TTABLE) {
        lua_insert(L, -2);
        lua_rawseti(L, -2, index);
    } else {
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

/* Stores the outcome of one item: a result in the table `values`, a report in the table
 * `failed`, which is made when it is needed. These and the task are at these places of the
 * stack. */
static void
store_item(lua_State *L, int task, int values, int reports, lua_Integer index, const uint8_t *data,
           size_t size, int failed)
{
    int top = lua_gettop(L);
    int n = push_record(L, data, size, &failed);
    if (n == 2 && !failed)
        store_reason(L, task, index);
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
store_records(lua_State *L, int task, int values, int reports, lua_Integer index, uint32_t count,
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
        store_item(L, task, values, reports, index + i, data, n, failed);
        data += n;
        size -= n;
    }
}

/* The values for a result: task, worker, from, count, seconds, is it the last of the task,
 * reports of failed items by index or nil, and for a call its results. The task's table is on
 * top. */
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
        store_records(L, task, reports + 1, reports, index, h->count, data, size);
    else
        store_item(L, task, reports + 1, reports, index, data, size, failed);
    lua_settop(L, reports);
    return reports - task + 1;
}

/* Pushes the task of a result. The task may have ended, or no longer own that item: then 0. */
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

/* A message: a result; false, what, worker [, report] for news of a worker; false for a result
 * that is no longer wanted. */
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

/* Memory and objects of the engine are freed even if decoding fails. */
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

/* A result that has left the queue must be handled by the pool before it examines a dead worker.
 *
 * pool_receive(queue, tasks [, timeout]) -> as push_result and push_news say | nil, reason */
static int
pool_receive(lua_State *L)
{
    lmpe_box *q = lmpe_check_kind(L, 1, MPE_KIND_QUEUE);
    luaL_checktype(L, 2, LUA_TTABLE);
    lmpe_await *a = lmpe_await_new(q->S, lmpe_check_deadline(L, 3), "empty");
    a->object = q->o;
    a->stays = 1;
    a->attempt = attempt_receive;
    a->finish = finish_receive;
    return lmpe_await_run(L, q->S, a);
}

/* pool_salvage(buffer, worker, task) -> the unsent results of a dead worker, as a result | false */
static int
pool_salvage(lua_State *L)
{
    mpe_lease_buffer buffer = lmpe_check_buffer(L, 1);
    mpe_lease_results r;
    lua_settop(L, 3);
    lua_getfield(L, 3, "number");
    if (mpe_lease_salvage(&buffer, &r) != MPE_OK || lua_tointeger(L, -1) != r.number) {
        lua_pushboolean(L, 0);
        return 1;
    }
    lua_settop(L, 3);
    struct lmpe_result_head h = {.kind = RESULT_SEVERAL,
                                 .worker = (uint32_t)luaL_checkinteger(L, 2) - 1,
                                 .from = r.first,
                                 .count = r.count};
    return push_result(L, &h, r.bytes.data, r.bytes.size);
}

void
lmpe_open_pool_results(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {
        {"pool_receive", pool_receive},
        {"pool_salvage", pool_salvage},
        {NULL, NULL},
    };
    lmpe_setfuncs(L, S, functions);
}
