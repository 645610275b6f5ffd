/* SPDX-License-Identifier: MIT
 *
 * lpool.c - what a pool's tasks travel by. The parent puts tasks into one shared queue, the workers
 * take them, and a shared array of 64-bit words, the control, says who has what:
 *
 *   lease[w]   number + 1 of the task worker w took last, written before the task leaves the queue:
 *              when w has died, the parent knows which task died with it, if any
 *   since[w]   when w began it, for timeouts
 *   stop[w]    number + 1 of the task that the parent wants stopped, before it sends the signal;
 *              or that the worker is to end after its task
 *   claim[t]   per task number modulo the length of the ring: how many of its items are claimed;
 *              a worker claims each item before it runs it, and the parent takes what is unclaimed
 *              back by one exchange, to cancel or to give it to an idle worker
 *
 * mpengine/pool.lua is the rest.
 */
#include "lmpe.h"

#include <signal.h>
#include <stdatomic.h>

#define CLAIM_ALL (1ull << 32)
#define RETIRE UINT64_MAX
#define STOP_SIGNAL SIGWINCH /* ignored by default, so a late one harms nobody */

typedef struct control {
    _Atomic uint64_t *words;
    uint64_t workers, ring;
} control;

static lmpe_box *
check_queue(lua_State *L, int idx)
{
    return lmpe_check_kind(L, idx, MPE_KIND_QUEUE, "mp.Queue");
}

/* The control at idx, whose first word is the number of workers. */
static control
check_control(lua_State *L, int idx)
{
    lmpe_box *b = lmpe_test_any(L, idx);
    char type;
    luaL_argcheck(L, b && b->o && mpe_kind_of(b->o) == MPE_KIND_RAW_ARRAY, idx,
                  "a pool's control expected");
    uint64_t length;
    uint64_t *data = mpe_array_data(b->S->e, b->o, &type, &length);
    luaL_argcheck(L, type == 'Q' && length > 4 && data[0] * 3 + 1 < length, idx,
                  "a pool's control expected");
    return (control){(_Atomic uint64_t *)data, data[0], length - 1 - data[0] * 3};
}

static _Atomic uint64_t *
lease_of(const control *c, uint64_t worker)
{
    return &c->words[1 + worker];
}

static _Atomic uint64_t *
since_of(const control *c, uint64_t worker)
{
    return &c->words[1 + c->workers + worker];
}

static _Atomic uint64_t *
stop_of(const control *c, uint64_t worker)
{
    return &c->words[1 + 2 * c->workers + worker];
}

static _Atomic uint64_t *
claim_of(const control *c, uint64_t number)
{
    return &c->words[1 + 3 * c->workers + number % c->ring];
}

static uint64_t
check_worker(lua_State *L, int idx, const control *c)
{
    lua_Integer w = luaL_checkinteger(L, idx);
    luaL_argcheck(L, w >= 1 && (uint64_t)w <= c->workers, idx, "worker number out of range");
    return (uint64_t)w - 1;
}

/* ---- messages of several values ---- */

/* Puts the values from first on as one message into an unbounded queue. */
static int
send_values(lua_State *L, lmpe_box *q, int first, int leading, const char *where)
{
    lmpe *S = q->S;
    int handles = lmpe_encode_values(L, S, first, lua_gettop(L) - first + 1, leading, where);
    mpe_bytes bytes = {S->scratch->data, S->scratch->len};
    int rc = mpe_queue_put(S->e, q->o, &bytes, 1, handles);
    return rc == MPE_OK || rc == MPE_ECLOSED ? rc : lmpe_raise(L, rc, where);
}

/* send(queue, where, ...) -> true | nil, "closed" */
static int
send(lua_State *L)
{
    lmpe_box *q = check_queue(L, 1);
    int rc = send_values(L, q, 3, 0, luaL_checkstring(L, 2));
    if (rc != MPE_OK)
        return lmpe_outcome(L, rc, NULL);
    lua_pushboolean(L, 1);
    return 1;
}

