/* SPDX-License-Identifier: MIT
 *
 * lrelease.h - what differs between the releases of Lua that a build may be for. A build is for
 * one release, that of its headers.
 */
#ifndef LRELEASE_H
#define LRELEASE_H

#include <lua.h>
#include <stddef.h>

/* 50406 for 5.4.6. LUA_VERSION_RELEASE_NUM is 50400 before 5.4.4. No constant of the preprocessor. */
#define LMPE_LUA_RELEASE (LUA_VERSION_NUM * 100 + (LUA_VERSION_RELEASE[0] - '0'))

/* What lua_resume counts C calls from, for a coroutine that counts its own only: with no thread, 5.4.0
 * and 5.4.1 leave it a tenth of the C stack, as to a finalizer; the main thread has nearly all. */
static inline lua_State *
lmpe_count_calls_from(lua_State *L)
{
    if (LMPE_LUA_RELEASE > 50401)
        return NULL;
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    lua_State *main = lua_tothread(L, -1);
    lua_pop(L, 1);
    return main;
}

/* Before 5.4.3 an error that unwinds a coroutine which has yielded calls the close handlers on top of
 * the function that raised it, and over its values: what Lua knows of that function and of those
 * around it is then not to be looked at. */
#define LMPE_UNWINDS_IN_PLACE (LMPE_LUA_RELEASE < 50403)

/* lframes.c: is the stack, from the function that runs to the one of ar, NULL: the outermost, as calls make
 * it? That one was called by a function that is still whole, then. */
int lmpe_is_whole(lua_State *L, const lua_Debug *ar);
/* As luaL_traceback, of L itself and without a message, as far as the stack is whole. */
void lmpe_push_traceback_from(lua_State *L, int level);

/* As lua_getstack, and 0 where the stack is not whole. */
static inline int
lmpe_getstack(lua_State *L, int level, lua_Debug *ar)
{
    return lua_getstack(L, level, ar) && (!LMPE_UNWINDS_IN_PLACE || lmpe_is_whole(L, ar));
}

/* In 5.4.5 alone it has the thread that counts C calls as a second argument. */
#if LUA_VERSION_RELEASE_NUM == 50405
#define lmpe_resetthread(co) lua_resetthread(co, NULL)
#else
#define lmpe_resetthread(co) lua_resetthread(co)
#endif

/* LUA_GCSTEP counts in KiB as an int in 5.4, in bytes as a size_t in 5.5, where none are given back. */

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
