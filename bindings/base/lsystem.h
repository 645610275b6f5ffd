/* SPDX-License-Identifier: MIT
 *
 * lsystem.h - what belongs to the process and not to a state: the seed of math.random, and the
 * signal mask of a thread.
 */
#ifndef LMPE_SYSTEM_H
#define LMPE_SYSTEM_H

#include <lua.h>

/* Gives math.random a seed that no other process or thread has: lrandom.c. */
void lmpe_seed_random(lua_State *L);
/* Unblocks a signal in this thread: lsystem.c. */
void lmpe_signal_unblock(int number);

#endif
