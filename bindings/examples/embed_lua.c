/* A host with a Lua state and a libuv loop of its own: the script's waits drive the loop, so a timer
 * of the host goes on ticking while the script waits for a process, and the two share an array. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <uv.h>

#include "mpengine_lua.h"

static const char script[] =
    "local mp = require 'mpengine'\n"
    "local squares, go = mp.Array('i', 3), mp.Event()\n"
    "local p = mp.Process(function() go:wait() for i = 1, 3 do squares[i] = i * i end end)\n"
    "p:start()\n"
    "mp.sleep(0.05)\n"
    "go:set()\n"
    "p:join()\n"
    "return table.concat(squares:totable(), ' '), p.exitcode\n";

static int ticks;

static void
on_tick(uv_timer_t *timer)
{
    (void)timer;
    ticks++;
}

static int
run(lua_State *L)
{
    if (luaL_loadbuffer(L, script, sizeof script - 1, "=script") != LUA_OK ||
        lua_pcall(L, 0, 2, 0) != LUA_OK) {
        fprintf(stderr, "%s\n", lua_tostring(L, -1));
        return 1;
    }
    printf("the script says %s, exit code %d\n", lua_tostring(L, -2), (int)lua_tointeger(L, -1));
    printf("the host's timer %s meanwhile\n", ticks > 0 ? "ticked" : "stood still");
    return 0;
}

int
main(void)
{
    uv_loop_t loop;
    uv_timer_t timer;
    mpe_engine *engine;
    mpe_config config = MPE_CONFIG_INIT;
    uv_loop_init(&loop);
    uv_timer_init(&loop, &timer);
    uv_timer_start(&timer, on_tick, 5, 5);
    config.loop = &loop;
    config.name = "host";
    int rc = mpe_open(&config, &engine);
    if (rc != MPE_OK) {
        fprintf(stderr, "mpe_open: %s\n", mpe_strerror(rc));
        return 1;
    }
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    mpe_lua_open(L, engine);
    rc = run(L);
    lua_close(L);
    mpe_close(engine);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    return uv_loop_close(&loop) == 0 ? rc : 1;
}
