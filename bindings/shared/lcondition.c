/* SPDX-License-Identifier: MIT
 *
 * lcondition.c - mp.Condition. A wait releases the lock, waits to be notified, and reacquires
 * the lock before it ends, also when it ends by a timeout or a kill.
 */
#include "base/llabel.h"
#include "task/lturn.h"
#include "shared/lshared.h"

enum { NOTIFIED, TIMED_OUT };

static lmpe_box *
self(lua_State *L)
{
    return lmpe_check_kinds(L, 1, 1u << MPE_KIND_CONDITION);
}

/* The box of the condition's lock, which a user value keeps. */
static lmpe_box *
lock_of(lua_State *L, lmpe_box *b)
{
    lmpe_box *known = b->data;
    if (!known || !known->o) { /* or it was finalized: the state is being closed */
        int rc = lmpe_push_handle(L, b->S, mpe_condition_lock(b->S->e, b->o));
        if (rc != MPE_OK)
            lmpe_raise(L, rc, "the condition's lock");
        b->data = lua_touserdata(L, -1);
        lua_setiuservalue(L, 1, 1);
    }
    return b->data;
}

static int
is_recursive(const lmpe_box *lock)
{
    return mpe_handle_kind(lock->h) == MPE_KIND_RLOCK;
}

static int
is_mine(const lmpe_box *b, const lmpe_box *lock)
{
    mpe_lock_state state;
    mpe_lock_state_get(b->S->e, lock->o, &state);
    return state.locked && state.slot == mpe_self_slot(b->S->e) && state.task == b->S->current->id;
}

static void
check_mine(lua_State *L, const lmpe_box *b, const lmpe_box *lock)
{
    if (!is_mine(b, lock))
        lmpe_misuse(L, "condition_not_mine");
}

/* scratch: 0 taking the lock, 1 the ticket, and then how the wait ended, 2 the lock's object | levels << 48,
   of a Lock 0 */
static mpe_object *
lock_object(const lmpe_await *a)
{
    return (mpe_object *)(uintptr_t)(a->scratch[2] & 0xffffffffffffull);
}

static int
take_lock(lmpe *S, lmpe_await *a)
{
    mpe_object *lock = lock_object(a);
    uint32_t levels = (uint32_t)(a->scratch[2] >> 48);
    int rc = levels ? mpe_rlock_acquire(S->e, lock, a->task->id)
                    : mpe_lock_acquire(S->e, lock, a->task->id);
    a->on.object = lock;
    a->event = MPE_EVENT_READY;
    if (rc >= 0 && levels)
        mpe_rlock_set_levels(S->e, lock, levels);
    return rc;
}

static int
attempt_wait(lmpe *S, lmpe_await *a)
{
    a->source = LMPE_OBJECT;
    if (!a->scratch[0]) {
        a->on.object = a->object;
        a->event = MPE_EVENT_NOTIFIED;
        uint32_t ticket = (uint32_t)a->scratch[1];
        int rc = mpe_condition_notified(S->e, a->object, ticket);
        if (rc == MPE_EAGAIN && a->ending == LMPE_GOES_ON)
            return rc;
        if (rc == MPE_EAGAIN)
            rc = mpe_condition_leave(S->e, a->object, ticket);
        if (rc == MPE_OK && a->ending == LMPE_KILLED)
            mpe_condition_notify(S->e, a->object, 1); /* the notification goes to another waiter */
        a->scratch[1] = rc == MPE_OK ? NOTIFIED : TIMED_OUT;
        a->scratch[0] = 1;
        a->shielded = 1;
    }
    return take_lock(S, a);
}

static int
finish_wait(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    (void)S;
    if (status < 0)
        return lmpe_raise(L, status, "wait");
    int n = 1;
    if (a->scratch[1] == TIMED_OUT)
        n = lmpe_outcome(L, MPE_ETIMEDOUT, "timeout");
    else
        lua_pushboolean(L, 1);
    if (status != MPE_OWNER_DIED)
        return n;
    lua_pushliteral(L, "owner_died");
    return n + 1;
}

