/* SPDX-License-Identifier: MIT
 *
 * lawait.c - how a task waits. There are two kinds of waits: the simple one, in a list of this
 * process or for a time, which needs only the task itself; and the await, which tries an
 * operation of the engine again and again until it succeeds.
 *
 * The main chunk is the main task: it has no coroutine and waits by driving the loop in place
 * (ldrive.c), as does a task where Lua cannot yield (for example in a sort comparator); all
 * others yield. A yield of the scheduler passes through the user's own coroutines by means of
 * lcoroutine.c.
 *
 * Cancellation is checked at the start and at the end of every wait (lcancel.c). A task that is
 * woken by a list has been granted its turn: it keeps the turn, and the kill is raised at its
 * next wait.
 */
#include "base/lobject.h"
#include "task/lturn.h"
#include "task/lcancel.h"

#include <string.h>

int
lmpe_can_yield(lua_State *L, lmpe *S)
{
    lua_State *co = S->current->co;
    if (!co || !lua_isyieldable(L))
        return 0;
    for (lmpe_link *l = S->links; l && L != co; l = l->prev) {
        if (l->inner != L)
            return 0; /* not resumed by our coroutine library */
        L = l->outer;
        if (!lua_isyieldable(L))
            return 0;
    }
    return L == co;
}

/* ---- where nothing can wait ---- */

/* Is it a coroutine that neither a task nor the script's coroutine.resume runs? */
static int
is_foreign(const lua_State *L, const lmpe *S)
{
    if (S->links)
        return L != S->links->inner;
    return L != (S->current->co ? S->current->co : S->driver);
}

/* Pushes why the caller cannot wait here at all, or returns 0. */
static int
cannot_wait(lua_State *L, lmpe *S)
{
    const char *why;
    if (S->current == S->callback)
        why = "cannot wait in a callback while another call waits; spawn a task for it (co.spawn)";
    else if (S->is_host && lua_isyieldable(L) && is_foreign(L, S))
        why = "cannot wait in a coroutine that the host resumes; use mpe_lua_call instead";
    else
        return 0;
    lmpe_push_place(L);
    lua_pushstring(L, why);
    lua_concat(L, 2);
    return 1;
}

/* ---- in place ---- */

/* Withdraws the waiter of a waiting task. */
void
lmpe_unfile(lmpe *S, lmpe_task *t)
{
    if (!t->uses_await) {
        mpe_wait_stop(S->e, &t->w);
        return;
    }
    lmpe_await *a = &t->wait->await;
    if (!a->w.list && !a->w.heap_index)
        return;
    mpe_wait_stop(S->e, &a->w);
    if (a->source == LMPE_FD)
        mpe_fd_waiter_gone(S->e, a->on.fd);
}

static void
fire_nobody(mpe_engine *e, mpe_waiter *w, int status)
{
    (void)e, (void)w, (void)status;
}

/* The lists of this process are copies of the parent's, with its waiters; the child has none of
 * its timers. */
void
lmpe_wait_forked(lmpe *S, lmpe_task *t)
{
    if (t->state == LMPE_WAITING) {
        mpe_waiter *w = t->uses_await ? &t->wait->await.w : &t->w;
        w->heap_index = 0;
        mpe_wait_stop(S->e, w);
    }
    if (t->wait)
        t->wait->await.w.fire = fire_nobody; /* what it waits for among others may still fire it */
}

/* ---- the simple wait ---- */

static void
on_simple_fire(mpe_engine *e, mpe_waiter *w, int status)
{
    lmpe_task *t = (lmpe_task *)w; /* its first member */
    (void)e;
    t->timed_out = status == MPE_ETIMEDOUT;
    t->granted = status == MPE_OK;
    t->fired = 1;
    if (t->granted && lmpe_is_traced(t->S))
        lmpe_trace_task(t, MPE_TRACE_WAKE, 0, 0);
    if (!t->in_place)
        lmpe_make_ready(t);
}

int
lmpe_is_heard(const mpe_waitlist *joiners)
{
    for (const mpe_waiter *w = joiners->head; w; w = w->next)
        if (w->fire == on_simple_fire && ((const lmpe_task *)w)->hears)
            return 1;
    return 0;
}

lua_Integer
lmpe_waiter_id(const mpe_waiter *w)
{
    return w->fire == on_simple_fire ? (lua_Integer)((const lmpe_task *)w)->id : -1;
}

/* A wait begins. The main task may have run for long since the loop has read the clock. */
static inline void
note_beginning(lmpe *S, lmpe_task *t)
{
    if (t == S->main_task)
        mpe_loop_look(S->e);
    t->since = lmpe_moment(*S->clock);
}

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
trace_simple(lua_State *L, lmpe *S, lmpe_task *t, const mpe_waitlist *list)
{
    if (!lmpe_is_traced(S))
        return;
    if (list)
        lmpe_trace_list(L, t);
    else
        lmpe_trace_task(t, MPE_TRACE_WAIT, 0, MPE_TRACE_OF_TIME);
}

static void
file_simple(lua_State *L, lmpe *S, lmpe_task *t, mpe_waitlist *list, uint64_t deadline)
{
    memset(&t->w, 0, sizeof t->w);
    t->w.fire = on_simple_fire;
    t->uses_await = t->fired = t->granted = t->timed_out = 0;
    int rc = mpe_wait_list(S->e, &t->w, list, deadline);
    if (rc != MPE_OK)
        lmpe_raise(L, rc, "wait");
}

static int
simple_ended(lua_State *L, lmpe *S, lmpe_task *t, lmpe_finish_fn finish)
{
    if (t->granted)
        return finish(L, S, MPE_OK);
    if (lmpe_is_cancelled(L, S, t))
        return lmpe_raise_cancelled(L, S, t);
    return finish(L, S, MPE_ETIMEDOUT);
}

