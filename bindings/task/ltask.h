/* SPDX-License-Identifier: MIT
 *
 * ltask.h - what the files about tasks share: their tables in the registry, and their parts.
 */
#ifndef LTASK_H
#define LTASK_H

#include "base/lmpe.h"

/* ---- ltask.c ---- */

/* Pushes the table of the tasks that have not ended: place -> task, or the next free place. */
void lmpe_push_anchors(lua_State *L);
/* Keeps the task on top of the stack alive until lmpe_drop_anchor. */
void lmpe_anchor(lua_State *L, lmpe *S, lmpe_task *t);
void lmpe_drop_anchor(lua_State *L, lmpe *S, lmpe_task *t);
/* What the Lua side keeps with the task at an index: a table; or the traceback of its error alone. */
void lmpe_push_extra(lua_State *L, int task);
/* Takes the value from the top. */
void lmpe_set_extra(lua_State *L, int task);
void lmpe_free_rare(lmpe *S, lmpe_task *t);
/* Pushes a coroutine that is ready for a function. */
lua_State *lmpe_take_thread(lua_State *L, lmpe *S);
/* The coroutine of an ended task is on top of the stack: keeps or forgets it. */
void lmpe_give_thread(lua_State *L, lmpe *S, lmpe_task *t, lua_State *co);

/* ---- ltask_run.c, ltask_methods.c, ltask_report.c, ltask_joinall.c ---- */

/* The core module and the metatable of tasks are on top. */
void lmpe_open_spawn(lua_State *L, lmpe *S);
/* Pushes what runs a callback, a function and its arguments, in a task of its own that begins at once. */
void lmpe_push_run_callback(lua_State *L);
/* The core module is on top. */
void lmpe_open_methods(lua_State *L, lmpe *S);
void lmpe_open_report(lua_State *L, lmpe *S);
/* joinall(tasks [, timeout]) -> those that have ended, in the order of their ends */
int lmpe_joinall(lua_State *L);

#endif
