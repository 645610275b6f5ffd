/* SPDX-License-Identifier: MIT
 *
 * lwait.c - the simple wait of a task, in a list of this process or for a time, and what it has in
 * common with the await of lawait.c: where a task can wait, how it leaves a wait.
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

/* ---- where a task can wait ---- */

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

/* Is it a coroutine that neither a task nor the script's coroutine.resume runs? */
static int
is_foreign(const lua_State *L, const lmpe *S)
{
    if (S->links)
        return L != S->links->inner;
    return L != (S->current->co ? S->current->co : S->driver);
}

int
lmpe_cannot_wait(lua_State *L, lmpe *S)
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

void
lmpe_note_wait(lmpe *S, lmpe_task *t)
{
    if (t == S->main_task)
        mpe_loop_look(S->e);
    t->since = lmpe_moment(*S->clock);
}

int
lmpe_yield_task(lua_State *L, lmpe *S, lmpe_task *t, lua_KContext ctx, lua_KFunction k)
{
    t->in_place = 0;
    t->state = LMPE_WAITING;
    S->yielded = 1;
    return lua_yieldk(L, 0, ctx, k);
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

int
lmpe_wait(lua_State *L, lmpe *S, mpe_waitlist *list, uint64_t deadline, lmpe_finish_fn finish)
{
    lmpe_task *t = S->current;
    if (lmpe_is_cancelled(L, S, t))
        return lmpe_raise_cancelled(L, S, t);
    if (deadline == MPE_NOW)
        return lmpe_did(L, S, LMPE_LOOKED, finish(L, S, MPE_ETIMEDOUT));
    if (lmpe_cannot_wait(L, S))
        return lua_error(L);
    lmpe_note_wait(S, t);
    t->shielded = 0;
    file_simple(L, S, t, list, lmpe_effective_deadline(L, S, t, deadline));
    trace_simple(L, S, t, list);
    if (lmpe_can_yield(L, S))
        return lmpe_yield_task(L, S, t, (lua_KContext)finish, simple_k);
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
    if (lmpe_cannot_wait(L, S))
        return lua_error(L);
    lmpe_note_wait(S, t);
    t->shielded = 1;
    file_simple(L, S, t, list, MPE_FOREVER);
    trace_simple(L, S, t, list);
    if (lmpe_can_yield(L, S))
        return lmpe_yield_task(L, S, t, (lua_KContext)finish, shielded_k);
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

/* ---- out of a wait ---- */

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
