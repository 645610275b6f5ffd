/* SPDX-License-Identifier: MIT
 *
 * lhook.c - interrupts running Lua code. One hook serves all that may need to: a signal
 * (lsignal.c), a pool that stops an item (lpool_worker.c), the cancellation of a task that does
 * not wait and the watchdog (lcancel.c). Each says whether it wants to interrupt. It is asked at
 * the next instruction of the script's own code, never inside Lua code of the library, which may
 * be in the middle of a change. When none of them wants to any more, the script's own hook,
 * which was saved, is restored.
 *
 * lmpe_hook may be called by a signal handler. Such handlers block all other signals, so no two
 * of them change the table of hooks at a time. A handler may run while Lua counts for the script's
 * own hook, and Lua then stores its old count over the new one. So a handler also sets the hook for
 * lines, and the first call of the hook, which no longer races with Lua, sets the count again.
 */
#include "base/lmodules.h"
#include "task/lturn.h"
#include "task/lcancel.h"

/* The entry of a coroutine, or (NULL) a free one. */
static struct lmpe_own_hook *
find(struct lmpe_ticker *k, const lua_State *L)
{
    for (int i = 0; i < LMPE_HOOKS_MAX; i++)
        if (k->hooks[i].L == L)
            return &k->hooks[i];
    return NULL;
}

/* The entry is freed first: a signal in between finds it free. */
static void
unhook(struct lmpe_ticker *k, lua_State *L)
{
    struct lmpe_own_hook none = {NULL, NULL, 0, 0}, *h = find(k, L);
    struct lmpe_own_hook own = h ? *h : none;
    if (h)
        h->L = NULL;
    lua_sethook(L, own.f, own.mask, own.count);
}

static int
is_stopped(const lmpe *S)
{
    return S->stopped && S->current == S->main_task && S->current->state == LMPE_RUNNING;
}

static void
on_instruction(lua_State *L, lua_Debug *ar)
{
    lmpe *S = lmpe_of(L);
    if (!S) { /* closed */
        lua_sethook(L, NULL, 0, 0);
        return;
    }
    if (lua_gethookmask(L) & LUA_MASKLINE) {
        int count = ar->event == LUA_HOOKLINE ? lua_gethookcount(L) : 1;
        lua_sethook(L, on_instruction, LUA_MASKCOUNT, count);
        return;
    }
    int is_looked_at = lmpe_is_looked_at(S);
    if (lua_gethookcount(L) >= LMPE_TICK_INSTRUCTIONS)
        S->pauses = 0;
    if (is_looked_at)
        lmpe_tick(S);
    lmpe_report_overdue(L, S);
    if (!S->signals->wants(S) && !is_stopped(S) && !lmpe_cancel_wants(L, S)) {
        if (is_looked_at || S->pauses)
            lua_sethook(L, on_instruction, LUA_MASKCOUNT, LMPE_TICK_INSTRUCTIONS);
        else
            unhook(S->ticker, L);
        return;
    }
    lua_getinfo(L, "S", ar);
    if (lmpe_is_library(ar->source))
        return;
    S->signals->act(L, S);
    if (is_stopped(S))
        lmpe_raise_interrupted(L, S);
    lmpe_cancel_act(L, S);
}

static void
hook(struct lmpe_ticker *k, lua_State *L, int count)
{
    lua_Hook f = lua_gethook(L);
    if (f == on_instruction) {
        int soonest = lua_gethookcount(L) < count ? lua_gethookcount(L) : count;
        lua_sethook(L, f, LUA_MASKCOUNT | LUA_MASKLINE, soonest);
        return;
    }
    struct lmpe_own_hook *h = find(k, L); /* of one that had this address before */
    if (!h && f)
        h = find(k, NULL);
    if (h)
        *h = (struct lmpe_own_hook){f ? L : NULL, f, lua_gethookmask(L), lua_gethookcount(L)};
    lua_sethook(L, on_instruction, LUA_MASKCOUNT | LUA_MASKLINE, count);
}

void
lmpe_hook(lmpe *S, int instructions)
{
    lmpe_link *l = S->links;
    if (!S->ticker)
        return;
    S->current->hooked = 1;
    for (lua_State *L = lmpe_running(S); L; L = lmpe_outwards(S, L, &l))
        hook(S->ticker, L, instructions);
}

void
lmpe_unhook(lmpe_task *t, lua_State *co)
{
    t->hooked = 0;
    if (lua_gethook(co) == on_instruction)
        unhook(t->S->ticker, co);
}
