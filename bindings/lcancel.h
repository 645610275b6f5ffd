/* SPDX-License-Identifier: MIT
 *
 * lcancel.h - what the files about cancellation share.
 */
#ifndef LCANCEL_H
#define LCANCEL_H

#include "lmpe.h"

#include <time.h>

/* ---- lstacks.c: the running task, seen from L, the coroutine that runs ---- */

/* The coroutine around l's, on the way from L to the task's own; NULL at its end. */
lua_State *lmpe_outwards(lmpe *S, lua_State *L, lmpe_link **l);
/* Is some function on this stack a close handler? */
int lmpe_has_close_handler(lua_State *L);
int lmpe_in_close_handler(lua_State *L, lmpe *S);
/* How many calls would swallow an error. */
int lmpe_protected_depth(lua_State *L, lmpe *S);

/* ---- lcancel.c ---- */

/* Is it killed, or in a scope that is cancelled or past its deadline? */
int lmpe_is_over(lua_State *L, lmpe *S, lmpe_task *t);
/* Sets the hook that finds a task that is cancelled and runs on, on all coroutines from L outwards.
 * May be called by a signal handler. */
void lmpe_set_hooks(lua_State *L, lmpe *S, lmpe_task *t);

/* ---- lscope.c ---- */

/* Pushes what a scope that was entered raises. */
void lmpe_push_token(lua_State *L, const lmpe_scope *s);

/* ---- lticker.c ---- */

/* A hook of the script's that ours stands in for. */
struct lmpe_hook {
    lua_State *L;
    lua_Hook f;
    int mask, count;
};

#define LMPE_HOOKS_MAX 64 /* coroutines with both at a time; beyond, the script's is lost */

struct lmpe_ticker {
    timer_t timer;
    int made, ticking;
    int idle_ticks;
    int hogs;           /* the hook that is set may raise anywhere */
    int report;         /* and shall tell the watchdog's story */
    uint32_t deadlines; /* scopes with one */
    uint32_t switches;  /* as of the last tick */
    uint64_t since;     /* when the run began that has lasted since then */
    uint64_t watch_ns;  /* 0: no watchdog */
    int reported;
    lua_CFunction pcall, xpcall;
    struct lmpe_hook hooks[LMPE_HOOKS_MAX];
};

void lmpe_start_ticking(lmpe *S);
/* Tells the watchdog's story, if it is due. */
void lmpe_report_hog(lua_State *L, lmpe *S);

/* Each adds its functions to the core module on top of the stack. */
void lmpe_open_ticker(lua_State *L, lmpe *S);
void lmpe_open_scope(lua_State *L, lmpe *S);
void lmpe_open_traceback(lua_State *L, lmpe *S);

#endif
