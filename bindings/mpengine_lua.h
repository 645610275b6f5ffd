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

/* Makes `require "mpengine"` work in L, for good; a second call with the same engine does nothing.
 * print, io, os.exit and signals stay as they are. With engine NULL the state makes an engine of
 * its own when the module is first required, and closes it with the state.
 * Ownership: an engine given here stays the host's. It is best closed after L; closed before, it
 * closes the library, whose calls raise from then on, and L can be closed later.
 * Threads: the one that opened the engine.
 * Errors: EINVAL (L is NULL), EEXIST (the engine has another state, or the state another engine),
 * EPERM (another thread's engine), ENOMEM. */
MPE_API int mpe_lua_open(lua_State *L, mpe_engine *engine);
/* Returns the engine of a state, for a C module that a script requires too; NULL: it has none (yet),
 * or it is closed.
 * Ownership: the engine is the state's or the host's.
 * Threads: the engine's. */
MPE_API mpe_engine *mpe_lua_engine(lua_State *L);

#ifdef __cplusplus
}
#endif

#endif