/* c:wait([timeout]) -> true | nil, "timeout"; and "owner_died" when the lock's owner had died */
static int
condition_wait(lua_State *L)
{
    lmpe_box *b = self(L);
    lmpe *S = b->S;
    uint64_t deadline = lmpe_check_deadline(L, 2);
    lmpe_box *lock = lock_of(L, b);
    uint32_t levels = 0, ticket;
    check_mine(L, b, lock);
    lmpe_await *a = lmpe_await_new(S, deadline, "timeout");
    lmpe_await_check(L, S);
    int rc = mpe_condition_enlist(S->e, b->o, &ticket);
    if (rc != MPE_OK)
        return lmpe_raise(L, rc, "Condition:wait");
    if (is_recursive(lock))
        mpe_rlock_release_all(S->e, lock->o, S->current->id, &levels);
    else
        mpe_lock_release(S->e, lock->o);
    a->object = b->o;
    a->scratch[1] = ticket;
    a->scratch[2] = (uint64_t)(uintptr_t)lock->o | (uint64_t)levels << 48;
    a->attempt = attempt_wait;
    a->cleans_up = a->acted = 1;
    a->finish = finish_wait;
    return lmpe_await_run(L, S, a);
}

/* c:acquire([timeout]), c:release(), c:locked(): the lock's */
static int
condition_acquire(lua_State *L)
{
    return lmpe_lock_acquire(L, lock_of(L, self(L)));
}

static int
condition_release(lua_State *L)
{
    return lmpe_lock_release(L, lock_of(L, self(L)));
}

static int
locked_now(lua_State *L)
{
    return lmpe_lock_locked(L, lock_of(L, self(L)));
}

static int
condition_locked(lua_State *L)
{
    return lmpe_look(L, lmpe_self(L), locked_now);
}

/* c:is_mine(): does this task hold the lock? */
static int
condition_is_mine(lua_State *L)
{
    lmpe_box *b = self(L);
    lua_pushboolean(L, is_mine(b, lock_of(L, b)));
    return 1;
}

static int
condition_notify(lua_State *L)
{
    lmpe_box *b = self(L);
    lua_Integer n = lua_isnoneornil(L, 2)
                        ? 1
                        : lmpe_check_count(L, 2, 0, LUA_MAXINTEGER, "number of waiters");
    check_mine(L, b, lock_of(L, b));
    mpe_condition_notify(b->S->e, b->o, n > UINT32_MAX ? UINT32_MAX : (uint32_t)n);
    return 0;
}

static int
condition_notify_all(lua_State *L)
{
    lmpe_box *b = self(L);
    check_mine(L, b, lock_of(L, b));
    mpe_condition_notify(b->S->e, b->o, UINT32_MAX);
    return 0;
}

/* c:get_lock() -> the lock that goes with it */
static int
condition_lock(lua_State *L)
{
    lmpe_box *b = self(L);
    lock_of(L, b);
    lua_getiuservalue(L, 1, 1);
    return 1;
}

static int
condition_tostring(lua_State *L)
{
    lmpe_box *b = self(L);
    lmpe_box *lock = lock_of(L, b);
    mpe_lock_state state;
    mpe_lock_state_get(b->S->e, lock->o, &state);
    lmpe_push_identity(L, b);
    lua_pushstring(L, state.locked ? " (lock held)" : " (lock free)");
    lua_concat(L, 2);
    return 1;
}

static int
new_condition(lua_State *L)
{
    static const char *const fields[] = {"lock", NULL};
    lmpe *S = lmpe_self(L);
    mpe_handle lock = 0;
    mpe_object *o;
    lmpe_take_fields(L, "Condition", fields);
    if (!lua_isnil(L, 1)) {
        lmpe_box *b = lmpe_test_any(L, 1);
        int kind = b && b->o ? mpe_handle_kind(b->h) : MPE_KIND_NONE;
        if (kind != MPE_KIND_LOCK && kind != MPE_KIND_RLOCK)
            return luaL_typeerror(L, 1, "mp.Lock or mp.RLock");
        lock = b->h;
    }
    int rc, tries = 0;
    do
        rc = mpe_condition_create(S->e, lock, &o);
    while (lmpe_try_again(L, S, rc, &tries));
    return lmpe_created(L, S, rc, &o, "Condition", 2);
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg methods[] = {{"acquire", condition_acquire},
                                       {"release", condition_release},
                                       {"locked", condition_locked},
                                       {"wait", condition_wait},
                                       {"notify", condition_notify},
                                       {"notify_all", condition_notify_all},
                                       {"get_lock", condition_lock},
                                       {"is_mine", condition_is_mine},
                                       {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__tostring", condition_tostring}, {NULL, NULL}};
    static const luaL_Reg makers[] = {{"Condition", new_condition}, {NULL, NULL}};
    lmpe_new_type(L, S, &(lmpe_type){.kind = MPE_KIND_CONDITION, .methods = methods, .meta = meta});
    lmpe_set_makers(L, S, makers);
}

const lmpe_module lmpe_condition_module = {.open = on_open};
