/* SPDX-License-Identifier: MIT
 *
 * lpool_worker.c - the worker's side of the protocol in lpool.h: it takes a task, claims and
 * runs its items, and sends their results. A worker is a process, so its state is static, where
 * the handler of the stop signal finds it.
 *
 * Everything runs in the worker's main task: calls are protected here, and waits in them drive
 * the loop in place.
 */
#include "base/lrelease.h"
#include "base/lobject.h"
#include "base/lsystem.h"
#include "codec/lmessage.h"
#include "codec/lcodec.h"
#include "task/ltask.h"
#include "pool/lpool.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

static struct {
    lmpe *S;
    mpe_leases control;
    mpe_object *results;
    mpe_lease_buffer buffer;
    uint32_t worker;
    struct lmpe_task_head task; /* in progress */
    uint32_t number;            /* its */
    uint64_t since_ns;          /* start of the unsent results */
    uint32_t boxes;             /* shared objects had when the last release ended */
    int heap_kib;               /* the heap of Lua then */
    uint64_t release_at;        /* the earliest time of the next one */
} self;

/* ---- stopping what runs ---- */

/* Running Lua code is stopped by the hook of lhook.c, a wait by the loop. */
static void
on_stop(int sig)
{
    lmpe *S = self.S;
    (void)sig;
    if (!S || !S->e)
        return;
    if (!mpe_lease_is_stopped(&self.control, self.worker)) {
        if (mpe_lease_is_retired(&self.control, self.worker))
            mpe_interrupt(S->e); /* it may wait for a task */
    } else {
        S->stopped = 1;
        lmpe_hook(S, 1);
        mpe_interrupt(S->e);
    }
}

/* The main script handles Ctrl-C. The signal is not ignored, since programs that a task starts
 * would inherit that. */
static void
on_interrupt(int sig)
{
    (void)sig;
}

/* pool_worker(control, worker, results, buffer): this process is that worker. The objects must stay
 * alive. */
static int
pool_worker(lua_State *L)
{
    mpe_leases control = lmpe_check_control(L, 1);
    uint64_t worker = lmpe_check_worker(L, 2, &control);
    lmpe_box *results = lmpe_check_kind(L, 3, MPE_KIND_QUEUE);
    mpe_lease_buffer buffer = lmpe_check_buffer(L, 4);
    memset(&self, 0, sizeof self);
    self.control = control;
    self.worker = (uint32_t)worker;
    self.results = results->o;
    self.buffer = buffer;
    self.S = lmpe_self(L);
    struct sigaction action = {.sa_handler = on_stop, .sa_flags = SA_RESTART};
    sigfillset(&action.sa_mask); /* as lmpe_hook requires */
    sigaction(STOP_SIGNAL, &action, NULL);
    lmpe_signal_unblock(STOP_SIGNAL);
    action.sa_handler = on_interrupt;
    sigaction(SIGINT, &action, NULL);
    return 0;
}

/* ---- releasing the objects of ended tasks ----
 *
 * Lua collects when it has allocated as much again, which an idle worker never does, and it does
 * not see the shared memory and the pipe ends behind its objects. So a worker that received
 * objects, or much memory, collects before it waits; it spends a small part of its time on that. */

#define GROWTH_KIB 2048 /* growth of the heap that is worth a collection */
#define OBJECTS_MOST 64 /* received by a worker that never waits, before it collects */
#define SHARE 20        /* collecting takes no more than one part in so many */
#define PAUSE_NS (MPE_NS_PER_S / 1000)
#define HEAP_KIB_MOST                                                                              \
    (64 * 1024) /* a larger one is the parent's, it seems: only what is new is looked at */

static void
begin_growth(lua_State *L)
{
    self.heap_kib = lua_gc(L, LUA_GCCOUNT);
    self.boxes = self.S->boxes;
}

static int
has_to_release(lua_State *L, int is_idle)
{
    if (is_idle && lua_gc(L, LUA_GCCOUNT) > self.heap_kib + GROWTH_KIB)
        return 1;
    return self.S->boxes - self.boxes > (is_idle ? 0 : OBJECTS_MOST);
}

