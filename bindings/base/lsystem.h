/* SPDX-License-Identifier: MIT
 *
 * lsystem.h - what belongs to the process and not to a state: the system's reasons with the limits
 * behind them, the seed of math.random, and the signal mask of a thread.
 */
#ifndef LMPE_SYSTEM_H
#define LMPE_SYSTEM_H

#include <lua.h>

/* What the system says of an errno, with the limit that is the cause, if that is known. Ownership: as
 * strerror's. */
const char *lmpe_reason(int number);
/* The same of a process or thread that cannot be started. */
const char *lmpe_start_reason(int number);
/* As luaL_fileresult: true, or nil, "NAME: reason", number. name: NULL for none. */
int lmpe_fileresult(lua_State *L, int ok, const char *name);

/* Gives math.random a seed that no other process or thread has: lrandom.c. */
void lmpe_seed_random(lua_State *L);
/* Unblocks a signal in this thread: lsystem.c. */
void lmpe_signal_unblock(int number);

#endif
