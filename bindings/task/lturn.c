/* SPDX-License-Identifier: MIT
 *
 * lturn.c - turns: how long a task may continue with calls that need not wait. A task's turn
 * begins when it is resumed. Every call that could have waited, and did not have to, takes a
 * unit of it. A call that only queries, or found nothing, takes many, since it will be repeated
 * until something else has run. After UNITS_MAX of them, or TURN_NS, the turn is over, and that
 * call yields: the ready tasks run, and the loop checks its bell, timers and descriptors. The
 * deaths of other processes are noticed then, so a task that never waits notices them, too.
 *
 * A call that does something yields after it, with its results in hand, so that no task runs
 * between a query and the action that follows it. No cancellation is raised there; the next wait
 * raises it. A call that only asks yields before it, so that the answer is up to date.
 *
 * No task yields within a finalizer, which may run anywhere, nor within a callback of the loop.
 */
#include "base/lrelease.h"
#include "task/lturn.h"

#include <string.h>

#define UNITS_MAX 256u
#define LEVELS_MAX 200 /* examined from the innermost: each costs as much as it is deep */
#define TURN_NS (MPE_NS_PER_S / 1000)

int
lmpe_turn_has_ended(lmpe *S)
{
    struct lmpe_turn *turn = &S->turn;
    uint64_t now = mpe_now();
    turn->used += (uint32_t)(LMPE_TURN_STRIDE - turn->left);
    turn->left = LMPE_TURN_STRIDE;
    if (turn->began == 0)
        turn->began = now;
    if (turn->used < UNITS_MAX && now - turn->began < TURN_NS)
        return 0;
    if (S->e)
        mpe_notice_deaths(S->e);
    return 1;
}

/* Is L within a finalizer? The collector is stopped then, so the stack is examined only if it
 * is. */
static int
in_finalizer(lua_State *L)
{
    lua_Debug ar;
    if (lua_gc(L, LUA_GCISRUNNING) == 1)
        return 0;
    for (int level = 0; level < LEVELS_MAX && lmpe_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "n", &ar);
        if (ar.name && strcmp(ar.name, "__gc") == 0)
            return 1;
    }
    return 0;
}

int
lmpe_may_go_round(lua_State *L, lmpe *S)
{
    return S->e && S->current->state == LMPE_RUNNING && S->drive_depth < LMPE_DRIVE_DEPTH / 2 &&
           !in_finalizer(L);
}

/* If it was killed meanwhile, it may never wait again. */
static int
results_k(lua_State *L, int status, lua_KContext n)
{
    lmpe *S = lmpe_self(L);
    (void)status;
    if (S->current->killed)
        lmpe_start_ticking(S);
    return (int)n;
}

int
lmpe_let_others(lua_State *L, lmpe *S, int n)
{
    if (!lmpe_may_go_round(L, S))
        return n;
    if (!lmpe_can_yield(L, S)) {
        lmpe_go_round(L, S);
        return n;
    }
    lmpe_step_aside(S);
    return lua_yieldk(L, 0, n, results_k);
}

/* The others have run: the call continues, unless it is cancelled by now. */
static int
look_k(lua_State *L, int status, lua_KContext look)
{
    lmpe *S = lmpe_self(L);
    (void)status;
    lmpe_await_check(L, S);
    return ((lua_CFunction)look)(L);
}

int
lmpe_look_later(lua_State *L, lmpe *S, lua_CFunction look)
{
    if (!lmpe_may_go_round(L, S) || lmpe_is_cancelled(L, S, S->current))
        return look(L);
    if (!lmpe_can_yield(L, S)) {
        lmpe_go_round(L, S);
        return look_k(L, LUA_OK, (lua_KContext)look);
    }
    lmpe_step_aside(S);
    return lua_yieldk(L, 0, (lua_KContext)look, look_k);
}

/* ---- for the Lua side ---- */

/* did(...): an operation was done without waiting, or not done when the first value is nil; may
 * yield */
static int
did(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    return lmpe_did(L, S, lua_isnil(L, 1) ? LMPE_LOOKED : LMPE_DID, 0);
}

static int
nothing(lua_State *L)
{
    (void)L;
    return 0;
}

/* look([self, metatable, call]): the caller is about to query something; may yield. Raises for an
 * object of another type. */
static int
look(lua_State *L)
{
    if (lua_gettop(L) > 0)
        lmpe_check_type_of(L, 1);
    return lmpe_look(L, lmpe_self(L), nothing);
}

/* let_others(): yields, as check_cancelled requested */
static int
let_others(lua_State *L)
{
    return lmpe_let_others(L, lmpe_self(L), 0);
}

/* rest(): after a piece of long work: the other tasks run, and timers and descriptors are served */
static int
rest(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    mpe_loop_look_next(S->e);
    return lmpe_let_others(L, S, 0);
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {
        {"did", did}, {"look", look}, {"let_others", let_others}, {"rest", rest}, {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
    lmpe_new_turn(S);
}

const lmpe_module lmpe_turn_module = {.open = on_open};
