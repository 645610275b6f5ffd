/* SPDX-License-Identifier: MIT */
/* A host with Lua that forks by itself: in the child waits raise, and closing the state is fine. */
#include "mpengine_lua.h"

#ifdef __cplusplus
extern "C" {
#endif
#include <lauxlib.h>
#include <lualib.h>
#ifdef __cplusplus
}
#endif

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void
run(lua_State *L, const char *text)
{
    if (luaL_dostring(L, text) == LUA_OK)
        return;
    fprintf(stderr, "forked_lua: %s\n", lua_tostring(L, -1));
    exit(1);
}

static void
end(lua_State *L, mpe_engine *e, int how)
{
    alarm(5);
    if (how > 0)
        run(L, "assert(not pcall(q.get, q, 0.2)) assert(not pcall(q.put, q, 1))"
               "assert(not pcall(co.sleep, 0.01)) assert(not pcall(l.acquire, l))");
    if (how > 1)
        lua_close(L);
    if (how > 2)
        mpe_close(e);
    if (how % 2)
        exit(0);
    _exit(0);
}

int
main(void)
{
    for (int how = 0; how < 4; how++) {
        mpe_engine *e;
        int status = 1;
        if (mpe_open(NULL, &e) != MPE_OK)
            return 1;
        lua_State *L = luaL_newstate();
        luaL_openlibs(L);
        mpe_lua_open(L, e);
        run(L, "mp = require 'mpengine' co = mp.co q, l = mp.Queue(), mp.Lock() l:acquire()"
               "t = co.spawn(function() return q:get() end) co.sleep(0.001)");
        pid_t pid = fork();
        if (pid == 0)
            end(L, e, how);
        if (waitpid(pid, &status, 0) != pid || status != 0)
            return fprintf(stderr, "forked_lua: child %d: status %d\n", how, status), 1;
        run(L, "assert(l:locked()) l:release() q:put(7) assert(t:get() == 7)");
        lua_close(L);
        mpe_close(e);
    }
    return 0;
}
