/* SPDX-License-Identifier: MIT
 *
 * lawait.c - the await: a task tries an operation of the engine again and again until it succeeds, and
 * waits in between. It yields, is cancelled and waits in place as the simple wait (lwait.c).
 */
#include "base/lobject.h"
#include "task/lturn.h"
#include "task/lcancel.h"

#include <string.h>

static void
trace_await(lua_State *L, lmpe *S, const lmpe_await *a)
{
    static const uint8_t sources[] = {
        [LMPE_OBJECT] = MPE_TRACE_OF_OBJECT,   [LMPE_LIST] = MPE_TRACE_OF_TASKS,
        [LMPE_TIMER] = MPE_TRACE_OF_TIME,      [LMPE_FD] = MPE_TRACE_OF_FD,
        [LMPE_PROCESS] = MPE_TRACE_OF_PROCESS, [LMPE_MANY] = MPE_TRACE_OF_MANY};
    if (a->source == LMPE_LIST) {
        lmpe_trace_list(L, a->task);
        return;
    }
    uint64_t object = 0;
    if (a->source == LMPE_OBJECT)
        object = mpe_handle_of(S->e, a->on.object);
    else if (a->source == LMPE_PROCESS)
        object = (uint64_t)mpe_process_pid(a->on.process);
    lmpe_trace_task(a->task, MPE_TRACE_WAIT, object, sources[a->source]);
}

static void
on_fire(mpe_engine *e, mpe_waiter *w, int status)
{
    lmpe_await *a = (lmpe_await *)w; /* its first member */
    lmpe_task *t = a->task;
    (void)e;
    a->timed_out = status == MPE_ETIMEDOUT;
    t->fired = 1;
    if (status == MPE_OK && a->source == LMPE_LIST && lmpe_is_traced(t->S))
        lmpe_trace_task(t, MPE_TRACE_WAKE, 0, 0);
    if (!t->in_place)
        lmpe_make_ready(t);
}

lmpe_await *
lmpe_await_new(lmpe *S, uint64_t deadline, const char *reason)
{
    lmpe_await *a = &lmpe_wait_of(S->current)->await;
    memset(a, 0, sizeof *a);
    a->task = S->current;
    a->w.fire = on_fire;
    a->deadline = deadline;
    a->reason = reason;
    a->ending = LMPE_GOES_ON;
    return a;
}

static int
file_waiter(lmpe *S, lmpe_await *a, uint64_t deadline)
{
    switch (a->source) {
    case LMPE_OBJECT:
        return mpe_wait_object(S->e, &a->w, a->on.object, a->event, deadline);
    case LMPE_LIST:
        return mpe_wait_list(S->e, &a->w, a->on.list, deadline);
    case LMPE_FD:
        return mpe_wait_fd(S->e, &a->w, a->on.fd, a->event, deadline);
    case LMPE_PROCESS:
        return mpe_process_wait(S->e, a->on.process, &a->w, deadline);
    default:
        return mpe_wait_timer(S->e, &a->w, deadline);
    }
}

/* Does the await still wait for the object of its waiter? */
static int
same_target(const lmpe_await *a, const mpe_waiter *w)
{
    return a->source == LMPE_OBJECT && w->object == a->on.object && w->event == a->event;
}

/* One attempt after the wait was fired. The waiter keeps its turn meanwhile. */
static int
attempt_again(lmpe *S, lmpe_await *a)
{
    mpe_waiter turn = a->w;
    a->w.fired = 0;
    int rc = a->attempt(S, a);
    if (rc == MPE_EAGAIN && same_target(a, &turn))
        a->w.fired = turn.fired;
    else
        mpe_wait_done(S->e, &turn);
    return rc;
}

/* The wait has ended: records how, and tries again. A killed task takes nothing more. */
static int
woken(lua_State *L, lmpe *S, lmpe_await *a)
{
    lmpe_unfile(S, a->task);
    if (a->timed_out)
        a->ending = LMPE_TIMED_OUT;
    if (!a->shielded && lmpe_is_cancelled(L, S, a->task)) {
        a->ending = LMPE_KILLED;
        if (!a->cleans_up) {
            mpe_wait_done(S->e, &a->w);
            return MPE_ECANCELED;
        }
    }
    return attempt_again(S, a);
}

/* The change may have occurred before the waiter was filed. 1 when it must still wait, and for
 * the same object. */
static int
look_again(lmpe *S, lmpe_await *a, int *rc)
{
    *rc = a->attempt(S, a);
    if (*rc == MPE_EAGAIN && same_target(a, &a->w))
        return 1;
    mpe_wait_stop(S->e, &a->w);
    return 0;
}

/* An attempt that found no shared memory is made once more when garbage has been collected,
 * whose finalizers may wait. No waiter is filed. */
static int
found_room(lua_State *L, lmpe *S, lmpe_await *a, int *rc)
{
    int tries = a->collected;
    lmpe_await kept = *a;
    kept.collected = 1;
    if (!lmpe_try_again(L, S, *rc, &tries))
        return 0;
    *a = kept;
    *rc = a->attempt(S, a);
    return *rc == MPE_EAGAIN;
}

