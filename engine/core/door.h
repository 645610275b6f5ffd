/* SPDX-License-Identifier: MIT */
/* The door of every public call: is the engine of this thread, and is the object one of its arena
 * and of the right kind?
 *
 * A thread that opens engines has a number, which no other thread of the process, nor of a child,
 * ever has. A child of fork(2) begins without one, so that it owns no engine that it inherits; one
 * that the engine has forked adopts its own.
 *
 * Order of refusals: NULL, EINVAL; thread or fork, EPERM; an object of another arena, ESTALE; of
 * another kind, ETYPE. A call looks at its other required pointers before it comes here.
 */
#ifndef MPE_CORE_DOOR_H
#define MPE_CORE_DOOR_H

#include "core/engine.h"

/* The number of this thread, 0: it has opened no engine. */
extern _Thread_local uint64_t mpe__thread __attribute__((visibility("hidden")));

/* Makes an engine that of the calling thread. */
void mpe__adopt(mpe_engine *e);
/* Was it inherited by fork(2)? */
int mpe__is_inherited(const mpe_engine *e);
/* Why a call is refused. */
MPE__COLD int mpe__refusal(const mpe_engine *e, const mpe_object *o, uint32_t kinds);

/* A call that needs no object. */
static inline int
mpe__is_ours(const mpe_engine *e)
{
    return MPE__LIKELY(e && e->thread == mpe__thread);
}

static inline int
mpe__is_in_arena(const mpe_engine *e, const mpe_object *o)
{
    return (uintptr_t)o - (uintptr_t)e->objects < e->objects_bytes;
}

#define MPE__KIND(name) (1u << MPE_KIND_##name)
#define MPE__ANY_KIND UINT32_MAX

/* A call of an object of one of the kinds. */
static inline int
mpe__admits(const mpe_engine *e, const mpe_object *o, uint32_t kinds)
{
    return MPE__LIKELY(mpe__is_ours(e) && mpe__is_in_arena(e, o) &&
                       kinds >> (atomic_load_explicit(&o->kind, memory_order_relaxed) & 31) & 1);
}

/* Bytes without an address. */
static inline int
mpe__lacks(mpe_bytes b)
{
    return MPE__UNLIKELY(!b.data && b.size > 0);
}

#endif
