/* SPDX-License-Identifier: MIT
 *
 * lfinalize.h - the first step of every finalizer of the library. Scripts can reach the
 * metatables of shared objects and tasks. They can set one on a table of theirs, which the
 * collector then finalizes, and can call __gc themselves, with any argument, while the object is
 * in use.
 */
#ifndef LFINALIZE_H
#define LFINALIZE_H

#include <lauxlib.h>
#include <lua.h>
#include <stddef.h>

/* Is it the collector that calls this function? */
static inline int
lmpe_is_finalizing(lua_State *L)
{
    return lua_gc(L, LUA_GCISRUNNING) <= 0; /* stopped while a finalizer runs */
}

/* The userdata at 1, when the collector calls and it is one of that size, and of that type unless name
 * is NULL; else NULL, and there is nothing to finalize. */
static inline void *
lmpe_finalized(lua_State *L, const char *name, size_t size)
{
    if (lua_type(L, 1) != LUA_TUSERDATA || lua_rawlen(L, 1) != size || !lmpe_is_finalizing(L))
        return NULL;
    return name ? luaL_testudata(L, 1, name) : lua_touserdata(L, 1);
}

#endif