/* pool_release() */
static int
pool_release(lua_State *L)
{
    uint64_t from = mpe_now();
    if (lua_gc(L, LUA_GCCOUNT) < HEAP_KIB_MOST)
        lua_gc(L, LUA_GCCOLLECT);
    else
        lmpe_gc_step(L, 0);
    uint64_t now = mpe_now();
    self.release_at = now + SHARE * (now - from) + PAUSE_NS;
    begin_growth(L);
    return 0;
}

/* pool_ready(): the initializer has returned */
static int
pool_ready(lua_State *L)
{
    begin_growth(L);
    mpe_lease_ready(&self.control, self.worker);
    return 0;
}

/* ---- taking a task ---- */

static int
attempt_take(lmpe *S, lmpe_await *a)
{
    a->source = LMPE_OBJECT;
    a->on.object = a->object;
    a->event = MPE_EVENT_READY;
    return mpe_lease_take(S->e, &self.control, self.worker, a->object, &S->message, &self.since_ns);
}

static int
finish_take(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    mpe_message own, *m = &S->message;
    if (status != MPE_OK)
        return lmpe_outcome(L, status, a->reason);
    memcpy(&own, m,
           offsetof(mpe_message, small) + (m->block ? 0 : m->size)); /* decoding may wait */
    const uint8_t *data = own.block ? own.data : own.small;
    size_t size = own.size;
    if (!lmpe_pool_read_head(&self.task, sizeof self.task, &data, &size))
        return luaL_error(L, "pool: a damaged task");
    self.number = own.seq;
    int n;
    lua_pushinteger(L, self.task.mode & ~(uint32_t)(MODE_TIMED | MODE_REASON | MODE_PACK));
    lua_pushinteger(L, self.task.function);
    lua_pushinteger(L, self.task.shared);
    if (lmpe_decode(L, data, size, &n, LMPE_DECODE_FUNCTIONS) < 0) {
        lua_pushinteger(L, 0); /* mode 0: no task, but a reason */
        lua_replace(L, -5);
        n = 1;
    }
    mpe_message_free(S->e, &own);
    return 3 + n;
}

/* pool_take(queue [, timeout]) -> mode, function, shared, the arguments or items | 0, function,
 * shared, why they cannot be decoded | nil, reason: "release" when pool_release must be called */
static int
pool_take(lua_State *L)
{
    lmpe_box *q = lmpe_check_kind(L, 1, MPE_KIND_QUEUE);
    uint64_t deadline = lmpe_check_deadline(L, 2);
    int is_idle = mpe_queue_size(q->S->e, q->o) == 0;
    if (deadline == MPE_FOREVER && has_to_release(L, is_idle)) {
        if (mpe_now() >= self.release_at) {
            luaL_pushfail(L);
            lua_pushliteral(L, "release");
            return 2;
        }
        deadline = self.release_at;
    }
    lmpe_await *a = lmpe_await_new(q->S, deadline, "empty");
    a->object = q->o;
    a->attempt = attempt_take;
    a->finish = finish_take;
    return lmpe_await_run(L, q->S, a);
}

/* ---- sending results ---- */

static int
post(struct lmpe_result_head *h, const void *data, size_t size, int handles)
{
    uint8_t bytes[HEAD_MAX];
    uint64_t now = mpe_now();
    h->worker = self.worker;
    h->place = self.task.place;
    h->number = self.number;
    h->elapsed_ns = now - self.since_ns;
    mpe_bytes parts[2] = {{bytes, lmpe_pool_head(bytes, h, sizeof *h)}, {data, size}};
    int rc = mpe_queue_put(self.S->e, self.results, parts, 2, handles);
    if (rc != MPE_OK && handles)
        lmpe_unsent(self.S, data, size);
    lmpe_sent(self.S->main, self.S);
    if (rc != MPE_OK)
        return rc == MPE_ECLOSED ? MPE_OK : rc; /* the pool has ended */
    self.since_ns = now;
    mpe_lease_count(&self.control, self.worker, h->count, h->elapsed_ns);
    return MPE_OK;
}

/* Sends the contents of the buffer; last: the task has ended. */
static void
flush(lua_State *L, uint32_t last)
{
    mpe_lease_results r;
    struct lmpe_result_head h = {.kind = RESULT_SEVERAL, .last = last};
    int rc = mpe_lease_salvage(&self.buffer, &r);
    if (rc == MPE_ENOENT && !last)
        return;
    if (rc == MPE_OK) {
        h.from = r.first;
        h.count = r.count;
    } else {
        r.bytes = (mpe_bytes){NULL, 0};
    }
    rc = post(&h, r.bytes.data, r.bytes.size, 0);
    if (rc != MPE_OK)
        lmpe_raise(L, rc, "pool: cannot send results");
    mpe_lease_clear(&self.buffer);
}

