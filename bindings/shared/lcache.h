/* SPDX-License-Identifier: MIT
 *
 * lcache.h - shared by the files of caches: lcache.c has the type and single keys, lcache_fetch.c
 * the
 * computations that others wait for, which mpengine/cache.lua runs.
 */
#ifndef LMPE_CACHE_H
#define LMPE_CACHE_H

#include "shared/ldict.h"

/* A time to live at idx, in seconds, as the engine has it: 0 when it is absent. Raises; call is how
 * the message begins. */
uint64_t lmpe_cache_ttl(lua_State *L, int idx, const char *call);
/* Raises for the status of a call that stores a value. */
int lmpe_cache_raise(lua_State *L, lmpe_box *b, int status, const char *call);
/* c:fetch(k, f [, opts]) */
int lmpe_cache_fetch(lua_State *L);
/* Adds the type of flights and its functions to the core module on top. */
void lmpe_cache_open_flights(lua_State *L, lmpe *S);

#endif