static int
attempt_receive(lmpe *S, lmpe_await *a)
{
    a->source = LMPE_OBJECT;
    a->on.object = a->object;
    a->event = MPE_EVENT_READY;
    return mpe_queue_get(S->e, a->object, &S->message);
}

static int
finish_receive(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    if (status != MPE_OK)
        return lmpe_outcome(L, status, a->reason);
    return lmpe_push_message(L, S);
}

/* receive(queue [, timeout]) -> the values of the next message | nil, "empty" | nil, "closed" */
static int
receive(lua_State *L)
{
    lmpe_box *q = check_queue(L, 1);
    lmpe_await *a = lmpe_await_new(q->S, lmpe_check_deadline(L, 2), "empty");
    a->object = q->o;
    a->attempt = attempt_receive;
    a->finish = finish_receive;
    return lmpe_await_run(L, q->S, a);
}

/* ---- tasks ---- */

/* pool_put(inbox, control, where, id, function, shared, mode, ...) -> number of the task. Only the pool's process puts. */
static int
pool_put(lua_State *L)
{
    lmpe_box *q = check_queue(L, 1);
    control c = check_control(L, 2);
    const char *where = luaL_checkstring(L, 3);
    uint32_t next, got;
    mpe_queue_seqs(q->S->e, q->o, &next, &got);
    *claim_of(&c, next) = 0;
    if (send_values(L, q, 4, LMPE_LEADING_MAX, where) != MPE_OK)
        return luaL_error(L, "%s: the pool is closed", where);
    lua_pushinteger(L, next);
    return 1;
}

static int
attempt_take(lmpe *S, lmpe_await *a)
{
    a->source = LMPE_OBJECT;
    a->on.object = a->object;
    a->event = MPE_EVENT_READY;
    return mpe_queue_get_leased(S->e, a->object, (uint64_t *)(uintptr_t)a->scratch[0], &S->message);
}

static int
finish_take(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    if (status != MPE_OK)
        return lmpe_outcome(L, status, a->reason);
    atomic_store((_Atomic uint64_t *)(uintptr_t)a->scratch[1], mpe_now());
    lua_pushinteger(L, S->message.seq);
    return lmpe_push_message(L, S) + 1;
}

/* pool_take(inbox, control, worker) -> number, the values of a task | nil, "closed" */
static int
pool_take(lua_State *L)
{
    lmpe_box *q = check_queue(L, 1);
    control c = check_control(L, 2);
    uint64_t worker = check_worker(L, 3, &c);
    lmpe_await *a = lmpe_await_new(q->S, MPE_FOREVER, NULL);
    a->object = q->o;
    a->scratch[0] = (uintptr_t)lease_of(&c, worker);
    a->scratch[1] = (uintptr_t)since_of(&c, worker);
    a->attempt = attempt_take;
    a->finish = finish_take;
    return lmpe_await_run(L, q->S, a);
}

/* pool_claim(control, number, item) -> may this worker run that item (from 1)? */
static int
pool_claim(lua_State *L)
{
    control c = check_control(L, 1);
    uint64_t expected = (uint64_t)luaL_checkinteger(L, 3) - 1;
    lua_pushboolean(L,
                    atomic_compare_exchange_strong(claim_of(&c, (uint64_t)luaL_checkinteger(L, 2)),
                                                   &expected, expected + 1));
    return 1;
}

/* pool_reclaim(control, number) -> how many items were claimed; the rest is the caller's again */
static int
pool_reclaim(lua_State *L)
{
    control c = check_control(L, 1);
    uint64_t claimed = atomic_exchange(claim_of(&c, (uint64_t)luaL_checkinteger(L, 2)), CLAIM_ALL);
    lua_pushinteger(L, (lua_Integer)(claimed & (CLAIM_ALL - 1)));
    return 1;
}

/* pool_lease(inbox, control, worker) -> number of the task it took last and seconds since then, or
 * nothing: none, or one that had not left the queue yet */
