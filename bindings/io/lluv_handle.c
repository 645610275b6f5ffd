/* SPDX-License-Identifier: MIT
 *
 * lluv_handle.c - luv's handles: which ones exist, and how they end.
 *
 * luv frees the memory of a handle in its finalizer, at once when it has been closed. That is
 * too early in two cases. While libuv is inside a callback it still uses the handle of that
 * callback. If the callback has run the loop again, the handle may be closed by then: its end is
 * put off until libuv has left all callbacks. And lua_close finalizes handles that the loop
 * still has to close. So there is always a guard that is newer than all handles, whose finalizer
 * is called first and has them closed.
 *
 * Handles of another loop belong to the parent, and a forked child must leave them alone.
 */
#include "base/lfinalize.h"
#include "io/lluv.h"

#include <stdlib.h>
#include <string.h>

#define GUARD "mpengine.luv_guard"
#define END_MS 1000 /* for requests in progress at the end of the state */

static const char guard_key;   /* in the registry: the newest guard */
static const char put_off_key; /* a list of handles */
static const char close_key;   /* luv's close */

/* luv's userdata is a pointer to the handle, which its finalizer clears. */
static uv_handle_t *
handle_at(lua_State *L, int idx)
{
    return *(uv_handle_t **)lua_touserdata(L, idx);
}

/* ---- existing handles ---- */

struct found {
    uv_handle_t **at; /* NULL: they are only counted */
    size_t n;
};

static void
note(uv_handle_t *handle, void *arg)
{
    struct found *f = arg;
    if (f->at)
        f->at[f->n] = handle;
    f->n++;
}

/* Pushes a table: handle, by address -> luv's userdata. luv has a reference to each open handle,
 * and a set of their metatables. */
static void
push_by_address(lua_State *L)
{
    lua_newtable(L);
    lua_getfield(L, LUA_REGISTRYINDEX, "uv_handle");
    for (lua_pushnil(L); lua_next(L, LUA_REGISTRYINDEX); lua_pop(L, 1)) {
        if (!lua_isinteger(L, -2) || lua_type(L, -1) != LUA_TUSERDATA || !lua_getmetatable(L, -1))
            continue;
        if (lua_rawget(L, -4) != LUA_TNIL && handle_at(L, -2)) {
            lua_pushvalue(L, -2);
            lua_rawsetp(L, -6, handle_at(L, -1));
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

/* luv_handles() -> a list of luv's handles, in the order they were made */
static int
luv_handles(lua_State *L)
{
    uv_loop_t *loop = mpe_loop(lmpe_self(L)->e);
    struct found f = {NULL, 0};
    uv_walk(loop, note, &f);
    f.at = lua_newuserdatauv(L, (f.n + 1) * sizeof *f.at, 0);
    f.n = 0;
    uv_walk(loop, note, &f);
    push_by_address(L);
    lua_newtable(L);
    for (size_t i = 0; i < f.n; i++) {
        if (lua_rawgetp(L, -2, f.at[i]) != LUA_TNIL)
            lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
        else
            lua_pop(L, 1);
    }
    return 1;
}

/* ---- the end of one ---- */

static void
put_off(lua_State *L)
{
    lua_getmetatable(L, 1);
    lua_setmetatable(L, 1); /* it is finalized once more */
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &put_off_key) != LUA_TTABLE) {
        lua_pop(L, 1);
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &put_off_key);
    }
    lua_pushvalue(L, 1);
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
}

void
lmpe_luv_unnest(lua_State *L, struct lmpe_luv *u)
{
    u->nested = 0;
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &put_off_key); /* existed already: allocates nothing */
}

/* __gc of a handle; luv's own is the second upvalue. */
static int
handle_gc(lua_State *L)
{
    lmpe *S = lmpe_self_or_closed(L);
    uv_handle_t **handle = lmpe_finalized(L, NULL, sizeof *handle);
    if (!handle || !*handle)
        return 0;
    if (S->e && (*handle)->loop != mpe_loop(S->e)) {
        *handle = NULL;
        return 0;
    }
    if (S->e && S->luv->nested) {
        put_off(L);
        return 0;
    }
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_pushvalue(L, 1);
    lua_call(L, 1, 0);
    return 0;
}

/* ---- the end of all ---- */

static void
on_limit(uv_timer_t *timer)
{
    *(int *)timer->data = 1;
}

static void
on_limit_closed(uv_handle_t *timer)
{
    free(timer);
}

