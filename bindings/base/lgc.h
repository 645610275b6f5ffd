/* SPDX-License-Identifier: MIT
 *
 * lgc.h - what differs between releases of Lua in lua_gc. LUA_GCSTEP counts in KiB as an int in
 * 5.4, in bytes as a size_t in 5.5, where none are given back.
 */
#ifndef LGC_H
#define LGC_H

#include <lua.h>
#include <stddef.h>

#if LUA_VERSION_NUM >= 505
#define LMPE_GC_STEP(kib) ((size_t)(kib) << 10)
#define LMPE_GC_GIVES_BACK 0
#else
#define LMPE_GC_STEP(kib) ((int)(kib))
#define LMPE_GC_GIVES_BACK 1
#endif

/* As if so many KiB had been allocated; 0: one step of the collector. */
static inline void
lmpe_gc_step(lua_State *L, unsigned kib)
{
    lua_gc(L, LUA_GCSTEP, LMPE_GC_STEP(kib));
}

/* The collector waits until so many KiB more than otherwise are allocated, where Lua can. */
static inline void
lmpe_gc_put_off(lua_State *L, int kib)
{
    if (LMPE_GC_GIVES_BACK)
        lua_gc(L, LUA_GCSTEP, LMPE_GC_STEP(-kib));
}

#endif
