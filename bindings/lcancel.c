/* SPDX-License-Identifier: MIT
 *
 * lcancel.c - cancellation of tasks: kills, and scopes with a deadline or a flag, which are kills of
 * a stretch of a task's stack (lscope.c).
 *
 * It is raised as an error at the wait under way and at every later one. While a close handler
 * runs, waits work for CLOSE_NS more. If a protected call swallows the error, a hook raises it
 * again as soon as that call is left, so each level of pcall can swallow it once and a loop around
 * one cannot live on. Code that does not wait at all is found by the ticker (lticker.c).
 */
#include "lcancel.h"
#include "lturn.h"

#define CLOSE_NS (2 * MPE_NS_PER_S)

/* ---- is it cancelled? ---- */

/* A scope counts while the coroutine that is in it is under way: a generator of the script's may
 * have yielded out of one. */
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
    for (lmpe_scope *s = t->rare->scopes; s; s = s->outer)
        if ((s->cancelled || s->deadline <= now) && is_under_way(L, S, s))
            found = s; /* the outermost one wins */
    return found;
}

int
lmpe_is_over(lua_State *L, lmpe *S, lmpe_task *t)
{
    return t->killed || (t->rare && t->rare->scopes && expired_scope(L, S, t, mpe_now()));
}

int
lmpe_is_cancelled(lua_State *L, lmpe *S, lmpe_task *t)
{
    if (!lmpe_is_over(L, S, t))
        return 0;
    if (!lmpe_in_close_handler(L, S))
        return 1;
    lmpe_rare *r = lmpe_rare_of(t);
    if (!t->closing) {
        t->closing = 1;
        r->close_deadline = mpe_now() + CLOSE_NS;
    }
    return mpe_now() >= r->close_deadline;
}

uint64_t
lmpe_effective_deadline(lua_State *L, lmpe *S, lmpe_task *t, uint64_t deadline)
{
    if (!t->rare)
        return deadline;
    if (t->closing)
        return deadline < t->rare->close_deadline ? deadline : t->rare->close_deadline;
    for (lmpe_scope *s = t->rare->scopes; s; s = s->outer)
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
        lmpe_rare_of(t)->close_deadline = mpe_now() + CLOSE_NS;
    }
    return found;
}

/* ---- raising it ---- */

static void hound(lua_State *L, lua_Debug *ar);

/* The entry of a coroutine, or (NULL) a free one. */
static struct lmpe_hook *
find_hook(struct lmpe_ticker *k, const lua_State *L)
{
    for (int i = 0; i < LMPE_HOOKS_MAX; i++)
        if (k->hooks[i].L == L)
            return &k->hooks[i];
    return NULL;
}

static void
hook(struct lmpe_ticker *k, lua_State *L)
{
    lua_Hook f = lua_gethook(L);
    if (f == hound)
        return;
    struct lmpe_hook *h = find_hook(k, L); /* of one that had this address before */
    if (!h && f)
        h = find_hook(k, NULL);
    if (h)
        *h = (struct lmpe_hook){f ? L : NULL, f, lua_gethookmask(L), lua_gethookcount(L)};
    lua_sethook(L, hound, LUA_MASKCOUNT, 1);
}

/* The script's own hook comes back. The entry is given up first: a tick in between leaves it so. */
static void
unhook(struct lmpe_ticker *k, lua_State *L)
{
    struct lmpe_hook none = {NULL, NULL, 0, 0}, *h = find_hook(k, L);
    struct lmpe_hook own = h ? *h : none;
    if (h)
        h->L = NULL;
    lua_sethook(L, own.f, own.mask, own.count);
}

void
lmpe_set_hooks(lua_State *L, lmpe *S, lmpe_task *t)
{
    lmpe_link *l = S->links;
    t->hooked = 1;
    for (; L; L = lmpe_outwards(S, L, &l))
        hook(S->ticker, L);
}

void
lmpe_unhook(lmpe_task *t, lua_State *co)
{
    t->hooked = 0;
    if (lua_gethook(co) == hound)
        unhook(t->S->ticker, co);
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
    int depth = lmpe_protected_depth(L, S);
    luaL_checkstack(L, 8, NULL);
    lmpe_rare_of(t)->raised_depth = depth;
    if (depth > 0) { /* who catches it is met by it again outside */
        lmpe_set_hooks(L, S, t);
        lmpe_start_ticking(S);
    }
    push_cancellation(L, S, t);
    return lua_error(L);
}

/* The hook of a task that is cancelled and runs on. */
static void
hound(lua_State *L, lua_Debug *ar)
{
    lmpe *S = lmpe_of(L);
    struct lmpe_ticker *k = S->ticker;
    lmpe_task *t = S->current;
    if (!lmpe_is_over(L, S, t)) {
        unhook(k, L);
        k->hogs = 0;
        lmpe_report_hog(L, S);
        return;
    }
    lua_getinfo(L, "S", ar);
    if (lmpe_is_library(ar->source) || !lmpe_is_cancelled(L, S, t))
        return;
    int depth = lmpe_protected_depth(L, S);
    if (depth >= lmpe_rare_of(t)->raised_depth && !k->hogs)
        return;
    k->hogs = 0;
    lmpe_raise_cancelled(L, S, t);
}

/* check_cancelled() -> true when the caller is to give way, by let_others(), once it has done what it
 * does; raises in a task that is cancelled */
static int
check_cancelled(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    if (S->current->killed || S->current->rare)
        lmpe_await_check(L, S);
    if (!lmpe_takes(S, LMPE_DID))
        return 0;
    lua_pushboolean(L, 1);
    return 1;
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
