/* SPDX-License-Identifier: MIT
 *
 * lcoqueue.c - co.Queue and co.JoinableQueue: a queue inside this process that holds any Lua value.
 *
 * Waiters are served in the order of arrival. An item put while a task is waiting is handed to
 * the first waiter: it leaves the queue at once, and is kept among the handed items until that
 * task runs. In the same way, a place that becomes free while a task waits for one is promised
 * to the first of these. A task that was granted its turn keeps it even if it is killed before
 * it runs (lwait.c), so nothing is lost. A task that timed out or was killed before that is in
 * no list.
 */
#include "base/llabel.h"
#include "task/ltask_int.h"
#include "task/lturn.h"

#include <string.h>

#define QUEUE "mp.co.Queue"
#define JOINABLE "mp.co.JoinableQueue"
#define RING_MIN 4u
#define RING_KEPT 1024u /* an empty one of this size is kept */

static const char tag;

/* Items in order, in a table that is a user value of the queue. */
struct ring {
    uint64_t head, count;
    uint64_t capacity; /* a power of two; 0: there is no table */
    int uservalue;
};

enum { ITEMS = 1, HANDED, WATCHERS, NAME }; /* user values */

typedef struct coqueue {
    const void *tag; /* no other userdata begins with it */
    mpe_waitlist takers, putters, joiners;
    mpe_waitlist *watchers; /* of co.wait() */
    struct ring items, handed;
    uint64_t maxsize; /* 0: no bound */
    uint64_t promised_places;
    uint64_t unfinished; /* of a JoinableQueue: put and not yet task_done */
    uint32_t place;      /* where it was made, by mpe_place_note; 0: unknown */
    uint8_t closed, joinable;
} coqueue;

static coqueue *
check_queue(lua_State *L)
{
    if (lua_rawlen(L, 1) == sizeof(coqueue)) { /* a userdata, or too long a string or table */
        coqueue *q = lua_touserdata(L, 1);
        if (q && q->tag == &tag)
            return q;
    }
    return luaL_checkudata(L, 1, QUEUE); /* raises */
}

static int
has_room(const coqueue *q)
{
    return q->maxsize == 0 || q->items.count + q->promised_places < q->maxsize;
}

static void
give_places(lmpe *S, coqueue *q)
{
    while (q->putters.head && has_room(q))
        q->promised_places += mpe_waitlist_wake(S->e, &q->putters, 1);
}

static void
tell_watchers(lmpe *S, coqueue *q)
{
    if (q->watchers)
        mpe_waitlist_wake(S->e, q->watchers, UINT32_MAX);
}

static int
expected(lua_State *L, const char *reason)
{
    luaL_pushfail(L);
    lua_pushstring(L, reason);
    return 2;
}

/* ---- rings: the queue is at index 1 ---- */

static lua_Integer
place(const struct ring *r, uint64_t i)
{
    return (lua_Integer)((r->head + i) & (r->capacity - 1)) + 1;
}

