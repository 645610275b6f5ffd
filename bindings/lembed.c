/* SPDX-License-Identifier: MIT
 *
 * lembed.c - the module in a host's Lua state.
 */
#include "base/lmodules.h"
#include "lopen.h"
#include "mpengine_lua.h"

#define HOST_ENGINE "mpengine.host_engine"

void
mpe_lua_open(lua_State *L, mpe_engine *engine)
{
    if (engine) {
        lua_pushlightuserdata(L, engine);
        lua_setfield(L, LUA_REGISTRYINDEX, HOST_ENGINE);
    }
    lmpe_preload(L, luaopen_mpengine_core);
}

mpe_engine *
lmpe_host_engine(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, HOST_ENGINE);
    mpe_engine *e = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return e;
}
