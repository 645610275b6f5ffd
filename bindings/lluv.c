/* SPDX-License-Identifier: MIT
 *
 * lluv.c - luv on the engine's loop. luv is told the loop before its module is opened, and gives
 * its callbacks to a function of ours, which makes a task of each: a callback may wait like any
 * code, and an error in it ends no process. What scripts see is put right in mpengine/luv.lua.
 *
 * luv that was built with a libuv of its own cannot share the loop and is left alone.
 */
#include "lmpe.h"

#include <dlfcn.h>
#include <string.h>
#include <unistd.h>

#define CALLBACK "mpengine.luv_callback"
#define FORKED "mpengine.luv_forked"

/* What luv exports; its header need not be installed. */
typedef int (*luv_call)(lua_State *L, int nargs, int nresults, int flags);
struct luv_api {
    void (*set_loop)(lua_State *L, struct uv_loop_s *loop);
    void (*set_callback)(lua_State *L, luv_call call);
    lua_CFunction open;
};

extern int uv_run(struct uv_loop_s *loop,
                  int mode); /* to see whose libuv luv has, and at the end */

#define NOWAIT 2 /* UV_RUN_NOWAIT */
#define PAUSE_US 1000

static void (*set_loop)(lua_State *L, struct uv_loop_s *loop); /* once luv shares the loop */

static int
find(void *lib, const char *name, void *to)
{
    void *f = dlsym(lib, name);
    memcpy(to, &f, sizeof f);
    return f != NULL;
}

static int
is_same_libuv(void *lib)
{
    int (*ours)(struct uv_loop_s *, int) = uv_run, (*theirs)(struct uv_loop_s *, int);
    return find(lib, "uv_run", &theirs) && theirs == ours;
}

/* The function of a callback and its arguments are on top of L, luv's state. */
static int
on_callback(lua_State *L, int nargs, int nresults, int flags)
{
    (void)flags;
    if (!lmpe_of(L)) { /* the state is being closed, and with it luv's handles */
        lua_pop(L, nargs + 1);
        return 0;
    }
    if (nresults != 0)
        return lua_pcall(L, nargs, nresults, 0) == LUA_OK ? nresults : -LUA_ERRRUN;
    lua_getfield(L, LUA_REGISTRYINDEX, CALLBACK);
    lua_insert(L, -(nargs + 2));
    if (lua_pcall(L, nargs + 1, 0, 0) != LUA_OK)
        lua_pop(L, 1); /* no memory for a task, or the end has begun */
    return 0;
}

/* luv_open(path, callback, forked) -> the module, on the engine's loop | nothing when it cannot be.
 * callback(f, ...) is called for each callback of luv's, forked() in a child process. */
static int
luv_open(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    struct luv_api luv;
    const char *path = luaL_checkstring(L, 1);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    luaL_checktype(L, 3, LUA_TFUNCTION);
    void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!lib || !is_same_libuv(lib) || !find(lib, "luv_set_loop", &luv.set_loop) ||
        !find(lib, "luv_set_callback", &luv.set_callback) || !find(lib, "luaopen_luv", &luv.open))
        return 0; /* never closed: luv's own loader opens it again */
    struct uv_loop_s *loop = mpe_loop(S->e);
    if (!loop)
        return lmpe_raise(L, MPE_ENOMEM, "luv");
    lua_settop(L, 3);
    lua_setfield(L, LUA_REGISTRYINDEX, FORKED);
    lua_setfield(L, LUA_REGISTRYINDEX, CALLBACK);
    luv.set_loop(S->main, loop);
    luv.set_callback(S->main, on_callback);
    set_loop = luv.set_loop;
    lua_pushcfunction(L, luv.open);
    lua_pushliteral(L, "luv");
    lua_call(L, 1, 1);
    luv.set_loop(S->main, loop); /* whatever thread opened it, callbacks are called on this one */
    return 1;
}

/* In a child: the handles were the parent's, new ones go on the new loop. */
void
lmpe_luv_forked(lua_State *L, lmpe *S)
{
    if (!set_loop)
        return;
    if (lua_getfield(L, LUA_REGISTRYINDEX, FORKED) != LUA_TFUNCTION) {
        lua_pop(L, 1);
        return;
    }
    if (lua_pcall(L, 0, 0, 0) != LUA_OK)
        lua_pop(L, 1);
    struct uv_loop_s *loop = mpe_loop(S->e);
    if (loop)
        set_loop(S->main, loop);
}

/* luv_turn(): one turn of the loop, and a pause, while the state is being closed; no callbacks any
 * more. */
static int
luv_turn(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lua_pushnil(L);
    lua_setfield(L, LUA_REGISTRYINDEX, CALLBACK);
    if (S->e) {
        uv_run(mpe_loop(S->e), NOWAIT);
        usleep(PAUSE_US);
    }
    return 0;
}

/* A searcher of package.searchers: luv is loaded by mpengine.luv; nothing else is found here. */
static int
search(lua_State *L)
{
    if (strcmp(luaL_checkstring(L, 1), "luv") != 0)
        return 0;
    lua_getglobal(L, "require");
    lua_pushliteral(L, "mpengine.luv");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "loader");
    lua_call(L, 0, 2);
    return 2;
}

void
lmpe_open_luv(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {
        {"luv_open", luv_open}, {"luv_turn", luv_turn}, {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
    lmpe_add_searcher(L, search);
}
