/* SPDX-License-Identifier: MIT
 *
 * lturn.h - turns: the cost of calls that need not wait. See lturn.c.
 */
#ifndef LTURN_H
#define LTURN_H

#include "task/ltask.h"

#define LMPE_TURN_STRIDE 32 /* units between two looks at the clock */

/* The task that runs from here on begins its turn. */
static inline void
lmpe_new_turn(lmpe *S)
{
    S->turn = (struct lmpe_turn){LMPE_TURN_STRIDE, 0, 0};
}

/* Units that a call takes of its task's turn. */
#define LMPE_DID 1     /* it did its work at once */
#define LMPE_LOOKED 16 /* it only queried, or found nothing */

/* Is the turn of the current task over? */
int lmpe_turn_has_ended(lmpe *S);
static inline int
lmpe_takes(lmpe *S, int units)
{
    S->turn.left -= units;
    return __builtin_expect(S->turn.left <= 0, 0) && lmpe_turn_has_ended(S);
}

/* Lets the others run; then the call returns its n results, which are on top. */
int lmpe_let_others(lua_State *L, lmpe *S, int n);
/* The end of a call that did not have to wait: the value of its C function, instead of n. */
static inline int
lmpe_did(lua_State *L, lmpe *S, int units, int n)
{
    return lmpe_takes(S, units) ? lmpe_let_others(L, S, n) : n;
}

/* Lets the others run; then the call returns the results of look. */
int lmpe_look_later(lua_State *L, lmpe *S, lua_CFunction look);
/* A call that only asks: the value of its C function, instead of look(L). */
static inline int
lmpe_look(lua_State *L, lmpe *S, lua_CFunction look)
{
    return lmpe_takes(S, LMPE_LOOKED) ? lmpe_look_later(L, S, look) : look(L);
}

/* May the current task yield here? */
int lmpe_may_go_round(lua_State *L, lmpe *S);

/* ---- lwait.c ---- */

#define LMPE_DRIVE_DEPTH 60 /* nested in-place waits; each takes C stack */

/* Can the whole chain from this coroutine to the task's own yield? */
int lmpe_can_yield(lua_State *L, lmpe *S);
/* ldrive.c: runs the loop once, in place. 1: the current task was interrupted, which its next
 * wait raises. */
int lmpe_go_round(lua_State *L, lmpe *S);
/* Raises that. */
int lmpe_raise_interrupted(lua_State *L, lmpe *S);
/* The current task goes to the end of the run queue; its caller yields. */
void lmpe_step_aside(lmpe *S);

#endif