/* Puts a record into the buffer, which is sent first if it is full; whether there is room. */
static int
append(lua_State *L, uint32_t item, const void *data, size_t size, int failed)
{
    uint32_t marked = (uint32_t)size | (failed ? RECORD_FAILED : 0);
    mpe_bytes parts[2] = {{&marked, sizeof marked}, {data, size}};
    if (mpe_lease_publish(&self.buffer, self.number, item, parts, 2) == MPE_OK)
        return 1;
    flush(L, 0);
    return mpe_lease_publish(&self.buffer, self.number, item, parts, 2) == MPE_OK;
}

/* Pushes a report like those of worker.lua. */
static void
push_report(lua_State *L, const char *format, const char *why)
{
    lua_createtable(L, 0, 2);
    lua_pushfstring(L, format, why);
    lua_setfield(L, -2, "message");
    lua_pushinteger(L, getpid());
    lua_setfield(L, -2, "pid");
}

/* Encodes n values from first on, or a report in their place; whether it is one. */
static int
encode_result(lua_State *L, int first, int n, int failed, int *handles)
{
    lmpe_encode_opts opts = {.root = "results", .in_program = 1, .passes = LMPE_PASS_ONCE};
    if (!failed && lmpe_try_encode(L, self.S, first, n, &opts, handles) >= 0)
        return 0;
    if (!failed)
        push_report(L, "the result cannot be sent: %s", lua_tostring(L, -1));
    else if (lua_type(L, first) != LUA_TTABLE) /* no message handler has run */
        push_report(L, "%s", luaL_tolstring(L, first, NULL));
    else
        lua_pushvalue(L, first);
    int report = lua_gettop(L);
    if (lmpe_try_encode(L, self.S, report, 1, &opts, handles) >= 0)
        return 1;
    lua_pushnil(L); /* its text goes without the value */
    lua_setfield(L, report, "value");
    if (lmpe_try_encode(L, self.S, report, 1, &opts, handles) < 0)
        lua_error(L);
    return 1;
}

/* The outcome of an item: n values from first on, or its report. Objects in it must not be in
 * the buffer, where no process holds them. */
static void
give(lua_State *L, int first, int n, int failed, uint32_t item)
{
    int handles;
    failed = encode_result(L, first, n, failed, &handles);
    size_t size = self.S->scratch->len;
    if (self.task.items > 1 && !handles && append(L, item, self.S->scratch->data, size, failed))
        return;
    struct lmpe_result_head h = {.kind = failed ? RESULT_FAILED : RESULT_OK,
                                 .from = item,
                                 .count = 1,
                                 .last = self.task.items == 1};
    flush(L, 0);
    int rc = post(&h, self.S->scratch->data, size, handles);
    if (rc != MPE_OK && !failed) { /* too large, it seems */
        push_report(L, "the result cannot be sent: %s", mpe_strerror(rc));
        encode_result(L, lua_gettop(L), 1, 1, &handles);
        h.kind = RESULT_FAILED;
        rc = post(&h, self.S->scratch->data, self.S->scratch->len, handles);
    }
    if (rc != MPE_OK)
        lmpe_raise(L, rc, "pool: cannot send a result");
}

/* ---- running ---- */

/* An item also ends where the next one of the task begins, so that it costs one record. */
static void
trace_item(uint32_t what, uint32_t item)
{
    if (*self.S->trace)
        mpe_trace_add(self.S->e, what, self.number, 0, item);
}

/* Whether the item had been stopped. A stop recorded by the handler ends with the item. */
static int
end_item(void)
{
    if (mpe_lease_end(&self.control, self.worker) == MPE_OK)
        return 0;
    self.S->stopped = 0;
    return 1;
}

static int
begin_item(uint32_t item)
{
    int rc = (self.task.mode & MODE_TIMED ? mpe_lease_begin_timed : mpe_lease_begin)(
        &self.control, self.worker, self.task.place, self.number, item);
    if (rc != MPE_OK)
        self.S->stopped = 0;
    else
        trace_item(MPE_TRACE_ITEM, item);
    return rc == MPE_OK;
}