static int
simple_k(lua_State *L, int status, lua_KContext ctx)
{
    lmpe *S = lmpe_self(L);
    (void)status;
    return simple_ended(L, S, S->current, (lmpe_finish_fn)ctx);
}

/* A kill may arrive in a close handler that is allowed to wait longer. */
static void
simple_in_place(lua_State *L, lmpe *S, lmpe_task *t, mpe_waitlist *list, uint64_t deadline)
{
    t->in_place = 1;
    lmpe_wait_in_place(L, S, t);
    while (!t->granted && !t->timed_out && (t->shielded || !lmpe_is_cancelled(L, S, t))) {
        file_simple(L, S, t, list,
                    t->shielded ? MPE_FOREVER : lmpe_effective_deadline(L, S, t, deadline));
        lmpe_wait_in_place(L, S, t);
    }
}

static int
yield_task(lua_State *L, lmpe *S, lmpe_task *t, lua_KContext ctx, lua_KFunction k)
{
    t->in_place = 0;
    t->state = LMPE_WAITING;
    S->yielded = 1;
    return lua_yieldk(L, 0, ctx, k);
}

int
lmpe_wait(lua_State *L, lmpe *S, mpe_waitlist *list, uint64_t deadline, lmpe_finish_fn finish)
{
    lmpe_task *t = S->current;
    if (lmpe_is_cancelled(L, S, t))
        return lmpe_raise_cancelled(L, S, t);
    if (deadline == MPE_NOW)
        return lmpe_did(L, S, LMPE_LOOKED, finish(L, S, MPE_ETIMEDOUT));
    if (cannot_wait(L, S))
        return lua_error(L);
    note_beginning(S, t);
    t->shielded = 0;
    file_simple(L, S, t, list, lmpe_effective_deadline(L, S, t, deadline));
    trace_simple(L, S, t, list);
    if (lmpe_can_yield(L, S))
        return yield_task(L, S, t, (lua_KContext)finish, simple_k);
    simple_in_place(L, S, t, list, deadline);
    return simple_ended(L, S, t, finish);
}

static int
shielded_k(lua_State *L, int status, lua_KContext ctx)
{
    lmpe *S = lmpe_self(L);
    (void)status;
    S->current->shielded = 0;
    return ((lmpe_finish_fn)ctx)(L, S, MPE_OK);
}

int
lmpe_wait_shielded(lua_State *L, lmpe *S, mpe_waitlist *list, lmpe_finish_fn finish)
{
    lmpe_task *t = S->current;
    if (cannot_wait(L, S))
        return lua_error(L);
    note_beginning(S, t);
    t->shielded = 1;
    file_simple(L, S, t, list, MPE_FOREVER);
    trace_simple(L, S, t, list);
    if (lmpe_can_yield(L, S))
        return yield_task(L, S, t, (lua_KContext)finish, shielded_k);
    simple_in_place(L, S, t, list, MPE_FOREVER);
    return shielded_k(L, LUA_OK, (lua_KContext)finish);
}

void
lmpe_step_aside(lmpe *S)
{
    lmpe_task *t = S->current;
    t->uses_await = t->granted = t->shielded = t->in_place = 0;
    lmpe_make_ready(t);
    S->yielded = 1;
}

int
lmpe_give_way(lua_State *L, lmpe *S, lmpe_finish_fn finish)
{
    lmpe_task *t = S->current;
    if (lmpe_is_cancelled(L, S, t))
        return lmpe_raise_cancelled(L, S, t);
    if (lmpe_can_yield(L, S)) {
        lmpe_step_aside(S);
        return lua_yieldk(L, 0, (lua_KContext)finish, simple_k);
    }
    if (t->state == LMPE_RUNNING && lmpe_go_round(L, S))
        return lmpe_raise_interrupted(L, S);
    t->granted = 0;
    return simple_ended(L, S, t, finish);
}

/* ---- the await ---- */

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
        if (cannot_wait(L, S)) {
            *rc = refuse(L, S, a);
            continue;
        }
        if (!a->has_begun)
            note_beginning(S, t);
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
        return yield_task(L, S, t, ctx, await_k);
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
    if (!a->shielded)
        lmpe_await_check(L, S);
    int rc = a->attempt(S, a), units = LMPE_DID;
    if (rc == MPE_EAGAIN && a->deadline == MPE_NOW) {
        a->ending = LMPE_TIMED_OUT;
        rc = a->attempt(S, a);
        units = LMPE_LOOKED;
    }
    if (go_on(L, S, a, &rc))
        return yield_task(L, S, a->task, (lua_KContext)a->task, await_k);
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

/* ---- taking a task out of its wait ---- */

/* A close handler waits on, in the same list, but for a limited time. */
static void
bound_simple(lua_State *L, lmpe *S, lmpe_task *t)
{
    mpe_waitlist *list = t->w.list;
    uint64_t deadline = lmpe_effective_deadline(L, S, t, t->w.deadline);
    mpe_wait_stop(S->e, &t->w);
    if (mpe_wait_list(S->e, &t->w, list, deadline) != MPE_OK)
        lmpe_make_ready(t);
}

void
lmpe_interrupt_wait(lua_State *L, lmpe *S, lmpe_task *t)
{
    if (t->state != LMPE_WAITING || t->shielded || t->fired)
        return;
    if (!t->uses_await && !t->in_place && lmpe_close_handler_waits(L, t)) {
        bound_simple(L, S, t);
        return;
    }
    lmpe_unfile(S, t);
    if (t->in_place)
        t->fired = 1;
    else
        lmpe_make_ready(t);
}
