/* SPDX-License-Identifier: MIT
 *
 * lsemaphore.c - mp.Semaphore and mp.BoundedSemaphore.
 */
#include "base/llabel.h"
#include "base/lobject.h"
#include "task/lturn.h"

#define SEMAPHORE (1u << MPE_KIND_SEMAPHORE | 1u << MPE_KIND_BOUNDED)

static int
attempt_acquire(lmpe *S, lmpe_await *a)
{
    a->source = LMPE_OBJECT;
    a->on.object = a->object;
    a->event = MPE_EVENT_READY;
    return mpe_semaphore_acquire(S->e, a->object);
}

static int
finish_acquire(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    if (status == MPE_ERANGE)
        return luaL_error(L, "acquire: a process holds at most 65535 permits of a semaphore");
    return lmpe_finish_true(L, S, a, status);
}

/* semaphore:acquire([timeout]) -> true | nil, "timeout" */
static int
semaphore_acquire(lua_State *L)
{
    lmpe_box *b = lmpe_check_kinds(L, 1, SEMAPHORE);
    uint64_t deadline = lmpe_check_deadline(L, 2);
    if (!lmpe_may_be_cancelled(b->S->current) && mpe_semaphore_acquire(b->S->e, b->o) == MPE_OK) {
        lua_pushboolean(L, 1); /* the common case: there is a permit */
        return lmpe_did(L, b->S, LMPE_DID, 1);
    }
    lmpe_await *a = lmpe_await_new(b->S, deadline, "timeout");
    a->object = b->o;
    a->attempt = attempt_acquire;
    a->finish = finish_acquire;
    return lmpe_await_run(L, b->S, a);
}

static int
semaphore_release(lua_State *L)
{
    lmpe_box *b = lmpe_check_kinds(L, 1, SEMAPHORE);
    int rc = mpe_semaphore_release(b->S->e, b->o);
    if (rc == MPE_EOVER)
        return lmpe_misuse(L, "all_permits");
    if (rc != MPE_OK)
        return lmpe_raise(L, rc, "release");
    return 0;
}

static int
value_now(lua_State *L)
{
    lmpe_box *b = lmpe_check_kinds(L, 1, SEMAPHORE);
    lua_pushinteger(L, mpe_semaphore_value(b->S->e, b->o));
    return 1;
}

static int
semaphore_value(lua_State *L)
{
    return lmpe_look(L, lmpe_self(L), value_now);
}

static int
locked_now(lua_State *L)
{
    lmpe_box *b = lmpe_check_kinds(L, 1, SEMAPHORE);
    lua_pushboolean(L, mpe_semaphore_value(b->S->e, b->o) == 0);
    return 1;
}

static int
semaphore_locked(lua_State *L)
{
    return lmpe_look(L, lmpe_self(L), locked_now);
}

/* __ready: would acquire succeed now? */
static int
semaphore_ready(lua_State *L)
{
    lmpe_box *b = lmpe_check_kinds(L, 1, SEMAPHORE);
    lua_pushboolean(L, mpe_semaphore_value(b->S->e, b->o) > 0);
    return 1;
}

static int
semaphore_tostring(lua_State *L)
{
    lmpe_box *b = lmpe_check_kinds(L, 1, SEMAPHORE);
    lmpe_push_identity(L, b);
    lua_pushfstring(L, " (value %d)", (int)mpe_semaphore_value(b->S->e, b->o));
    lua_concat(L, 2);
    return 1;
}

static int
create(lua_State *L, int bounded, const char *function)
{
    lmpe *S = lmpe_self(L);
    static const char *const fields[] = {"value", NULL};
    lmpe_take_fields(L, function, fields);
    lua_Integer n = lua_isnil(L, 1) ? 1 : lmpe_check_count(L, 1, 0, INT32_MAX, "number of permits");
    mpe_object *o;
    int rc, tries = 0;
    do
        rc = mpe_semaphore_create(S->e, (uint32_t)n, bounded, &o);
    while (lmpe_try_again(L, S, rc, &tries));
    return lmpe_created(L, S, rc, &o, function, 2);
}

static int
new_semaphore(lua_State *L)
{
    return create(L, 0, "Semaphore");
}

static int
new_bounded(lua_State *L)
{
    return create(L, 1, "BoundedSemaphore");
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg methods[] = {{"acquire", semaphore_acquire},
                                       {"release", semaphore_release},
                                       {"get_value", semaphore_value},
                                       {"locked", semaphore_locked},
                                       {NULL, NULL}};
    static const luaL_Reg meta[] = {
        {"__tostring", semaphore_tostring}, {"__ready", semaphore_ready}, {NULL, NULL}};
    static const luaL_Reg makers[] = {
        {"Semaphore", new_semaphore}, {"BoundedSemaphore", new_bounded}, {NULL, NULL}};
    lmpe_new_type(L, S, &(lmpe_type){.kind = MPE_KIND_SEMAPHORE, .methods = methods, .meta = meta});
    lmpe_new_type(L, S, &(lmpe_type){.kind = MPE_KIND_BOUNDED, .methods = methods, .meta = meta});
    lmpe_set_makers(L, S, makers);
}

const lmpe_module lmpe_semaphore_module = {.open = on_open};
