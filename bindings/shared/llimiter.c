/* SPDX-License-Identifier: MIT
 *
 * llimiter.c - mp.RateLimiter.
 */
#include "base/llabel.h"
#include "base/lobject.h"
#include "task/lturn.h"

#include <stdio.h>
#include <string.h>

static lmpe_box *
self(lua_State *L)
{
    return lmpe_check_kinds(L, 1, 1u << MPE_KIND_RATE_LIMITER);
}

static mpe_limiter_state
state_of(const lmpe_box *b)
{
    mpe_limiter_state state = {0};
    mpe_limiter_state_get(b->S->e, b->o, &state);
    return state;
}

/* The number of tokens at idx, 1 when absent. */
static double
check_tokens(lua_State *L, const lmpe_box *b, int idx)
{
    if (lua_isnoneornil(L, idx))
        return 1;
    double n = lua_type(L, idx) == LUA_TNUMBER ? lua_tonumber(L, idx) : -1;
    if (!(n > 0)) {
        const char *got = luaL_tolstring(L, idx, NULL);
        luaL_argerror(L, idx, lua_pushfstring(L, "tokens must be a number above 0, got %s", got));
    }
    double burst = state_of(b).burst;
    if (n > burst) {
        char text[120];
        snprintf(text, sizeof text, "tokens must be at most the burst, which is %.14g, got %.14g",
                 burst, n);
        luaL_argerror(L, idx, text);
    }
    return n;
}

/* ---- acquire ---- */

/* scratch: 0 the place in the line, 1 the tokens */
static mpe_limiter_wait *
place_of(const lmpe_await *a)
{
    return (mpe_limiter_wait *)(uintptr_t)a->scratch[0];
}

static double
tokens_of(const lmpe_await *a)
{
    double tokens;
    memcpy(&tokens, &a->scratch[1], sizeof tokens);
    return tokens;
}

/* The tokens of a task that is killed are for the next. */
static int
leave(lmpe *S, lmpe_await *a)
{
    mpe_limiter_wait *place = place_of(a);
    int rc = place ? mpe_limiter_leave(S->e, a->object, &place) : MPE_ETIMEDOUT;
    if (rc == MPE_OK && a->ending == LMPE_KILLED)
        mpe_limiter_put_back(S->e, a->object, tokens_of(a));
    a->scratch[0] = 0;
    return rc;
}

static int
attempt_acquire(lmpe *S, lmpe_await *a)
{
    a->source = LMPE_OBJECT;
    a->on.object = a->object;
    a->event = MPE_EVENT_READY;
    if (a->ending != LMPE_GOES_ON)
        return leave(S, a);
    if (a->deadline == MPE_NOW)
        return mpe_limiter_try(S->e, a->object, tokens_of(a));
    mpe_limiter_wait *place = place_of(a);
    int rc = mpe_limiter_acquire(S->e, a->object, tokens_of(a), &place);
    a->scratch[0] = (uintptr_t)place;
    return rc;
}

static int
finish_acquire(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    if (place_of(a)) /* it could not wait */
        leave(S, a);
    return lmpe_finish_true(L, S, a, status);
}

/* limiter:acquire([n [, timeout]]) -> true | nil, "timeout" */
static int
limiter_acquire(lua_State *L)
{
    lmpe_box *b = self(L);
    double tokens = check_tokens(L, b, 2);
    uint64_t deadline = lmpe_check_deadline(L, 3);
    if (!lmpe_may_be_cancelled(b->S->current) && mpe_limiter_try(b->S->e, b->o, tokens) == MPE_OK) {
        lua_pushboolean(L, 1); /* the common case: the tokens are there */
        return lmpe_did(L, b->S, LMPE_DID, 1);
    }
    lmpe_await *a = lmpe_await_new(b->S, deadline, "timeout");
    a->object = b->o;
    a->attempt = attempt_acquire;
    a->cleans_up = 1;
    a->finish = finish_acquire;
    memcpy(&a->scratch[1], &tokens, sizeof tokens);
    return lmpe_await_run(L, b->S, a);
}