static void
grow(lua_State *L, struct ring *r)
{
    uint64_t capacity = r->capacity ? r->capacity * 2 : RING_MIN;
    lua_getiuservalue(L, 1, r->uservalue);
    lua_createtable(L, (int)capacity, 0);
    for (uint64_t i = 0; i < r->count; i++) {
        lua_rawgeti(L, -2, place(r, i));
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_setiuservalue(L, 1, r->uservalue);
    lua_pop(L, 1);
    r->head = 0;
    r->capacity = capacity;
}

/* Adds the value at index 2. */
static void
append(lua_State *L, struct ring *r)
{
    if (r->count == r->capacity)
        grow(L, r);
    lua_getiuservalue(L, 1, r->uservalue);
    lua_pushvalue(L, 2);
    lua_rawseti(L, -2, place(r, r->count++));
    lua_pop(L, 1);
}

/* Pushes the first value and takes it out. */
static void
take_first(lua_State *L, struct ring *r)
{
    lua_Integer at = place(r, 0);
    lua_getiuservalue(L, 1, r->uservalue);
    lua_rawgeti(L, -1, at);
    lua_pushnil(L);
    lua_rawseti(L, -3, at);
    r->head++;
    if (--r->count == 0 && r->capacity > RING_KEPT) {
        r->head = r->capacity = 0;
        lua_pushnil(L);
        lua_setiuservalue(L, 1, r->uservalue);
    }
}

/* ---- put and get ---- */

static int
add(lua_State *L, lmpe *S, coqueue *q)
{
    q->unfinished += q->joinable;
    if (q->takers.head) {
        append(L, &q->handed);
        mpe_waitlist_wake(S->e, &q->takers, 1);
        give_places(S, q); /* the place promised to this producer is free again */
    } else {
        append(L, &q->items);
        tell_watchers(S, q);
    }
    lua_pushboolean(L, 1);
    return 1;
}

static int
finish_put(lua_State *L, lmpe *S, int status)
{
    coqueue *q = lua_touserdata(L, 1);
    if (status != MPE_OK)
        return expected(L, "full");
    q->promised_places--;
    return q->closed ? expected(L, "closed") : add(L, S, q);
}

static int
put_until(lua_State *L, uint64_t deadline)
{
    lmpe *S = lmpe_self(L);
    coqueue *q = check_queue(L);
    if (lua_gettop(L) < 2)
        lua_settop(L, 2);
    if (!q->closed && !has_room(q))
        return lmpe_wait(L, S, &q->putters, deadline, finish_put);
    if (lmpe_may_be_cancelled(S->current))
        lmpe_await_check(L, S);
    return lmpe_did(L, S, LMPE_DID, q->closed ? expected(L, "closed") : add(L, S, q));
}

/* q:put(v [, timeout]) -> true | nil, "full" | nil, "closed" */
static int
put(lua_State *L)
{
    return put_until(L, lmpe_check_deadline(L, 3));
}

static int
put_nowait(lua_State *L)
{
    return put_until(L, MPE_NOW);
}

/* When the queue is closed, wakes the consumers that were not handed an item. */
static int
finish_get(lua_State *L, lmpe *S, int status)
{
    coqueue *q = lua_touserdata(L, 1);
    (void)S;
    if (status != MPE_OK)
        return expected(L, "empty");
    if (q->handed.count == 0)
        return expected(L, "closed");
    take_first(L, &q->handed);
    return 1;
}

static int
get_until(lua_State *L, uint64_t deadline)
{
    lmpe *S = lmpe_self(L);
    coqueue *q = check_queue(L);
    if (!q->closed && q->items.count == 0)
        return lmpe_wait(L, S, &q->takers, deadline, finish_get);
    if (lmpe_may_be_cancelled(S->current))
        lmpe_await_check(L, S);
    if (q->items.count == 0)
        return lmpe_did(L, S, LMPE_LOOKED, expected(L, "closed"));
    take_first(L, &q->items);
    give_places(S, q);
    return lmpe_did(L, S, LMPE_DID, 1);
}

/* q:get([timeout]) -> v | nil, "empty" | nil, "closed" (closed and drained) */
static int
get(lua_State *L)
{
    return get_until(L, lmpe_check_deadline(L, 2));
}

static int
get_nowait(lua_State *L)
{
    return get_until(L, MPE_NOW);
}

/* ---- the rest ---- */

static int
size_now(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)check_queue(L)->items.count);
    return 1;
}

static int
queue_size(lua_State *L)
{
    return lmpe_look(L, lmpe_self(L), size_now);
}

static int
empty_now(lua_State *L)
{
    lua_pushboolean(L, check_queue(L)->items.count == 0);
    return 1;
}

static int
is_empty(lua_State *L)
{
    return lmpe_look(L, lmpe_self(L), empty_now);
}

static int
full_now(lua_State *L)
{
    lua_pushboolean(L, !has_room(check_queue(L)));
    return 1;
}

static int
is_full(lua_State *L)
{
    return lmpe_look(L, lmpe_self(L), full_now);
}

/* is_ready(q): would a get return at once? */
static int
is_ready(lua_State *L)
{
    coqueue *q = check_queue(L);
    lua_pushboolean(L, q->closed || q->items.count > 0);
    return 1;
}

static int
closed_now(lua_State *L)
{
    lua_pushboolean(L, check_queue(L)->closed);
    return 1;
}

static int
is_closed(lua_State *L)
{
    return lmpe_look(L, lmpe_self(L), closed_now);
}

/* q:close(): later puts fail, gets go on until it is drained */
static int
close_queue(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    coqueue *q = check_queue(L);
    if (q->closed)
        return 0;
    q->closed = 1;
    mpe_waitlist_wake(S->e, &q->takers, UINT32_MAX);
    q->promised_places += mpe_waitlist_wake(S->e, &q->putters, UINT32_MAX);
    tell_watchers(S, q);
    return 0;
}

