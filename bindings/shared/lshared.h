/* SPDX-License-Identifier: MIT
 *
 * lshared.h - functions of one kind's methods that another kind uses.
 */
#ifndef LMPE_SHARED_H
#define LMPE_SHARED_H

#include "base/lobject.h"

/* The methods of a lock, for objects that carry one. Arguments are from index 2 on: llock.c. */
int lmpe_lock_acquire(lua_State *L, lmpe_box *lock);
int lmpe_lock_release(lua_State *L, lmpe_box *lock);
int lmpe_lock_locked(lua_State *L, lmpe_box *lock);
/* Does a get of the queue return at once, with an item or because it is closed? lqueue.c */
int lmpe_queue_is_ready(const lmpe_box *queue);

#endif
