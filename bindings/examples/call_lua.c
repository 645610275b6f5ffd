/* A host that calls functions of its script: one in a task of its own, of which it is told the end, and
 * one for which it waits, with a deadline. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>

#include "mpengine_lua.h"

static const char script[] = "local co = require 'mpengine'.co\n"
                             "function slowly(n) co.sleep(0.005) return n * n end\n"
                             "function never() co.sleep(1000) end\n";

static void
on_done(lua_State *L, void *ud, int status, int nresults)
{
    *(int *)ud = status == MPE_OK && nresults == 1 ? (int)lua_tointeger(L, 1) : -1;
}

static int
run(lua_State *L)
{
    int squared = 0;
    int rc = luaL_dostring(L, script);
    if (rc != LUA_OK) {
        fprintf(stderr, "%s\n", lua_tostring(L, -1));
        return 1;
    }
    lua_getglobal(L, "slowly");
    lua_pushinteger(L, 3);
    rc = mpe_lua_spawn(L, 1, on_done, &squared, NULL); /* begins when the host waits */

    lua_getglobal(L, "slowly");
    lua_pushinteger(L, 4);
    if (rc == MPE_OK)
        rc = mpe_lua_call(L, 1, 1, mpe_now() + 5 * MPE_NS_PER_S);
    printf("the task says %d, the call %d: %s\n", squared, (int)lua_tointeger(L, -1),
           mpe_strerror(rc));

    lua_getglobal(L, "never");
    printf("in 10 ms: %s\n", mpe_strerror(mpe_lua_call(L, 0, 0, mpe_now() + MPE_NS_PER_S / 100)));
    return rc != MPE_OK;
}

int
main(void)
{
    mpe_engine *e;
    int rc = mpe_open(NULL, &e);
    if (rc != MPE_OK) {
        fprintf(stderr, "mpe_open: %s\n", mpe_strerror(rc));
        return 1;
    }
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    mpe_lua_open(L, e);
    rc = run(L);
    lua_close(L);
    mpe_close(e);
    return rc;
}
