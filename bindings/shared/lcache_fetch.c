/* SPDX-License-Identifier: MIT
 *
 * lcache_fetch.c - fetch of mp.Cache: the key that is there; and flights, the part of one call in a
 * computation for all that ask for a key. mpengine/cache.lua has the course of such a call. A flight
 * that is closed, or collected, is left: another call computes then. One that is closed by an error
 * of its computation passes the error on to those that wait, unless its task is cancelled.
 */
#include "base/lfinalize.h"
#include "base/lmodules.h"
#include "codec/lcodec.h"
#include "codec/lmessage.h"
#include "shared/lcache.h"
#include "task/lturn.h"

#include <string.h>

#define FLIGHT "mpengine.flight"

typedef struct flight {
    lmpe *S;
    lmpe_box *cache; /* its first user value */
    uint32_t pins;
    int under_way; /* to be left */
    mpe_cache_flight f;
    mpe_buf result;
} flight;

/* ---- life ---- */

static int
new_flight(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lmpe_box *b = lmpe_check_kind(L, 1, MPE_KIND_CACHE);
    flight *x = lua_newuserdatauv(L, sizeof *x, 1);
    memset(x, 0, sizeof *x);
    x->S = S;
    x->cache = b;
    mpe_buf_init(&x->result);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    luaL_setmetatable(L, FLIGHT);
    return 1;
}

static flight *
check_flight(lua_State *L)
{
    flight *x = luaL_checkudata(L, 1, FLIGHT);
    if (!x->S->e || !x->cache->o)
        lmpe_raise_closed(L);
    return x;
}

static void
leave(flight *x)
{
    if (x->under_way && x->S->e && x->cache->o)
        mpe_cache_fetch_leave(x->S->e, x->cache->o, &x->f);
    x->under_way = 0;
    mpe_buf_free(&x->result);
}

/* The bytes of the error at idx, or of its text. Returns whether it holds handles. */
static int
encode_error(lua_State *L, flight *x, int idx)
{
    const char *root = "error";
    size_t size;
    lmpe_encode_opts opts = {.names = &root, .nnames = 1, .in_program = 1};
    x->result.len = 0;
    if (lmpe_encode(L, idx, 1, &x->result, &opts) >= 0)
        return opts.has_handles;
    const char *text = luaL_tolstring(L, idx, &size);
    x->result.len = 0;
    mpe_wire_put_str(&x->result, text, size);
    return 0;
}

/* Is it an error that ends the task, and not one of the computation? */
static int
ends_task(lua_State *L, lmpe *S, int idx)
{
    return lmpe_is_over(L, S, S->current) || S->current->leaving ||
           (S->signals && S->signals->number_of(L, idx));
}

/* __close(flight, error) */
static int
flight_close(lua_State *L)
{
    flight *x = luaL_checkudata(L, 1, FLIGHT);
    lmpe *S = x->S;
    lua_settop(L, 2);
    if (x->under_way && S->e && x->cache->o && !x->f.event && !lua_isnil(L, 2) &&
        !ends_task(L, S, 2)) {
        int handles = encode_error(L, x, 2);
        mpe_bytes bytes = {x->result.data, x->result.len};
        x->under_way = 0;
        mpe_cache_fetch_fail(S->e, x->cache->o, &x->f, bytes, handles);
    }
    leave(x);
    return 0;
}

static int
flight_gc(lua_State *L)
{
    flight *x = lmpe_finalized(L, FLIGHT, sizeof *x);
    if (x)
        leave(x);
    return 0;
}

/* ---- the course of a call ---- */

/* What a status means for the call: a word, and the value or error with it. */
static int
push_state(lua_State *L, flight *x, int status)
{
    x->under_way = status == MPE_ENOENT || status == MPE_EAGAIN;
    switch (status) {
    case MPE_ENOENT:
        lua_pushliteral(L, "compute");
        return 1;
    case MPE_EAGAIN:
        lua_pushliteral(L, "wait");
        return 1;
    case MPE_OK:
    case MPE_ECANCELED:
        lua_pushstring(L, status == MPE_OK ? "value" : "error");
        if (lmpe_decode_values(L, x->S, x->result.data, x->result.len, x->pins) != 1)
            return luaL_error(L, LMPE_NOT_ONE_VALUE);
        return 2;
    case MPE_EDEADLK:
        return luaL_error(L, "Cache:fetch: a key cannot be fetched inside its own f");
    default:
        return lmpe_raise(L, status, "Cache:fetch");
    }
}

