/* SPDX-License-Identifier: MIT
 *
 * lcancel.c - cancellation of tasks: kills, and scopes with a deadline or a flag, which are
 * kills of a part of a task's stack (lscope.c).
 *
 * A cancellation is raised as an error at the current wait and at every later one. While a close
 * handler runs, waits work for CLOSE_NS more. A protected call may catch the error, and the code
 * after it runs: Lua programs clean up there. But code that has caught it MAX_CAUGHT times, or
 * has run for MAX_TICKS since the first catch, is ended: from then on a hook raises it at each
 * instruction (lhook.c), which no protected call outlives. The ticker (lticker.c) finds code
 * that does not wait at all, and raises it there at once. What has waited runs for a whole tick
 * first: it may have been given something, and keeps it by its next statements.
 */
#include "task/lcancel.h"
#include "task/lturn.h"

#define CLOSE_NS (2 * MPE_NS_PER_S)
#define MAX_CAUGHT 100
#define MAX_TICKS 50 /* of processor time: half a second */

/* ---- is it cancelled? ---- */

/* A scope counts while the coroutine that is in it is active: a generator of the script may have
 * yielded out of one. */
static int
is_under_way(lua_State *L, lmpe *S, const lmpe_scope *s)
{
    lmpe_link *l = S->links;
    for (; L; L = lmpe_outwards(S, L, &l))
        if (L == s->L)
            return 1;
    return 0;
}

static lmpe_scope *
expired_scope(lua_State *L, lmpe *S, lmpe_task *t, uint64_t now)
{
    lmpe_scope *found = NULL;
    for (lmpe_scope *s = t->wait->scopes; s; s = s->outer)
        if ((s->cancelled || s->deadline <= now) && is_under_way(L, S, s))
            found = s; /* the outermost one wins */
    return found;
}

int
lmpe_is_over(lua_State *L, lmpe *S, lmpe_task *t)
{
    return t->killed || (t->wait && t->wait->scopes && expired_scope(L, S, t, mpe_now()));
}

int
lmpe_is_cancelled(lua_State *L, lmpe *S, lmpe_task *t)
{
    if (t->leaving)
        return 1;
    if (!lmpe_is_over(L, S, t))
        return 0;
    if (!lmpe_in_close_handler(L, S))
        return 1;
    lmpe_task_wait *r = lmpe_wait_of(t);
    if (!t->closing) {
        t->closing = 1;
        r->close_deadline = mpe_now() + CLOSE_NS;
    }
    return mpe_now() >= r->close_deadline;
}

uint64_t
lmpe_effective_deadline(lua_State *L, lmpe *S, lmpe_task *t, uint64_t deadline)
{
    if (!t->wait)
        return deadline;
    if (t->closing)
        return deadline < t->wait->close_deadline ? deadline : t->wait->close_deadline;
    for (lmpe_scope *s = t->wait->scopes; s; s = s->outer)
        if (s->deadline < deadline && is_under_way(L, S, s))
            deadline = s->deadline;
    return deadline;
}

int
lmpe_close_handler_waits(lua_State *L, lmpe_task *t)
{
    lua_State *co = t->co;
    int found = t->closing;
    for (; co && !found; co = lmpe_resumed_by(L, co))
        found = lmpe_has_close_handler(co);
    if (found && !t->closing) {
        t->closing = 1;
        lmpe_wait_of(t)->close_deadline = mpe_now() + CLOSE_NS;
    }
    return found;
}

/* ---- raising it ---- */

/* The record of the cancellation that is raised next; NULL: never raised. */
static lmpe_raised *
raised_of(lua_State *L, lmpe *S, lmpe_task *t)
{
    if (t->killed)
        return t->wait ? &t->wait->kill : NULL;
    lmpe_scope *s = t->wait ? expired_scope(L, S, t, mpe_now()) : NULL;
    return s ? &s->raised : NULL;
}

static int
is_at_end(const lmpe_raised *r)
{
    return r && (r->times > MAX_CAUGHT || r->ticks >= MAX_TICKS);
}

int
lmpe_count_tick(lua_State *L, lmpe *S, lmpe_task *t, int whole)
{
    lmpe_raised *r = raised_of(L, S, t);
    if (r && r->times > 0 && r->ticks < MAX_TICKS)
        r->ticks++;
    return is_at_end(r) || (whole && (!r || r->times == 0));
}

static void
push_cancellation(lua_State *L, lmpe *S, lmpe_task *t)
{
    lmpe_scope *s = t->killed ? NULL : expired_scope(L, S, t, mpe_now());
    if (s) {
        lmpe_push_token(L, s);
        return;
    }
    lmpe_push_task(L, t);
    lmpe_push_kill(L, -1);
}

int
lmpe_raise_cancelled(lua_State *L, lmpe *S, lmpe_task *t)
{
    luaL_checkstack(L, 8, NULL);
    if (t->leaving) {
        lmpe_push_failure(L, t);
        return lua_error(L);
    }
    lmpe_wait_of(t);
    lmpe_raised *r = raised_of(L, S, t);
    if (r && r->times <= MAX_CAUGHT)
        r->times++;
    lmpe_start_ticking(S);
    if (is_at_end(r))
        lmpe_hook(S, 1);
    push_cancellation(L, S, t);
    return lua_error(L);
}

/* ---- in code that runs ---- */

int
lmpe_cancel_wants(lua_State *L, lmpe *S)
{
    lmpe_task *t = S->current;
    if (t->state != LMPE_RUNNING || !lmpe_is_over(L, S, t))
        S->ticker->overdue = 0;
    else if (is_at_end(raised_of(L, S, t)))
        return 1;
    return S->ticker->overdue && S->ticker->switches == S->switches;
}

void
lmpe_cancel_act(lua_State *L, lmpe *S)
{
    if (!lmpe_cancel_wants(L, S))
        return;
    S->ticker->overdue = 0;
    if (lmpe_is_cancelled(L, S, S->current))
        lmpe_raise_cancelled(L, S, S->current);
}

/* check_cancelled([self, metatable, call]) -> whether the caller must yield, by let_others(), after its
 * operation; the number of the running task. Raises in a task that is cancelled, and for an object of
 * another type. */
static int
check_cancelled(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    if (lua_gettop(L) > 0)
        lmpe_check_type_of(L, 1);
    if (S->current->killed || S->current->wait)
        lmpe_await_check(L, S);
    lua_pushboolean(L, lmpe_takes(S, LMPE_DID));
    lua_pushinteger(L, S->current->id);
    return 2;
}

void
lmpe_open_cancel(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"check_cancelled", check_cancelled}, {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
    lmpe_open_ticker(L, S);
    lmpe_open_scope(L, S);
    lmpe_open_traceback(L, S);
}
