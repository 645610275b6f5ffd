/* SPDX-License-Identifier: MIT
 *
 * lembed.c - the module in a host's Lua state. A state that a host has opened has a record in its
 * registry, whether the module is required or not; by it the rest of the library knows that it is
 * in a host. The record is the guest of the engine: it is told when the engine is closed before
 * the state, and then closes the library, whose calls raise from there on.
 */
#include "base/lfinalize.h"
#include "base/lmodules.h"
#include "lopen.h"
#include "mpengine_lua.h"

typedef struct host {
    mpe_guest guest;
    mpe_engine *given; /* as mpe_lua_open got it; NULL: the state makes its own */
    mpe_engine *e;     /* the same, until it is closed */
    lua_State *main;
} host;

static host *
host_of(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, LMPE_HOST);
    host *h = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return h;
}

static int
close_library(lua_State *L)
{
    lmpe_close_state(L, lua_touserdata(L, 1));
    return 0;
}

/* The engine is being closed: e is NULL when nothing of it may be touched. */
static void
on_closing(mpe_engine *e, mpe_guest *guest)
{
    host *h = (host *)guest; /* its first member */
    lua_State *L = h->main;
    h->e = NULL;
    if (!lua_checkstack(L, 4))
        return;
    int top = lua_gettop(L);
    lmpe *S = lmpe_of(L);
    if (S)
        S->outlives = 1;
    if (S && !e)
        S->e = NULL;
    if (S && e) {
        lua_pushcfunction(L, close_library);
        lua_pushlightuserdata(L, S);
        lua_pcall(L, 1, 0, 0);
    }
    lua_settop(L, top);
}

static int
host_gc(lua_State *L)
{
    host *h = lmpe_finalized(L, NULL, sizeof *h);
    if (h && h->e)
        mpe_guest_leave(h->e, &h->guest);
    return 0;
}

static host *
new_host(lua_State *L, mpe_engine *e)
{
    host *h = lua_newuserdatauv(L, sizeof *h, 0);
    *h = (host){.guest = {.closing = on_closing}, .given = e};
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, host_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    h->main = lua_tothread(L, -1);
    lua_pop(L, 1);
    return h;
}

static int
enter(host *h, mpe_engine *e)
{
    int rc = e ? mpe_guest_enter(e, &h->guest) : MPE_OK;
    h->given = e;
    h->e = rc == MPE_OK ? e : NULL;
    return rc;
}

static int
has_library(lua_State *L)
{
    int has = lmpe_push_known(L, "mpengine.core");
    lua_pop(L, has);
    return has;
}

/* The state has a host already, or the library, which it required without one. */
static int
open_again(lua_State *L, host *h, mpe_engine *e)
{
    lmpe *S = lmpe_of(L);
    if (h && h->given && !h->e && e && !has_library(L))
        return enter(h, e); /* the first call has failed */
    if (!e || (h && h->given == e) || (S && S->e == e))
        return MPE_OK;
    return MPE_EEXIST;
}

/* The engine is on top. */
static int
open_library(lua_State *L)
{
    mpe_engine *e = lua_touserdata(L, 1);
    host *h = new_host(L, e);
    lmpe_preload(L, luaopen_mpengine_core);
    lua_pushvalue(L, -1);
    lua_setfield(L, LUA_REGISTRYINDEX, LMPE_HOST);
    lua_pushinteger(L, enter(h, e));
    return 1;
}

int
mpe_lua_open(lua_State *L, mpe_engine *engine)
{
    if (!L)
        return MPE_EINVAL;
    if (!lua_checkstack(L, 8))
        return MPE_ENOMEM;
    host *h = host_of(L);
    if (h || lmpe_of(L))
        return open_again(L, h, engine);
    lua_pushcfunction(L, open_library);
    lua_pushlightuserdata(L, engine);
    int rc = lua_pcall(L, 1, 1, 0) == LUA_OK ? (int)lua_tointeger(L, -1) : MPE_ENOMEM;
    lua_pop(L, 1);
    return rc;
}

mpe_engine *
mpe_lua_engine(lua_State *L)
{
    if (!L || !lua_checkstack(L, 2))
        return NULL;
    host *h = host_of(L);
    if (h && h->given)
        return h->e;
    lmpe *S = lmpe_of(L);
    return S ? S->e : NULL;
}

mpe_engine *
lmpe_host_engine(lua_State *L)
{
    host *h = host_of(L);
    if (h && h->given && !h->e)
        luaL_error(L, "mpengine: this state has no engine (mpe_lua_open has failed, or the engine "
                      "is closed)");
    return h ? h->e : NULL;
}
