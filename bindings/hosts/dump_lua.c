/* SPDX-License-Identifier: MIT */
/* A host looks at its program by mp.dump(): its own tasks are told, and those of a child, which has the
 * signals of a program of Lua and so answers. The arguments of the host stay in the child. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>

#include "mpengine_lua.h"

static const char script[] =
    "local mp = require 'mpengine'\n"
    "mp.set_start_method 'fork'\n"
    "local q, stop, ready = mp.Queue{ name = 'in' }, mp.Event(), mp.Event()\n"
    "local function serve() ready:set() stop:wait() end\n"
    "local p = mp.Process{ target = serve, name = 'child' }\n"
    "p:start()\n"
    "local function get() q:get() end\n"
    "local t = mp.co.spawn(get)\n"
    "ready:wait()\n"
    "local text = mp.dump()\n"
    "local function says(part) return tostring(text:find(part, 1, true) ~= nil) end\n"
    "local function arguments(pid) return io.open('/proc/' .. pid .. '/cmdline', 'rb'):read 'a' "
    "end\n"
    "local same = arguments(p.pid) == arguments 'self'\n"
    "local shown = says 'task get' .. ' ' .. says \"waits for mp.Queue\"\n"
    "local child = says 'process child' .. ' ' .. says 'waits for mp.Event'\n"
    "t:kill() stop:set() p:join()\n"
    "return shown, child, says '\\n! ', tostring(same)\n";

static int
run(lua_State *L)
{
    if (luaL_loadbuffer(L, script, sizeof script - 1, "=script") != LUA_OK ||
        lua_pcall(L, 0, 4, 0) != LUA_OK) {
        fprintf(stderr, "%s\n", lua_tostring(L, -1));
        return 1;
    }
    printf("its tasks are shown: %s\n", lua_tostring(L, -4));
    printf("those of its child are shown: %s\n", lua_tostring(L, -3));
    printf("something is marked: %s\n", lua_tostring(L, -2));
    printf("the child's arguments are its own: %s\n", lua_tostring(L, -1));
    return 0;
}

int
main(void)
{
    mpe_engine *engine;
    mpe_config config = MPE_CONFIG_INIT;
    config.name = "host";
    int rc = mpe_open(&config, &engine);
    if (rc != MPE_OK) {
        fprintf(stderr, "mpe_open: %s\n", mpe_strerror(rc));
        return 1;
    }
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    rc = mpe_lua_open(L, engine) == MPE_OK ? run(L) : 1;
    lua_close(L);
    mpe_close(engine);
    return rc;
}