/* f:begin(k, stale) -> "value", v | "compute" | "wait" */
static int
flight_begin(lua_State *L)
{
    flight *x = check_flight(L);
    lmpe *S = x->S;
    lmpe_dict_key k;
    lua_settop(L, 3);
    lmpe_dict_check_key(L, 2, &k, "Cache:fetch");
    uint64_t stale = lua_isnil(L, 3) ? 0 : lmpe_cache_ttl(L, 3, "Cache:fetch");
    int rc, tries = 0;
    lmpe_await_check(L, S);
    x->pins = mpe_pin_mark(S->e);
    do
        rc = mpe_cache_fetch(S->e, x->cache->o, k.bytes, S->current->id, stale, &x->result, &x->f);
    while (lmpe_try_again(L, S, rc, &tries));
    return push_state(L, x, rc);
}

static int
attempt_wait(lmpe *S, lmpe_await *a)
{
    flight *x = (flight *)(uintptr_t)a->scratch[0];
    a->source = LMPE_OBJECT;
    a->event = MPE_EVENT_READY;
    x->pins = mpe_pin_mark(S->e);
    int rc = mpe_cache_fetch_again(S->e, x->cache->o, &x->f, &x->result);
    a->on.object = x->f.event;
    return rc;
}

static int
finish_wait(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    flight *x = (flight *)(uintptr_t)a->scratch[0];
    (void)S;
    if (status == MPE_ETIMEDOUT)
        return lmpe_outcome(L, status, "timeout");
    if (status == MPE_EDEADLK)
        return lmpe_raise(L, status, "Cache:fetch");
    return push_state(L, x, status);
}

/* f:wait(timeout) -> "value", v | "error", e | "compute" | nil, "timeout" */
static int
flight_wait(lua_State *L)
{
    flight *x = check_flight(L);
    lmpe_await *a = lmpe_await_new(x->S, lmpe_check_deadline(L, 2), "timeout");
    a->scratch[0] = (uint64_t)(uintptr_t)x;
    a->attempt = attempt_wait;
    a->finish = finish_wait;
    return lmpe_await_run(L, x->S, a);
}

/* f:finish(v, ttl): v is kept, and given to those that wait */
static int
flight_finish(lua_State *L)
{
    flight *x = check_flight(L);
    lmpe *S = x->S;
    lua_settop(L, 3);
    uint64_t ttl = lmpe_cache_ttl(L, 3, "Cache:fetch");
    int handles = lmpe_encode_value(L, S, 2, "value", "Cache:fetch");
    mpe_bytes value = {S->scratch->data, S->scratch->len};
    int rc = mpe_cache_fetch_end(S->e, x->cache->o, &x->f, value, handles, ttl);
    if (rc != MPE_OK)
        return lmpe_cache_raise(L, x->cache, rc, "Cache:fetch");
    x->under_way = 0;
    return 0;
}

/* ---- fetch ---- */

static int
fetched(lua_State *L, int status, lua_KContext ctx)
{
    (void)status, (void)ctx;
    return lua_gettop(L);
}

/* c:fetch(k, f [, opts]) -> the value | nil, "timeout" */
int
lmpe_cache_fetch(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    lmpe_dict_key k;
    lmpe_store s;
    lua_settop(L, 4);
    lmpe_dict_check_key(L, 2, &k, "Cache:fetch");
    if (lua_type(L, 3) != LUA_TFUNCTION && !luaL_getmetafield(L, 3, "__call"))
        return luaL_error(L, "Cache:fetch: f must be a function, got %s", luaL_typename(L, 3));
    if (!lua_isnoneornil(L, 4))
        luaL_checktype(L, 4, LUA_TTABLE);
    lmpe_store_open(&s, b, "Cache:fetch");
    int rc = mpe_cache_get(b->S->e, b->o, k.bytes, &s.buf);
    if (rc == MPE_OK)
        return lmpe_store_value(L, &s);
    lmpe_store_close(&s);
    if (rc != MPE_ENOENT)
        return lmpe_raise(L, rc, "Cache:fetch");
    lua_settop(L, 4);
    lmpe_push_hook(L, "cache_fetch");
    lua_insert(L, 1);
    lua_callk(L, 4, LUA_MULTRET, 0, fetched);
    return fetched(L, LUA_OK, 0);
}

void
lmpe_cache_open_flights(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"cache_flight", new_flight}, {NULL, NULL}};
    static const luaL_Reg methods[] = {
        {"begin", flight_begin}, {"wait", flight_wait}, {"finish", flight_finish}, {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__close", flight_close}, {"__gc", flight_gc}, {NULL, NULL}};
    luaL_newmetatable(L, FLIGHT);
    lmpe_setfuncs(L, S, meta);
    lua_newtable(L);
    lmpe_setfuncs(L, S, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lmpe_setfuncs(L, S, functions);
}