/* Runs the loop until none of luv's handles is left, for a limited time. */
static void
run_out(mpe_engine *e, uv_loop_t *loop)
{
    int passed = 0;
    uv_timer_t *limit = malloc(sizeof *limit);
    if (!limit)
        return;
    uv_timer_init(loop, limit);
    limit->data = &passed;
    uv_update_time(loop);
    uv_timer_start(limit, on_limit, END_MS, 0);
    uv_unref((uv_handle_t *)limit);
    while (!passed && mpe_loop_others(e) != 0)
        uv_run(loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)limit, on_limit_closed);
    uv_run(loop, UV_RUN_NOWAIT);
}

static void
close_all(lua_State *L)
{
    luv_handles(L);
    for (lua_Integer i = 1; lua_rawgeti(L, -1, i) != LUA_TNIL; i++) {
        if (!uv_is_closing(handle_at(L, -1))) {
            lua_rawgetp(L, LUA_REGISTRYINDEX, &close_key);
            lua_insert(L, -2);
            lua_call(L, 1, 0);
        } else {
            lua_pop(L, 1);
        }
    }
}

/* Only the newest guard is still referenced: it is finalized when the state is closed. */
static int
guard_gc(lua_State *L)
{
    lmpe *S = lmpe_self_or_closed(L);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &guard_key);
    if (!S->e || !lmpe_is_finalizing(L) || !lua_rawequal(L, 1, -1))
        return 0;
    S->luv->is_ending = 1;
    S->luv->nested = 0;
    close_all(L);
    run_out(S->e, mpe_loop(S->e));
    mpe_off_turn(S->e, &S->luv->hook);
    return 0;
}

static void
renew_guard(lua_State *L)
{
    lua_newuserdatauv(L, 0, 0);
    luaL_setmetatable(L, GUARD);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &guard_key);
}

/* Corrects the error message of the wrapped function: its name, and the line of its caller. */
static int
raise_as(lua_State *L, const char *name)
{
    if (lua_type(L, -1) != LUA_TSTRING)
        return lua_error(L);
    luaL_where(L, 1);
    const char *as = lua_pushfstring(L, "to '%s'", name);
    luaL_gsub(L, lua_tostring(L, -3), "to '?'", as);
    lua_remove(L, -2);
    lua_concat(L, 2);
    return lua_error(L);
}

/* A function that makes what must not end before the loop has let go of it, the second upvalue; the third is its name. */
static int
make(lua_State *L)
{
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_insert(L, 1);
    if (lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0) != LUA_OK)
        return raise_as(L, lua_tostring(L, lua_upvalueindex(3)));
    renew_guard(L);
    return lua_gettop(L);
}

static void
wrap_maker(lua_State *L, lmpe *S, const char *name)
{
    lua_pushlightuserdata(L, S);
    if (lua_getfield(L, -2, name) != LUA_TFUNCTION) {
        lua_pop(L, 2);
        return;
    }
    lua_pushstring(L, name);
    lua_pushcclosure(L, make, 3);
    lua_setfield(L, -2, name);
}

/* A copy of luv that is opened again has its own finalizers again. */
static void
wrap_finalizer(lua_State *L, lmpe *S)
{
    lua_pushlightuserdata(L, S);
    lua_getfield(L, -2, "__gc");
    lua_pushcclosure(L, handle_gc, 2);
    lua_setfield(L, -2, "__gc");
}

void
lmpe_luv_own_handles(lua_State *L, lmpe *S)
{
    static const char *const makers[] = {
        "new_async", "new_check",   "new_fs_event", "new_fs_poll",     "new_idle",  "new_pipe",
        "new_poll",  "new_prepare", "new_signal",   "new_socket_poll", "new_tcp",   "new_timer",
        "new_tty",   "new_udp",     "new_work",     "spawn",           "fs_scandir"};
    renew_guard(L);
    lua_getfield(L, -1, "close");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &close_key);
    for (size_t i = 0; i < sizeof makers / sizeof makers[0]; i++)
        wrap_maker(L, S, makers[i]);
    lua_getfield(L, LUA_REGISTRYINDEX, "uv_handle");
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        lua_pushvalue(L, -2);
        wrap_finalizer(L, S);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

void
lmpe_open_luv_handle(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"luv_handles", luv_handles}, {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__gc", guard_gc}, {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
    luaL_newmetatable(L, GUARD);
    lmpe_setfuncs(L, S, meta);
    lua_pop(L, 1);
}
