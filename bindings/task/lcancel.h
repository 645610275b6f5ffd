/* SPDX-License-Identifier: MIT
 *
 * lcancel.h - shared by the files about cancellation.
 */
#ifndef LCANCEL_H
#define LCANCEL_H

#include "task/ltask_int.h"

#include <time.h>

/* ---- lstacks.c: the running task, seen from L, the coroutine that runs ---- */

/* The coroutine outside l's, on the way from L to the task's own; NULL at its end. */
lua_State *lmpe_outwards(lmpe *S, lua_State *L, lmpe_link **l);
/* Is some function on this stack a close handler? */
int lmpe_has_close_handler(lua_State *L);
int lmpe_in_close_handler(lua_State *L, lmpe *S);

/* ---- lcancel.c ---- */

/* The running task is cancelled, and a tick has come: must the error be raised at once? `whole`: the task has run since
 * the tick before, without a wait. */
int lmpe_count_tick(lua_State *L, lmpe *S, lmpe_task *t, int whole);
/* Must an error be raised in the running code? Then lmpe_cancel_act does so, unless close
 * handlers run. */
int lmpe_cancel_wants(lua_State *L, lmpe *S);
void lmpe_cancel_act(lua_State *L, lmpe *S);

/* ---- lcancel.c, lhook.c, ltraceback.c: what tasks need of it ---- */

/* The deadline of a wait, or of what cancels it. */
uint64_t lmpe_effective_deadline(lua_State *L, lmpe *S, lmpe_task *t, uint64_t deadline);
/* Does a suspended task wait in a close handler? Its time is bounded from then on. */
int lmpe_close_handler_waits(lua_State *L, lmpe_task *t);
/* Takes the hook of a task off its coroutine. */
void lmpe_unhook(lmpe_task *t, lua_State *co);
/* Message handler: keeps the traceback of an error for its report. */
int lmpe_note_traceback(lua_State *L);
/* Pushes the traceback kept for the error at idx, or nil. */
void lmpe_push_traceback(lua_State *L, int idx);
void lmpe_cancel_forked(lmpe *S);
/* The scopes of a task that has ended. */
void lmpe_forget_scopes(lua_State *L, lmpe_task *t);
/* The state is being closed: frees what tasks own. */
void lmpe_tasks_close(lua_State *L, lmpe *S);
/* Pushes the error object that the task at idx is killed with. */
void lmpe_push_kill(lua_State *L, int idx);

/* ---- lscope.c ---- */

/* Pushes the error that an entered scope raises. */
void lmpe_push_token(lua_State *L, const lmpe_scope *s);

/* A task that has not started ends at the deadline with the error on top of the stack, popped. */
void lmpe_bound_task(lua_State *L, lmpe_task *t, uint64_t deadline);

/* ---- lticker.c ---- */

/* lhook.c: a hook of the script that ours replaces for a time. */
struct lmpe_own_hook {
    lua_State *L;
    lua_Hook f;
    int mask, count;
};

#define LMPE_HOOKS_MAX 64 /* coroutines with both at a time; beyond, the script's is lost */

struct lmpe_ticker {
    timer_t timer;
    enum { LMPE_NO_TIMER, LMPE_OWN_TIMER, LMPE_PROFILE_TIMER } made;
    int ticking;
    int idle_ticks;
    int overdue;        /* the running task is cancelled, and the error is raised where it runs */
    int report;         /* the watchdog's report is due */
    uint32_t deadlines; /* scopes with one */
    uint32_t switches;  /* as of the last tick */
    uint64_t looked;    /* in a host: the time of the last tick */
    uint64_t since;     /* start of the current run */
    uint64_t watch_ns;  /* 0: no watchdog */
    int reported;
    struct lmpe_own_hook hooks[LMPE_HOOKS_MAX];
};

#define LMPE_TICK_INSTRUCTIONS 10000 /* in a host, which has no signal for it */

/* In a host: a look after so many instructions at what runs too long. */
void lmpe_tick(lmpe *S);
/* In a host: must the code of the current task be looked at? */
static inline int
lmpe_is_looked_at(const lmpe *S)
{
    return !S->is_program && (lmpe_may_be_cancelled(S->current) || S->ticker->watch_ns);
}

/* Prints the watchdog's report, if it is due. */
void lmpe_report_overdue(lua_State *L, lmpe *S);

/* Each adds its functions to the core module on top of the stack. */
void lmpe_open_cancel(lua_State *L, lmpe *S);
void lmpe_open_ticker(lua_State *L, lmpe *S);
void lmpe_open_scope(lua_State *L, lmpe *S);
void lmpe_open_traceback(lua_State *L, lmpe *S);

#endif
