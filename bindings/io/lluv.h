/* SPDX-License-Identifier: MIT
 *
 * lluv.h - luv on the engine's loop: shared by its files.
 */
#ifndef LLUV_H
#define LLUV_H

#include "base/lmpe.h"

#include <uv.h>

enum lmpe_luv_mode { LMPE_LUV_DEFAULT, LMPE_LUV_ONCE, LMPE_LUV_NOWAIT, LMPE_LUV_MODES };

/* State of one Lua universe that has luv on the engine's loop. It is in a userdata of the
 * registry. */
struct lmpe_luv {
    mpe_turn_hook hook; /* first: the struct is found by it */
    lmpe *S;
    void (*set_loop)(lua_State *L, uv_loop_t *loop); /* luv's own */
    mpe_waitlist waiting;                            /* tasks in uv.run */
    uint32_t running[LMPE_LUV_MODES];                /* how many are in uv.run, by mode */
    uint32_t stops;                                  /* calls of uv.stop that ended some of them */
    uint32_t stop_wanted;                            /* the next uv.run is to end at once */
    uint32_t under_way;                              /* callbacks in progress outside uv.run, */
    uint32_t in_run;                                 /* and inside uv.run */
    uint32_t ends[2]; /* how often nothing was left for one in uv.run; [1]: and in a callback */
    uint32_t depth;   /* callbacks of libuv's on the C stack */
    uint64_t ended;   /* callbacks so far */
    uint64_t seen;    /* the mark compared at the last end of a turn */
    int nested;       /* the loop was run inside a callback */
    int is_ending;    /* the state is being closed */
};

/* lluv.c: releases the handles whose end was put off while nested. */
void lmpe_luv_unnest(lua_State *L, struct lmpe_luv *u);

/* lluv_run.c: called by the engine after each turn of the loop and before each sleep. */
void lmpe_luv_turned(mpe_engine *e, mpe_turn_hook *hook);
void lmpe_open_luv_run(lua_State *L, lmpe *S);
/* lluv_handle.c: takes over luv's finalizers; the module's functions are on top. */
void lmpe_luv_own_handles(lua_State *L, lmpe *S);
void lmpe_open_luv_handle(lua_State *L, lmpe *S);

#endif
