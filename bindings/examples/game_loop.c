/* SPDX-License-Identifier: MIT */
/* A game: the host draws frames, and its script has tasks that sleep and wait. Once a frame mpe_poll
 * runs what is ready, and never blocks. Two queues carry what the player does to the script, and what
 * the script has to say to the host. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <time.h>

#include "mpengine_lua.h"

#define FRAME_NS 2000000

static const char script[] =
    "local co = require 'mpengine'.co\n"
    "ball = 0\n"
    "co.spawn(function() while true do co.sleep(0.004) ball = ball + 1 end end)\n"
    "co.spawn(function()\n"
    "  for key in function() return keys:get() end do\n"
    "    events:put('key ' .. key)\n"
    "  end\n"
    "  co.sleep(0.01)\n"
    "  events:put('over')\n"
    "end)\n";

struct game {
    mpe_engine *e;
    mpe_object *keys, *events; /* to the script, and from it */
    int frames, over;
};

/* What the script has said since the last frame. */
static void
read_events(struct game *g)
{
    mpe_message m;
    char text[32];
    while (mpe_get(g->e, g->events, &m, MPE_NOW) == MPE_OK) {
        if (mpe_unpack(g->e, m.data, m.size, "z", text, sizeof text) == MPE_OK)
            printf("%s\n", text);
        g->over = text[0] == 'o';
        mpe_message_free(g->e, &m);
    }
}

/* A player presses keys in the first frames, and then leaves. */
static void
read_keys(struct game *g)
{
    mpe_buf b;
    mpe_buf_init(&b);
    if (g->frames < 3 && mpe_pack(g->e, &b, "i", (int64_t)g->frames) == MPE_OK)
        mpe_put(g->e, g->keys, b.data, b.len, MPE_NOW);
    else if (g->frames == 3)
        mpe_queue_close(g->e, g->keys);
    mpe_buf_free(&b);
}

static void
frame(struct game *g)
{
    uint64_t end = mpe_now() + FRAME_NS;
    read_keys(g);
    while (mpe_poll(g->e) > 0 && mpe_now() < end)
        ;
    read_events(g);
    g->frames++;
    struct timespec rest = {0, 0}; /* a game would draw, and wait for the screen */
    uint64_t now = mpe_now();
    rest.tv_nsec = now < end ? (long)(end - now) : 0;
    nanosleep(&rest, NULL);
}

static int
play(struct game *g, lua_State *L)
{
    luaL_openlibs(L);
    mpe_lua_open(L, g->e);
    mpe_lua_push(L, g->keys);
    lua_setglobal(L, "keys");
    mpe_lua_push(L, g->events);
    lua_setglobal(L, "events");
    if (luaL_dostring(L, script) != LUA_OK) {
        fprintf(stderr, "%s\n", lua_tostring(L, -1));
        return 1;
    }
    while (!g->over)
        frame(g);
    lua_getglobal(L, "ball");
    printf("the ball %s\n", lua_tointeger(L, -1) > 0 ? "has moved" : "has not moved");
    return 0;
}

int
main(void)
{
    struct game g = {NULL, NULL, NULL, 0, 0};
    int rc = mpe_open(NULL, &g.e);
    if (rc != MPE_OK || (rc = mpe_queue_create(g.e, 0, 0, &g.keys)) != MPE_OK ||
        (rc = mpe_queue_create(g.e, 0, 0, &g.events)) != MPE_OK) {
        fprintf(stderr, "game_loop: %s\n", mpe_strerror(rc));
        return 1;
    }
    lua_State *L = luaL_newstate();
    rc = play(&g, L);
    lua_close(L);
    mpe_drop(g.e, g.keys);
    mpe_drop(g.e, g.events);
    mpe_close(g.e);
    return rc;
}
