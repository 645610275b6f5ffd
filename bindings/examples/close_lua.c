/* A host that opens and closes Lua states one after the other, on an engine of its own or on theirs: what
 * a script leaves behind, tasks, finalizers, children, ends with its state. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>

#include "mpengine_lua.h"

/* The first object's finalizer comes after the library has been closed, the last one's before. */
static const char script[] =
    "local q\n"
    "Older = setmetatable({}, {__gc = function()\n"
    "  print('older', select(2, pcall(q.put, q, 1)))\n"
    "end})\n"
    "local mp = require 'mpengine'\n"
    "q = mp.Queue()\n"
    "mp.co.spawn(function()\n"
    "  local at_end <close> = setmetatable({}, {__close = function() print('task', q:qsize()) "
    "end})\n"
    "  mp.sleep(100)\n"
    "end)\n"
    "mp.co.sleep(0)\n"
    "q:put('item')\n"
    "Newer = setmetatable({}, {__gc = function() print('newer', q:get()) end})\n";

static int
run(mpe_engine *engine)
{
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    mpe_lua_open(L, engine);
    int status = luaL_dostring(L, script);
    if (status != LUA_OK)
        fprintf(stderr, "%s\n", lua_tostring(L, -1));
    lua_close(L);
    return status;
}

int
main(void)
{
    mpe_engine *engine;
    int rc = mpe_open(NULL, &engine);
    if (rc != MPE_OK) {
        fprintf(stderr, "mpe_open: %s\n", mpe_strerror(rc));
        return 1;
    }
    for (int i = 0; i < 2; i++)
        rc |= run(i == 0 ? engine : NULL);
    mpe_close(engine);
    return rc;
}
