/* SPDX-License-Identifier: MIT
 *
 * lluv.c - luv on the engine's loop. luv gets the loop before its module is opened, and passes
 * its callbacks to a function of ours. Each is called where libuv calls it, inside the turn of
 * the loop, so that libuv's guarantees hold: none is called after close or stop, and its changes
 * take effect at once. It is called as the first step of a task: if it waits, libuv goes on, and
 * the callback continues later, when its wait ends. An error in it ends no process.
 *
 * lluv_run.c implements the loop functions for scripts, lluv_handle.c the handles and their end.
 *
 * A luv that was built with a libuv of its own cannot share the loop and is left alone.
 */
#include "base/lmodules.h"
#include "task/ltask.h"
#include "io/lluv.h"

#include <dlfcn.h>
#include <string.h>

/* What luv exports; its header need not be installed. */
typedef int (*luv_call)(lua_State *L, int nargs, int nresults, int flags);
struct luv_api {
    void (*set_loop)(lua_State *L, uv_loop_t *loop);
    void (*set_callback)(lua_State *L, luv_call call);
    lua_CFunction open;
};

static const char state_key; /* in the registry: the struct lmpe_luv */

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
    int (*ours)(uv_loop_t *, uv_run_mode) = uv_run, (*theirs)(uv_loop_t *, uv_run_mode);
    return find(lib, "uv_run", &theirs) && theirs == ours;
}

/* ---- callbacks ---- */

static void
callback_begun(lmpe *S)
{
    S->luv->under_way++;
}

static void
callback_ended(lmpe *S)
{
    S->luv->under_way--;
    S->luv->ended++;
}

/* Calls the function under the nargs values on top of L, in a task of its own. It must be called
 * from the thread that drives the loop: L may be one that the script has suspended. */
static void
call_in_task(lua_State *L, lmpe *S, int nargs)
{
    lua_State *driver = S->driver;
    if (!lua_checkstack(driver, nargs + 2)) {
        lua_pop(L, nargs + 1);
        return;
    }
    if (driver != L)
        lua_xmove(L, driver, nargs + 1);
    lmpe_push_run_callback(driver);
    lua_insert(driver, -(nargs + 2));
    if (lua_pcall(driver, nargs + 1, 0, 0) != LUA_OK) {
        lua_pushliteral(driver, "a callback of luv is lost: no memory for its task");
        lmpe_report(driver, S, MPE_LOG_ERROR);
        lua_pop(driver, 1);
    }
}

/* The function of a callback and its arguments are on top of L. */
static int
on_callback(lua_State *L, int nargs, int nresults, int flags)
{
    lmpe *S = lmpe_of(L);
    (void)flags;
    if (!S || S->luv->is_ending) { /* the state is being closed, and luv's handles with it */
        lua_pop(L, nargs + 1);
        return 0;
    }
    if (nresults != 0)
        return lua_pcall(L, nargs, nresults, 0) == LUA_OK ? nresults : -LUA_ERRRUN;
    struct lmpe_luv *u = S->luv;
    if (u->depth++ > 0)
        u->nested = 1;
    call_in_task(L, S, nargs);
    if (--u->depth == 0 && u->nested)
        lmpe_luv_unnest(S->driver, u);
    return 0;
}

/* ---- loading ---- */

static void
begin(lmpe *S, void (*luv_set_loop)(lua_State *L, uv_loop_t *loop))
{
    memset(S->luv, 0, sizeof *S->luv);
    S->luv->S = S;
    S->luv->set_loop = luv_set_loop;
    S->luv->hook.turned = lmpe_luv_turned;
    mpe_on_turn(S->e, &S->luv->hook);
}

/* luv_open(path) -> the module, on the engine's loop | nothing when it cannot be */
static int
luv_open(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    struct luv_api luv;
    void *lib = dlopen(luaL_checkstring(L, 1), RTLD_NOW | RTLD_LOCAL);
    if (!lib || !is_same_libuv(lib) || !find(lib, "luv_set_loop", &luv.set_loop) ||
        !find(lib, "luv_set_callback", &luv.set_callback) || !find(lib, "luaopen_luv", &luv.open))
        return 0; /* never closed: luv's own loader opens it again */
    uv_loop_t *loop = mpe_loop(S->e);
    if (!loop)
        return lmpe_raise(L, MPE_ENOMEM, "luv");
    if (!S->luv) {
        S->luv = lua_newuserdatauv(L, sizeof *S->luv, 0);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &state_key);
        begin(S, luv.set_loop);
    }
    luv.set_loop(S->main, loop);
    luv.set_callback(S->main, on_callback);
    lua_pushcfunction(L, luv.open);
    lua_pushliteral(L, "luv");
    lua_call(L, 1, 1);
    luv.set_loop(S->main, loop); /* callbacks run on this thread */
    lmpe_luv_own_handles(L, S);
    return 1;
}

/* In a child: drops the parent's handles, requests and callbacks. */
static void
on_fork(lua_State *L, lmpe *S)
{
    (void)L;
    if (!S->luv)
        return;
    begin(S, S->luv->set_loop);
    uv_loop_t *loop = mpe_loop(S->e);
    if (loop)
        S->luv->set_loop(S->main, loop);
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

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"luv_open", luv_open}, {NULL, NULL}};
    static const lmpe_callback_hooks hooks = {callback_begun, callback_ended};
    S->callbacks = &hooks;
    lmpe_setfuncs(L, S, functions);
    lmpe_open_luv_run(L, S);
    lmpe_open_luv_handle(L, S);
    lmpe_add_searcher(L, search);
}

const lmpe_module lmpe_luv_module = {.open = on_open, .forked = on_fork};
