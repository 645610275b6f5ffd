/* SPDX-License-Identifier: MIT
 *
 * lbarrier.c - mp.Barrier. The Lua side (sync.lua) handles the action and the default timeout of
 * the constructor; this file has the barrier itself.
 */
#include "base/lobject.h"
#include "task/ltask.h"

/* scratch: 0 index + 1 once arrived, 1 generation */
static int
attempt_wait(lmpe *S, lmpe_await *a)
{
    uint32_t index = 0, generation = (uint32_t)a->scratch[1];
    int rc;
    a->source = LMPE_OBJECT;
    a->on.object = a->object;
    a->event = MPE_EVENT_READY;
    if (a->scratch[0]) {
        rc = mpe_barrier_poll(S->e, a->object, generation);
        if (rc != MPE_EAGAIN || a->ending == LMPE_GOES_ON)
            return rc;
        mpe_barrier_abort(S->e, a->object); /* a waiter that leaves breaks it for all */
        return MPE_EBROKEN;
    }
    rc = mpe_barrier_arrive(S->e, a->object, &index, &generation);
    a->scratch[0] = index + 1;
    a->scratch[1] = generation;
    a->scratch[2] = rc == MPE_OK;
    return rc;
}

/* index | index, generation when this is the last and the barrier is to be opened */
static int
finish_wait(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    (void)S;
    if (status != MPE_OK)
        return lmpe_outcome(L, status == MPE_ETIMEDOUT ? MPE_EBROKEN : status, "broken");
    lua_pushinteger(L, (lua_Integer)a->scratch[0]);
    if (!a->scratch[2])
        return 1;
    lua_pushinteger(L, (lua_Integer)a->scratch[1]);
    return 2;
}

/* b:meet([timeout]) -> 1..parties [, generation] | nil, "broken" */
static int
barrier_meet(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    lmpe_await *a = lmpe_await_new(b->S, lmpe_check_deadline(L, 2), "broken");
    a->object = b->o;
    a->attempt = attempt_wait;
    a->cleans_up = 1;
    a->finish = finish_wait;
    return lmpe_await_run(L, b->S, a);
}

/* b:open(generation) -> true | nil, "broken" */
static int
barrier_open(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    int rc = mpe_barrier_open(b->S->e, b->o, (uint32_t)luaL_checkinteger(L, 2));
    if (rc != MPE_OK)
        return lmpe_outcome(L, rc, "broken");
    lua_pushboolean(L, 1);
    return 1;
}

static int
barrier_abort(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    mpe_barrier_abort(b->S->e, b->o);
    return 0;
}

static int
barrier_reset(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    mpe_barrier_reset(b->S->e, b->o);
    return 0;
}

/* b:state() -> parties, waiting, broken */
static int
barrier_state(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    uint32_t parties, waiting;
    int broken;
    mpe_barrier_state(b->S->e, b->o, &parties, &waiting, &broken);
    lua_pushinteger(L, parties);
    lua_pushinteger(L, waiting);
    lua_pushboolean(L, broken);
    return 3;
}

/* b:settings() -> the bytes given at making, nil when there were none */
static int
barrier_settings(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    mpe_bytes settings = mpe_barrier_settings(b->S->e, b->o);
    if (settings.size == 0)
        return 0;
    lua_pushlstring(L, settings.data, settings.size);
    return 1;
}

static int
barrier_tostring(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    uint32_t parties, waiting;
    int broken;
    mpe_barrier_state(b->S->e, b->o, &parties, &waiting, &broken);
    lmpe_push_identity(L, b);
    lua_pushfstring(L, " (%d of %d waiting%s)", (int)waiting, (int)parties,
                    broken ? ", broken" : "");
    lua_concat(L, 2);
    return 1;
}

static int
new_barrier(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lua_Integer n = lmpe_check_count(L, 1, 1, 65535, "number of parties");
    size_t size = 0;
    const char *bytes = luaL_optlstring(L, 2, NULL, &size);
    lua_settop(L, 3);
    mpe_object *o;
    int rc, tries = 0;
    do
        rc = mpe_barrier_create(S->e, (uint32_t)n, (mpe_bytes){bytes, size}, &o);
    while (lmpe_try_again(L, S, rc, &tries));
    return lmpe_created(L, S, rc, &o, "Barrier", 3);
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg methods[] = {{"meet", barrier_meet},
                                       {"open", barrier_open},
                                       {"abort", barrier_abort},
                                       {"reset", barrier_reset},
                                       {"state", barrier_state},
                                       {"settings", barrier_settings},
                                       {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__tostring", barrier_tostring}, {NULL, NULL}};
    static const luaL_Reg makers[] = {{"Barrier", new_barrier}, {NULL, NULL}};
    lmpe_new_type(L, S, &(lmpe_type){.kind = MPE_KIND_BARRIER, .methods = methods, .meta = meta});
    lmpe_set_makers(L, S, makers);
}

const lmpe_module lmpe_barrier_module = {.open = on_open};
