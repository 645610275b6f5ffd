/* SPDX-License-Identifier: MIT
 *
 * lshared.h - the room shared: a file, or a few with a header of their own, for each kind of shared
 * object. Each owns the methods of its kind and no state beside the userdata. The rooms above use
 * the kinds through Lua or the engine, so this has only functions of one kind that another uses.
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

/* Files, sockets and pipes in messages, as lcodec.h describes its hooks: ldescriptor.c */
int lmpe_descriptor_pass(lua_State *L, int idx, int once, uint64_t *h);
void lmpe_descriptor_take_back(lua_State *L, size_t n);
int lmpe_descriptor_receive(lua_State *L, uint64_t h);

#endif