static coqueue *
check_joinable(lua_State *L)
{
    coqueue *q = check_queue(L);
    if (!q->joinable)
        lmpe_misuse(L, "not_joinable");
    return q;
}

/* q:task_done(): one item that was taken is done */
static int
task_done(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    coqueue *q = check_joinable(L);
    if (q->unfinished == 0)
        return lmpe_misuse(L, "all_done");
    if (--q->unfinished == 0)
        mpe_waitlist_wake(S->e, &q->joiners, UINT32_MAX);
    return 0;
}

static int
finish_join(lua_State *L, lmpe *S, int status)
{
    (void)S;
    if (status != MPE_OK)
        return expected(L, "timeout");
    lua_pushboolean(L, 1);
    return 1;
}

/* q:join([timeout]) -> true when every item is done | nil, "timeout" */
static int
join(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    uint64_t deadline = (check_queue(L), lmpe_check_deadline(L, 2));
    coqueue *q = check_joinable(L);
    if (q->unfinished > 0)
        return lmpe_wait(L, S, &q->joiners, deadline, finish_join);
    lmpe_await_check(L, S);
    return lmpe_did(L, S, LMPE_DID, finish_join(L, S, MPE_OK));
}

/* ---- for the Lua side ---- */

int
lmpe_coqueue_label(lua_State *L, int idx, uint32_t *place)
{
    const coqueue *q = lua_rawlen(L, idx) == sizeof *q ? lua_touserdata(L, idx) : NULL;
    if (!q || q->tag != &tag)
        return 0;
    *place = q->place;
    lua_getiuservalue(L, idx, NAME);
    return 1;
}

/* coqueue(maxsize, joinable [, name]) -> the queue */
static int
new_queue(lua_State *L)
{
    lua_settop(L, 3); /* the queue must not take the place of an absent argument */
    coqueue *q = lua_newuserdatauv(L, sizeof *q, NAME);
    memset(q, 0, sizeof *q);
    q->tag = &tag;
    q->items.uservalue = ITEMS;
    q->handed.uservalue = HANDED;
    q->maxsize = (uint64_t)luaL_optinteger(L, 1, 0);
    q->joinable = (uint8_t)lua_toboolean(L, 2);
    q->place = lmpe_place_here(L, lmpe_self(L));
    luaL_setmetatable(L, q->joinable ? JOINABLE : QUEUE);
    lua_pushvalue(L, 3);
    lua_setiuservalue(L, 4, NAME);
    return 1;
}

/* coqueue_watchers(q [, waitlist]) -> the waitlist that is woken when it becomes ready */
static int
watchers(lua_State *L)
{
    coqueue *q = check_queue(L);
    if (lua_gettop(L) > 1) {
        q->watchers = lmpe_check_waitlist(L, 2);
        lua_settop(L, 2);
        lua_setiuservalue(L, 1, WATCHERS);
    }
    lua_getiuservalue(L, 1, WATCHERS);
    return 1;
}

/* coqueue_state(q) -> maxsize, is it closed?, items, name */
static int
state(lua_State *L)
{
    coqueue *q = check_queue(L);
    lua_pushinteger(L, (lua_Integer)q->maxsize);
    lua_pushboolean(L, q->closed);
    lua_pushinteger(L, (lua_Integer)q->items.count);
    lua_getiuservalue(L, 1, NAME);
    return 4;
}

/* core.FIELD = the metatable of that name. Each type has methods of its own, since messages find
 * the name of a call by its function. */
static void
new_type(lua_State *L, lmpe *S, const char *name, const char *field)
{
    static const luaL_Reg methods[] = {
        {"put", put},          {"put_nowait", put_nowait}, {"get", get},
        {"qsize", queue_size}, {"get_nowait", get_nowait}, {"empty", is_empty},
        {"full", is_full},     {"close", close_queue},     {"is_closed", is_closed},
        {"join", join},        {"task_done", task_done},   {NULL, NULL},
    };
    luaL_newmetatable(L, name);
    lua_newtable(L);
    lmpe_setfuncs(L, S, methods);
    lua_setfield(L, -2, "__index");
    lua_setfield(L, -2, field);
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"coqueue", new_queue},
                                         {"coqueue_watchers", watchers},
                                         {"coqueue_state", state},
                                         {"coqueue_is_ready", is_ready},
                                         {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
    new_type(L, S, QUEUE, "CoQueue");
    new_type(L, S, JOINABLE, "CoJoinableQueue");
}

const lmpe_module lmpe_coqueue_module = {.open = on_open};
