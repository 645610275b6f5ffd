/* SPDX-License-Identifier: MIT */
/* A C function that waits: in the main chunk it does; in a task, and in a coroutine of a task, it is
 * refused where it would have to wait, and takes what is there. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>

#include "mpengine_lua.h"

static mpe_object *queue;

static int
get(lua_State *L)
{
    mpe_engine *e = mpe_lua_engine(L);
    mpe_message m;
    int64_t n = 0;
    int rc = mpe_get(e, queue, &m, mpe_now() + 2 * MPE_NS_PER_S);
    if (rc != MPE_OK) {
        lua_pushstring(L, mpe_strerror(rc));
        return 1;
    }
    mpe_unpack(e, m.data, m.size, "i", &n);
    mpe_message_free(e, &m);
    lua_pushinteger(L, (lua_Integer)n);
    return 1;
}

static const char script[] =
    "local co = require 'mpengine'.co\n"
    "co.spawn(function() co.sleep(0.01) q:put(1) end)\n"
    "print('main chunk', get())\n"
    "print('task', co.spawn(get):get())\n"
    "print('coroutine', co.spawn(function() return coroutine.wrap(get)() end):get())\n"
    "q:put(2)\n"
    "print('ready', co.spawn(get):get())\n";

int
main(void)
{
    mpe_engine *e;
    int rc = mpe_open(NULL, &e);
    if (rc != MPE_OK || (rc = mpe_queue_create(e, 0, 0, &queue)) != MPE_OK) {
        fprintf(stderr, "wait_in_task: %s\n", mpe_strerror(rc));
        return 1;
    }
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    mpe_lua_open(L, e);
    lua_register(L, "get", get);
    mpe_lua_push(L, queue);
    lua_setglobal(L, "q");
    rc = luaL_dostring(L, script);
    if (rc != LUA_OK)
        fprintf(stderr, "%s\n", lua_tostring(L, -1));
    lua_close(L);
    mpe_drop(e, queue);
    mpe_close(e);
    return rc;
}
