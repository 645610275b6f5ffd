/* SPDX-License-Identifier: MIT
 *
 * levent.c - mp.Event.
 */
#include "base/llabel.h"
#include "base/lobject.h"
#include "task/lturn.h"

#define EVENT (1u << MPE_KIND_EVENT)

static int
attempt_wait(lmpe *S, lmpe_await *a)
{
    a->source = LMPE_OBJECT;
    a->on.object = a->object;
    a->event = MPE_EVENT_READY;
    return mpe_event_wait(S->e, a->object, &a->scratch[0]);
}

/* event:wait([timeout]) -> true | nil, "timeout" */
static int
event_wait(lua_State *L)
{
    lmpe_box *b = lmpe_check_kinds(L, 1, EVENT);
    uint64_t deadline = lmpe_check_deadline(L, 2);
    if (!lmpe_may_be_cancelled(b->S->current) && mpe_event_is_set(b->S->e, b->o)) {
        lua_pushboolean(L, 1); /* nothing to wait for */
        return lmpe_did(L, b->S, LMPE_DID, 1);
    }
    lmpe_await *a = lmpe_await_new(b->S, deadline, "timeout");
    a->object = b->o;
    a->scratch[0] = UINT64_MAX;
    a->attempt = attempt_wait;
    a->finish = lmpe_finish_true;
    return lmpe_await_run(L, b->S, a);
}

static int
event_set(lua_State *L)
{
    lmpe_box *b = lmpe_check_kinds(L, 1, EVENT);
    mpe_event_set(b->S->e, b->o);
    return 0;
}

static int
event_clear(lua_State *L)
{
    lmpe_box *b = lmpe_check_kinds(L, 1, EVENT);
    mpe_event_clear(b->S->e, b->o);
    return 0;
}

static int
set_now(lua_State *L)
{
    lmpe_box *b = lmpe_check_kinds(L, 1, EVENT);
    lua_pushboolean(L, mpe_event_is_set(b->S->e, b->o));
    return 1;
}

static int
event_is_set(lua_State *L)
{
    return lmpe_look(L, lmpe_self(L), set_now);
}

static int
event_tostring(lua_State *L)
{
    lmpe_box *b = lmpe_check_kinds(L, 1, EVENT);
    lmpe_push_identity(L, b);
    lua_pushstring(L, mpe_event_is_set(b->S->e, b->o) ? " (set)" : " (not set)");
    lua_concat(L, 2);
    return 1;
}

static int
new_event(lua_State *L)
{
    static const char *const fields[] = {NULL};
    lmpe *S = lmpe_self(L);
    mpe_object *o;
    int rc, tries = 0;
    lmpe_take_fields(L, "Event", fields);
    do
        rc = mpe_event_create(S->e, &o);
    while (lmpe_try_again(L, S, rc, &tries));
    return lmpe_created(L, S, rc, &o, "Event", 1);
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg methods[] = {{"wait", event_wait},
                                       {"set", event_set},
                                       {"clear", event_clear},
                                       {"is_set", event_is_set},
                                       {NULL, NULL}};
    static const luaL_Reg meta[] = {
        {"__tostring", event_tostring}, {"__ready", set_now}, {NULL, NULL}};
    static const luaL_Reg makers[] = {{"Event", new_event}, {NULL, NULL}};
    lmpe_new_type(L, S, &(lmpe_type){.kind = MPE_KIND_EVENT, .methods = methods, .meta = meta});
    lmpe_set_makers(L, S, makers);
}

const lmpe_module lmpe_event_module = {.open = on_open};