static int
pool_lease(lua_State *L)
{
    lmpe_box *q = check_queue(L, 1);
    control c = check_control(L, 2);
    uint64_t worker = check_worker(L, 3, &c), lease = atomic_load(lease_of(&c, worker));
    uint32_t next, got;
    mpe_queue_seqs(q->S->e, q->o, &next, &got);
    if (lease == 0 || (int32_t)(got - (uint32_t)lease) < 0)
        return 0;
    lua_pushinteger(L, (lua_Integer)(uint32_t)(lease - 1));
    lua_pushnumber(L, (lua_Number)(mpe_now() - atomic_load(since_of(&c, worker))) / 1e9);
    return 2;
}

/* pool_forget(control, worker): its place is for a new worker */
static int
pool_forget(lua_State *L)
{
    control c = check_control(L, 1);
    uint64_t worker = check_worker(L, 2, &c);
    atomic_store(lease_of(&c, worker), 0);
    atomic_store(stop_of(&c, worker), 0);
    return 0;
}

/* ---- stopping what runs ---- */

/* In a worker: where its words are, and its state, for the signal. */
static struct {
    lmpe *S;
    _Atomic uint64_t *lease, *stop;
} running;

static void
raise_stopped(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    lua_sethook(L, NULL, 0, 0);
    luaL_error(L, "stopped by the pool");
}

/* Interrupts the task that runs, if it is the one meant: Lua code by a hook, a wait by the loop. */
static void
on_stop(int sig)
{
    lmpe *S = running.S;
    (void)sig;
    if (!S || !S->e || atomic_load(running.stop) != atomic_load(running.lease))
        return;
    lua_State *L = S->current->co ? S->current->co : S->driver;
    if (S->current->state == LMPE_RUNNING)
        lua_sethook(L, raise_stopped, LUA_MASKCALL | LUA_MASKRET | LUA_MASKCOUNT, 1);
    else {
        S->stopped = 1;
        mpe_interrupt(S->e);
    }
}

/* pool_worker(control, worker): this process is that worker */
static int
pool_worker(lua_State *L)
{
    control c = check_control(L, 1);
    uint64_t worker = check_worker(L, 2, &c);
    running.S = lmpe_self(L);
    running.lease = lease_of(&c, worker);
    running.stop = stop_of(&c, worker);
    struct sigaction action = {.sa_handler = on_stop, .sa_flags = SA_RESTART};
    sigaction(STOP_SIGNAL, &action, NULL);
    return 0;
}

/* pool_stop(control, worker, number) -> the signal to send to the worker */
static int
pool_stop(lua_State *L)
{
    control c = check_control(L, 1);
    atomic_store(stop_of(&c, check_worker(L, 2, &c)), (uint64_t)luaL_checkinteger(L, 3) + 1);
    lua_pushinteger(L, STOP_SIGNAL);
    return 1;
}

/* pool_retire(control, worker): it ends after its task */
static int
pool_retire(lua_State *L)
{
    control c = check_control(L, 1);
    atomic_store(stop_of(&c, check_worker(L, 2, &c)), RETIRE);
    return 0;
}

/* pool_retires(control, worker) -> is it told to end? */
static int
pool_retires(lua_State *L)
{
    control c = check_control(L, 1);
    lua_pushboolean(L, atomic_load(stop_of(&c, check_worker(L, 2, &c))) == RETIRE);
    return 1;
}

/* pool_stopped(control, worker) -> is the task of this worker being stopped? */
static int
pool_stopped(lua_State *L)
{
    control c = check_control(L, 1);
    uint64_t worker = check_worker(L, 2, &c);
    lua_pushboolean(L, atomic_load(stop_of(&c, worker)) == atomic_load(lease_of(&c, worker)));
    return 1;
}

void
lmpe_open_pool(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {
        {"send", send},
        {"receive", receive},
        {"pool_put", pool_put},
        {"pool_take", pool_take},
        {"pool_claim", pool_claim},
        {"pool_reclaim", pool_reclaim},
        {"pool_lease", pool_lease},
        {"pool_forget", pool_forget},
        {"pool_worker", pool_worker},
        {"pool_retire", pool_retire},
        {"pool_retires", pool_retires},
        {"pool_stop", pool_stop},
        {"pool_stopped", pool_stopped},
        {NULL, NULL},
    };
    lmpe_setfuncs(L, S, functions);
}
