/* SPDX-License-Identifier: MIT
 *
 * mpengine_lua.h - mpengine in a host's own Lua state.
 *
 * Link libmpengine_lua.a and libmpengine.a. After mpe_lua_open, `require "mpengine"` works in L: the
 * Lua modules are in the library. (A Lua that does not take their bytecode reads their files, found
 * by package.path.) Open the standard library before it.
 *
 *     uv_loop_t loop;
 *     mpe_config config = MPE_CONFIG_INIT;
 *     config.loop = &loop;
 *     mpe_open(&config, &engine);
 *     mpe_lua_open(L, engine);
 *     luaL_dofile(L, "script.lua");        -- its waits drive the loop
 *     lua_close(L);
 *     mpe_close(engine);
 */
#ifndef MPENGINE_LUA_H
#define MPENGINE_LUA_H

#include "mpengine.h"

#ifdef __cplusplus
extern "C" {
#endif

#include <lua.h>

/* Makes `require "mpengine"` work in L. engine NULL: the state makes one of its own when the module
 * is first required, and closes it with the state.
 * Ownership: an engine given here stays the host's, which closes it after L. One state per engine.
 * Threads: the one that opened the engine.  Errors: raises Lua's memory error and no other. */
MPE_API void mpe_lua_open(lua_State *L, mpe_engine *engine);

#ifdef __cplusplus
}
#endif

#endif