/* There is no waiting here: the call is left as by a kill, with the error on top of the stack. */
static int
refuse(lua_State *L, lmpe *S, lmpe_await *a)
{
    if (a->shielded)
        lua_error(L);
    lmpe_keep_failure(L, a->task);
    a->ending = LMPE_KILLED;
    return a->cleans_up ? a->attempt(S, a) : MPE_ECANCELED;
}

/* Continues until attempt has a status to finish with. 1 when the caller must yield now. */
static int
go_on(lua_State *L, lmpe *S, lmpe_await *a, int *rc)
{
    lmpe_task *t = a->task;
    while (*rc == MPE_EAGAIN || (*rc == MPE_EARENA && found_room(L, S, a, rc))) {
        if (a->ending != LMPE_GOES_ON && !a->shielded) {
            *rc = MPE_ETIMEDOUT;
            mpe_wait_done(S->e, &a->w);
            break;
        }
        if (a->source == LMPE_OBJECT && mpe_spin_for(S->e, a->on.object, a->event) &&
            (*rc = attempt_again(S, a)) != MPE_EAGAIN)
            break;
        if (lmpe_cannot_wait(L, S)) {
            *rc = refuse(L, S, a);
            continue;
        }
        if (!a->has_begun)
            lmpe_note_wait(S, t);
        a->has_begun = 1;
        t->uses_await = 1;
        t->fired = a->timed_out = 0;
        t->shielded = a->shielded;
        *rc = file_waiter(
            S, a, a->shielded ? MPE_FOREVER : lmpe_effective_deadline(L, S, t, a->deadline));
        if (*rc != MPE_OK)
            break;
        if (a->source == LMPE_OBJECT && !look_again(S, a, rc))
            continue;
        if (lmpe_is_traced(S))
            trace_await(L, S, a);
        if (lmpe_can_yield(L, S))
            return 1;
        t->in_place = 1;
        lmpe_wait_in_place(L, S, t);
        *rc = woken(L, S, a);
    }
    t->shielded = 0;
    return 0;
}

static int
finish(lua_State *L, lmpe *S, lmpe_await *a, int rc)
{
    lmpe_task *t = a->task;
    if (a->ending == LMPE_KILLED) {
        int top = lua_gettop(L);
        if (a->cleans_up)
            a->finish(L, S, a, rc);
        lua_settop(L, top);
        return lmpe_raise_cancelled(L, S, t);
    }
    return a->finish(L, S, a, rc);
}

/* Back in the task: its wait has fired, or it is being cancelled. */
static int
await_k(lua_State *L, int status, lua_KContext ctx)
{
    lmpe_task *t = (lmpe_task *)ctx;
    lmpe *S = t->S;
    lmpe_await *a = &t->wait->await;
    (void)status;
    int rc = woken(L, S, a);
    if (go_on(L, S, a, &rc))
        return lmpe_yield_task(L, S, t, ctx, await_k);
    return finish(L, S, a, rc);
}

void
lmpe_await_check(lua_State *L, lmpe *S)
{
    if (lmpe_is_cancelled(L, S, S->current))
        lmpe_raise_cancelled(L, S, S->current);
}

int
lmpe_await_run(lua_State *L, lmpe *S, lmpe_await *a)
{
    if (!a->shielded && lmpe_is_cancelled(L, S, S->current)) {
        if (!a->acted)
            return lmpe_raise_cancelled(L, S, S->current);
        a->ending = LMPE_KILLED;
    }
    int rc = a->attempt(S, a), units = LMPE_DID;
    if (rc == MPE_EAGAIN && a->deadline == MPE_NOW && a->ending == LMPE_GOES_ON) {
        a->ending = LMPE_TIMED_OUT;
        rc = a->attempt(S, a);
        units = LMPE_LOOKED;
    }
    if (go_on(L, S, a, &rc))
        return lmpe_yield_task(L, S, a->task, (lua_KContext)a->task, await_k);
    int stays = a->stays, n = finish(L, S, a, rc);
    return stays ? n : lmpe_did(L, S, units, n);
}

int
lmpe_outcome(lua_State *L, int status, const char *reason)
{
    switch (status) {
    case MPE_EAGAIN:
    case MPE_ETIMEDOUT:
        break;
    case MPE_ECLOSED:
    case MPE_EBROKEN:
    case MPE_ECANCELED:
        reason = mpe_strerror(status);
        break;
    default:
        return lmpe_raise(L, status, NULL);
    }
    luaL_pushfail(L);
    lua_pushstring(L, reason);
    return 2;
}

int
lmpe_finish_true(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    (void)S;
    if (status < 0)
        return lmpe_outcome(L, status, a->reason);
    lua_pushboolean(L, 1);
    if (status != MPE_OWNER_DIED)
        return 1;
    lua_pushliteral(L, "owner_died");
    return 2;
}
