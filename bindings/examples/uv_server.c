/* A server whose main loop is uv_run: with MPE_SERVED_BY_LOOP nothing else is called. Each request,
 * here from a timer of the host, becomes a task, which may wait; the host gives it a queue. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <uv.h>

#include "mpengine_lua.h"

#define REQUESTS 3

static const char script[] = "local co = require 'mpengine'.co\n"
                             "answered = 0\n"
                             "co.spawn(function()\n"
                             "  for n in function() return requests:get() end do\n"
                             "    co.spawn(function() co.sleep(0.01) answered = answered + n end)\n"
                             "  end\n"
                             "end)\n";

struct server {
    mpe_engine *e;
    mpe_object *requests;
    int64_t sent;
};

/* A request has come: a callback of the host does not wait. */
static void
on_request(uv_timer_t *timer)
{
    struct server *s = (struct server *)timer->data;
    mpe_buf b;
    mpe_buf_init(&b);
    if (mpe_pack(s->e, &b, "i", ++s->sent) == MPE_OK)
        mpe_put(s->e, s->requests, b.data, b.len, MPE_NOW);
    mpe_buf_free(&b);
    if (s->sent == REQUESTS) {
        mpe_queue_close(s->e, s->requests); /* the script's loop ends */
        uv_close((uv_handle_t *)timer, NULL);
    }
}

static int
run(lua_State *L, uv_loop_t *loop, struct server *s)
{
    luaL_openlibs(L);
    mpe_lua_open(L, s->e);
    mpe_lua_push(L, s->requests);
    lua_setglobal(L, "requests");
    if (luaL_dostring(L, script) != LUA_OK) {
        fprintf(stderr, "%s\n", lua_tostring(L, -1));
        return 1;
    }
    uv_run(loop, UV_RUN_DEFAULT); /* until no request can come and no task sleeps */
    lua_getglobal(L, "answered");
    printf("the tasks have answered %d\n", (int)lua_tointeger(L, -1));
    return 0;
}

int
main(void)
{
    uv_loop_t loop;
    uv_timer_t timer;
    struct server s = {NULL, NULL, 0};
    mpe_config config = MPE_CONFIG_INIT;
    uv_loop_init(&loop);
    config.loop = &loop;
    config.flags = MPE_SERVED_BY_LOOP;
    int rc = mpe_open(&config, &s.e);
    if (rc != MPE_OK || (rc = mpe_queue_create(s.e, 0, 0, &s.requests)) != MPE_OK) {
        fprintf(stderr, "uv_server: %s\n", mpe_strerror(rc));
        return 1;
    }
    uv_timer_init(&loop, &timer);
    timer.data = &s;
    uv_timer_start(&timer, on_request, 5, 5);
    lua_State *L = luaL_newstate();
    rc = run(L, &loop, &s);
    lua_close(L);
    mpe_drop(s.e, s.requests);
    mpe_close(s.e);
    uv_run(&loop, UV_RUN_DEFAULT);
    return uv_loop_close(&loop) == 0 ? rc : 1;
}
