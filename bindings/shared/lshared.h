/* SPDX-License-Identifier: MIT
 *
 * lshared.h - what methods of one kind do for another.
 */
#ifndef LMPE_SHARED_H
#define LMPE_SHARED_H

#include "base/lobject.h"

/* What the methods of a lock do, for what carries one. Arguments are from index 2 on: llock.c. */
int lmpe_lock_acquire(lua_State *L, lmpe_box *lock);
int lmpe_lock_release(lua_State *L, lmpe_box *lock);
int lmpe_lock_locked(lua_State *L, lmpe_box *lock);
/* Does a get of the queue return at once, with an item or since it is closed? lqueue.c */
int lmpe_queue_is_ready(const lmpe_box *queue);

#endif
