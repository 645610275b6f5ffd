/* SPDX-License-Identifier: MIT
 *
 * llock.c - mp.Lock and mp.RLock. An RLock may be the facet of an array, value or condition.
 * Guards and with() are the same for every type that has acquire and release: mpengine/sync.lua.
 */
#include "base/llabel.h"
#include "task/lturn.h"
#include "shared/lshared.h"

#define LOCKS (1u << MPE_KIND_LOCK | 1u << MPE_KIND_RLOCK)

static int
attempt_lock(lmpe *S, lmpe_await *a)
{
    a->source = LMPE_OBJECT;
    a->on.object = a->object;
    a->event = MPE_EVENT_READY;
    return a->scratch[0] ? mpe_rlock_acquire(S->e, a->object, a->task->id)
                         : mpe_lock_acquire(S->e, a->object, a->task->id);
}

static int
is_recursive(const lmpe_box *b)
{
    return mpe_handle_kind(b->h) == MPE_KIND_RLOCK;
}

static __attribute__((noinline)) int
await_lock(lua_State *L, lmpe_box *b, uint64_t deadline)
{
    lmpe_await *a = lmpe_await_new(b->S, deadline, "timeout");
    a->object = b->o;
    a->scratch[0] = (uint64_t)is_recursive(b);
    a->attempt = attempt_lock;
    a->finish = lmpe_finish_true;
    return lmpe_await_run(L, b->S, a);
}

/* lock:acquire([timeout]) -> true | true, "owner_died" | nil, "timeout" */
static inline int
acquire(lua_State *L, lmpe_box *b)
{
    lmpe_task *t = b->S->current;
    uint64_t deadline = lmpe_check_deadline(L, 2);
    if (lmpe_may_be_cancelled(t))
        return await_lock(L, b, deadline);
    int rc = is_recursive(b) ? mpe_rlock_acquire(b->S->e, b->o, t->id)
                             : mpe_lock_acquire(b->S->e, b->o, t->id);
    if (rc != MPE_OK)
        return rc == MPE_OWNER_DIED ? lmpe_finish_true(L, b->S, NULL, rc)
                                    : await_lock(L, b, deadline);
    lua_pushboolean(L, 1); /* the common case: it was free */
    return lmpe_did(L, b->S, LMPE_DID, 1);
}

static inline int
release(lua_State *L, lmpe_box *b)
{
    if (!is_recursive(b)) {
        if (mpe_lock_release(b->S->e, b->o) != MPE_OK)
            return lmpe_misuse(L, "lock_not_held");
    } else if (mpe_rlock_release(b->S->e, b->o, b->S->current->id) != MPE_OK) {
        return lmpe_misuse(L, "lock_not_mine");
    }
    return 0;
}

int
lmpe_lock_locked(lua_State *L, lmpe_box *b)
{
    mpe_lock_state state;
    mpe_lock_state_get(b->S->e, b->o, &state);
    lua_pushboolean(L, state.locked);
    return 1;
}

int
lmpe_lock_acquire(lua_State *L, lmpe_box *lock)
{
    return acquire(L, lock);
}

int
lmpe_lock_release(lua_State *L, lmpe_box *lock)
{
    return release(L, lock);
}

static int
lock_acquire(lua_State *L)
{
    return acquire(L, lmpe_check_kinds(L, 1, LOCKS));
}

static int
lock_release(lua_State *L)
{
    return release(L, lmpe_check_kinds(L, 1, LOCKS));
}

static int
locked_now(lua_State *L)
{
    return lmpe_lock_locked(L, lmpe_check_kinds(L, 1, LOCKS));
}

static int
lock_locked(lua_State *L)
{
    return lmpe_look(L, lmpe_self(L), locked_now);
}

/* __ready: would acquire succeed now? */
static int
lock_ready(lua_State *L)
{
    lmpe_box *b = lmpe_check_kinds(L, 1, LOCKS);
    mpe_lock_state state;
    mpe_lock_state_get(b->S->e, b->o, &state);
    int mine = is_recursive(b) && state.slot == mpe_self_slot(b->S->e) &&
               state.task == b->S->current->id;
    lua_pushboolean(L, !state.locked || mine);
    return 1;
}

static int
lock_tostring(lua_State *L)
{
    lmpe_box *b = lmpe_check_kinds(L, 1, LOCKS);
    mpe_lock_state state;
    mpe_slot_info owner;
    lmpe_push_identity(L, b);
    mpe_lock_state_get(b->S->e, b->o, &state);
    if (state.abandoned)
        lua_pushliteral(L, " (its owner died)");
    else if (!state.locked)
        lua_pushliteral(L, " (free)");
    else if (mpe_slot_get(b->S->e, state.slot, &owner) == MPE_OK)
        lua_pushfstring(L, " (held by %s, pid %d)", owner.name, owner.pid);
    else
        lua_pushliteral(L, " (held)");
    lua_concat(L, 2);
    return 1;
}

static int
create(lua_State *L, int recursive, const char *function)
{
    static const char *const fields[] = {NULL};
    lmpe *S = lmpe_self(L);
    mpe_object *o;
    int rc, tries = 0;
    lmpe_take_fields(L, function, fields);
    do
        rc = mpe_lock_create(S->e, recursive, &o);
    while (lmpe_try_again(L, S, rc, &tries));
    return lmpe_created(L, S, rc, &o, function, 1);
}

static int
new_lock(lua_State *L)
{
    return create(L, 0, "Lock");
}

static int
new_rlock(lua_State *L)
{
    return create(L, 1, "RLock");
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg methods[] = {{"acquire", lock_acquire},
                                       {"release", lock_release},
                                       {"locked", lock_locked},
                                       {NULL, NULL}};
    static const luaL_Reg meta[] = {
        {"__tostring", lock_tostring}, {"__ready", lock_ready}, {NULL, NULL}};
    static const luaL_Reg makers[] = {{"Lock", new_lock}, {"RLock", new_rlock}, {NULL, NULL}};
    lmpe_new_type(L, S, &(lmpe_type){.kind = MPE_KIND_LOCK, .methods = methods, .meta = meta});
    lmpe_new_type(L, S, &(lmpe_type){.kind = MPE_KIND_RLOCK, .methods = methods, .meta = meta});
    lmpe_set_makers(L, S, makers);
}

const lmpe_module lmpe_lock_module = {.open = on_open};