/* ---- the others ---- */

/* limiter:try([n]) -> boolean */
static int
limiter_try(lua_State *L)
{
    lmpe_box *b = self(L);
    double tokens = check_tokens(L, b, 2);
    int rc = mpe_limiter_try(b->S->e, b->o, tokens);
    lua_pushboolean(L, rc == MPE_OK);
    return lmpe_did(L, b->S, rc == MPE_OK ? LMPE_DID : LMPE_LOOKED, 1);
}

static int
tokens_now(lua_State *L)
{
    lua_pushnumber(L, state_of(self(L)).tokens);
    return 1;
}

static int
limiter_tokens(lua_State *L)
{
    return lmpe_look(L, lmpe_self(L), tokens_now);
}

static int
limiter_rate(lua_State *L)
{
    lua_pushnumber(L, state_of(self(L)).rate);
    return 1;
}

static int
limiter_burst(lua_State *L)
{
    lua_pushnumber(L, state_of(self(L)).burst);
    return 1;
}

static int
limiter_tostring(lua_State *L)
{
    lmpe_box *b = self(L);
    mpe_limiter_state state = state_of(b);
    lmpe_push_identity(L, b);
    char text[80];
    snprintf(text, sizeof text, " (%.14g per second, burst %.14g)", state.rate, state.burst);
    lua_pushstring(L, text);
    lua_concat(L, 2);
    return 1;
}

/* What is served in order cannot be looked at without a place in the line. */
static int
limiter_wait_source(lua_State *L)
{
    lua_pushnil(L);
    lua_pushliteral(L, "the tokens of a limiter go to those that wait in line; use its acquire");
    return 2;
}

/* ---- new ---- */

/* A positive number that is no infinity. */
static double
check_number(lua_State *L, int idx, const char *field)
{
    double n = lua_type(L, idx) == LUA_TNUMBER ? lua_tonumber(L, idx) : -1;
    if (!(n > 0) || n > 1e300) {
        const char *got = luaL_tolstring(L, idx, NULL);
        luaL_error(L, "RateLimiter: field '%s' must be a number above 0, got %s", field, got);
    }
    return n;
}

/* mp.RateLimiter{ rate =, burst =, name = }, mp.RateLimiter(rate [, burst]) */
static int
new_limiter(lua_State *L)
{
    static const char *const fields[] = {"rate", "burst", NULL};
    lmpe *S = lmpe_self(L);
    if (!lua_istable(L, 1) && lua_type(L, 1) != LUA_TNUMBER)
        return luaL_typeerror(L, 1, "table or number");
    lmpe_take_fields(L, "RateLimiter", fields);
    double rate = check_number(L, 1, "rate");
    double burst = lua_isnil(L, 2) ? 0 : check_number(L, 2, "burst");
    mpe_object *o;
    int rc, tries = 0;
    do
        rc = mpe_limiter_create(S->e, rate, burst, &o);
    while (lmpe_try_again(L, S, rc, &tries));
    if (rc == MPE_ERANGE)
        return luaL_error(L, "RateLimiter: field 'rate' must be at most 1e9, and high enough to "
                             "fill the burst in a year");
    return lmpe_created(L, S, rc, &o, "RateLimiter", 3);
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg methods[] = {{"acquire", limiter_acquire}, {"try", limiter_try},
                                       {"tokens", limiter_tokens},   {"rate", limiter_rate},
                                       {"burst", limiter_burst},     {NULL, NULL}};
    static const luaL_Reg meta[] = {
        {"__tostring", limiter_tostring}, {"__wait_source", limiter_wait_source}, {NULL, NULL}};
    static const luaL_Reg makers[] = {{"RateLimiter", new_limiter}, {NULL, NULL}};
    lmpe_new_type(L, S,
                  &(lmpe_type){.kind = MPE_KIND_RATE_LIMITER, .methods = methods, .meta = meta});
    lmpe_set_makers(L, S, makers);
}

const lmpe_module lmpe_limiter_module = {.open = on_open};