/* Calls the function and its n arguments on top; returns whether it failed, with the text of
 * describe (at 1) on top. */
static int
call_described(lua_State *L, int n, int nresults)
{
    if (lua_pcall(L, n, nresults, 1) == LUA_OK)
        return 0;
    lua_pushvalue(L, 1);
    lua_insert(L, -2);
    lua_pushboolean(L, 1);
    lua_call(L, 2, 1);
    return 1;
}

/* pool_call(describe, function, ...): runs a task that is one call */
static int
pool_call(lua_State *L)
{
    if (!begin_item(0)) {
        flush(L, 1);
        return 0;
    }
    int failed = call_described(L, lua_gettop(L) - 2, LUA_MULTRET);
    end_item();
    luaL_checkstack(L, 8, NULL);
    give(L, 2, lua_gettop(L) - 1, failed, 0);
    trace_item(MPE_TRACE_ITEM_END, 0);
    return 0;
}

/* Records that the one result of a task of one item was the last message about it. */
static void
end_items(lua_State *L, uint32_t given)
{
    if (self.task.items > 1 || given == 0)
        flush(L, 1);
    trace_item(MPE_TRACE_ITEM_END, 0);
}

/* The results of an item, above `top`, that are sent: returns how many. */
static int
keep_results(lua_State *L, int top)
{
    int n = lua_gettop(L) - top;
    if (!(self.task.mode & MODE_PACK)) /* two were asked for with REASON, else one */
        return n == 2 && (!lua_isnil(L, top + 1) || lua_isnil(L, top + 2)) ? 1 : n;
    luaL_checkstack(L, 4, NULL);
    lua_createtable(L, n, 1);
    lua_insert(L, top + 1);
    for (int i = n; i > 0; i--)
        lua_rawseti(L, top + 1, i);
    lua_pushinteger(L, n);
    lua_setfield(L, top + 1, "n");
    return 1;
}

/* pool_items(describe, function, is_shared, shared, ...): runs a task of items */
static int
pool_items(lua_State *L)
{
    int top = lua_gettop(L), n = top - 4, shared = lua_toboolean(L, 3);
    uint32_t given = 0, mode = self.task.mode;
    int wanted = mode & MODE_PACK ? LUA_MULTRET : mode & MODE_REASON ? 2 : 1;
    luaL_checkstack(L, 16, NULL);
    for (int i = 0; i < n && begin_item((uint32_t)i); i++) {
        lua_pushvalue(L, 2);
        lua_pushvalue(L, 5 + i);
        if (shared)
            lua_pushvalue(L, 4);
        int failed = call_described(L, 1 + shared, wanted);
        int stopped = end_item();
        int results = failed ? 1 : keep_results(L, top);
        give(L, top + 1, results, failed, given++);
        lua_settop(L, top);
        if (stopped)
            break;
    }
    end_items(L, given);
    return 0;
}

/* pool_reject(report): the task cannot be run; each of its items gets that error */
static int
pool_reject(lua_State *L)
{
    lua_settop(L, 1);
    uint32_t i = 0;
    for (; i < self.task.items && begin_item(i); i++) {
        end_item();
        give(L, 1, 1, 1, i);
        lua_settop(L, 1);
    }
    end_items(L, i);
    return 0;
}

/* pool_tell([report]): the worker is ready, or its initializer has failed */
static int
pool_tell(lua_State *L)
{
    struct lmpe_result_head h = {.kind = WORKER_READY};
    int handles = 0;
    size_t size = 0;
    if (!lua_isnoneornil(L, 1)) {
        h.kind = INITIALIZER_FAILED;
        encode_result(L, 1, 1, 1, &handles);
        size = self.S->scratch->len;
    }
    self.since_ns = mpe_now();
    int rc = post(&h, self.S->scratch->data, size, handles);
    return rc == MPE_OK ? 0 : lmpe_raise(L, rc, "pool");
}

void
lmpe_open_pool_worker(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {
        {"pool_worker", pool_worker}, {"pool_ready", pool_ready},     {"pool_take", pool_take},
        {"pool_call", pool_call},     {"pool_items", pool_items},     {"pool_reject", pool_reject},
        {"pool_tell", pool_tell},     {"pool_release", pool_release}, {NULL, NULL},
    };
    lmpe_setfuncs(L, S, functions);
}
