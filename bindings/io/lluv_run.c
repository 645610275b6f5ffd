/* SPDX-License-Identifier: MIT
 *
 * lluv_run.c - the loop functions for scripts: uv.run, uv.stop, uv.loop_alive, uv.loop_mode. The
 * engine runs the loop itself, whenever any task waits. A task in uv.run waits until nothing of
 * luv's is left, which the engine distinguishes from its own (mpe_loop_others).
 *
 * In stock Lua a callback that waits keeps uv.run from returning, so here uv.run waits for the
 * ends of callbacks too. A callback that is itself in uv.run does not wait for others that are,
 * or they would wait for each other.
 */
#include "task/ltask.h"
#include "io/lluv.h"

#define RUN "mpengine.luv_run"

/* One call of uv.run, from its start to its end. The counts are those of the state when it
 * began. */
struct run {
    lmpe *S;
    uint32_t mode;
    uint32_t stops, ends;
    uint64_t mark;
    int is_of_callback; /* called in one, and waits */
    int is_over;
};

/* Changes when a callback has ended, and whenever a handle or request begins or ends. */
static uint64_t
mark(lmpe *S)
{
    return S->luv->ended << 32 | (uint32_t)mpe_loop_others(S->e);
}

/* Is nothing left that a call of uv.run waits for, inside a callback or outside? */
static int
is_idle(lmpe *S, int inside)
{
    struct lmpe_luv *u = S->luv;
    return u->under_way == 0 && (inside || u->in_run == 0) && mpe_loop_others(S->e) == 0;
}

/* "once" ends with a callback, or with the end of a handle that has none. */
static int
has_ended(const struct run *r)
{
    struct lmpe_luv *u = r->S->luv;
    if (r->stops != u->stops || r->ends != u->ends[r->is_of_callback] ||
        is_idle(r->S, r->is_of_callback))
        return 1;
    return r->mode == LMPE_LUV_ONCE && u->under_way == 0 && r->mark != mark(r->S);
}

/* Waiting calls get their outcome now, since the state may be different when they run. */
void
lmpe_luv_turned(mpe_engine *e, mpe_turn_hook *hook)
{
    struct lmpe_luv *u = (struct lmpe_luv *)hook;
    lmpe *S = u->S;
    (void)e;
    u->nested |= u->depth > 0;
    if (!u->waiting.head || u->under_way > 0)
        return;
    int is_end = is_idle(S, 1);
    if (!is_end && (u->running[LMPE_LUV_ONCE] == 0 || u->seen == mark(S)))
        return;
    u->ends[1] += (uint32_t)is_end;
    u->ends[0] += (uint32_t)is_idle(S, 0);
    u->seen = mark(S);
    mpe_waitlist_wake(S->e, &u->waiting, UINT32_MAX);
}

/* luv_enter(mode) -> a call of uv.run, which ends when the variable it is in is closed; mode counts from
 * 0. nil when it is to end at once, since uv.stop has been called before. */
static int
luv_enter(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    struct lmpe_luv *u = S->luv;
    uint32_t mode = (uint32_t)luaL_checkinteger(L, 1) % LMPE_LUV_MODES;
    if (u->stop_wanted) {
        u->stop_wanted = 0;
        return 0;
    }
    struct run *r = lua_newuserdatauv(L, sizeof *r, 0);
    int inside = S->current->of_luv && mode != LMPE_LUV_NOWAIT; /* nowait waits for no callback */
    *r = (struct run){S, mode, u->stops, u->ends[inside], mark(S), inside, 0};
    luaL_setmetatable(L, RUN);
    u->running[mode]++;
    u->in_run += (uint32_t)inside;
    u->under_way -= (uint32_t)inside;
    return 1;
}

static int
leave(lua_State *L)
{
    struct run *r = luaL_checkudata(L, 1, RUN);
    if (r->is_over)
        return 0;
    struct lmpe_luv *u = r->S->luv;
    r->is_over = 1;
    u->running[r->mode]--;
    u->in_run -= (uint32_t)r->is_of_callback;
    u->under_way += (uint32_t)r->is_of_callback;
    return 0;
}

static int
attempt(lmpe *S, lmpe_await *a)
{
    (void)S;
    return has_ended((const struct run *)a->scratch[0]) ? MPE_OK : MPE_EAGAIN;
}

static int
finish(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    (void)L, (void)S, (void)a, (void)status;
    return 0;
}

static int
nothing(lua_State *L, lmpe *S, int status)
{
    (void)L, (void)S, (void)status;
    return 0;
}

/* luv_wait(run): until it has ended */
static int
luv_wait(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    struct run *r = luaL_checkudata(L, 1, RUN);
    if (has_ended(r))
        return lmpe_give_way(L, S, nothing);
    lmpe_await *a = lmpe_await_new(S, MPE_FOREVER, NULL);
    mpe_waitlist_wake(S->e, &S->luv->waiting, UINT32_MAX); /* they check the state seen now */
    S->luv->seen = mark(S);
    a->source = LMPE_LIST;
    a->on.list = &S->luv->waiting;
    a->attempt = attempt;
    a->finish = finish;
    a->scratch[0] = (uintptr_t)r;
    return lmpe_await_run(L, S, a);
}

/* luv_turn(): one turn of the loop, here and now */
static int
luv_turn(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lua_State *driver = S->driver;
    S->driver = L;
    mpe_turn(S->e);
    S->driver = driver;
    return 0;
}

/* luv_inside() -> is this called by a callback of libuv's that has not returned to it? */
static int
luv_inside(lua_State *L)
{
    lua_pushboolean(L, lmpe_self(L)->luv->depth > 0);
    return 1;
}

static int
luv_stop(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    struct lmpe_luv *u = S->luv;
    if (u->running[LMPE_LUV_DEFAULT] + u->running[LMPE_LUV_ONCE] + u->running[LMPE_LUV_NOWAIT]) {
        u->stops++;
        mpe_waitlist_wake(S->e, &u->waiting, UINT32_MAX);
    } else {
        u->stop_wanted = 1;
    }
    return 0;
}

static int
luv_alive(lua_State *L)
{
    lua_pushboolean(L, mpe_loop_others(lmpe_self(L)->e) != 0);
    return 1;
}

/* luv_mode() -> the mode of a call of uv.run that has not ended | nil */
static int
luv_mode(lua_State *L)
{
    static const char *const names[] = {"default", "once", "nowait"};
    struct lmpe_luv *u = lmpe_self(L)->luv;
    for (int i = LMPE_LUV_MODES - 1; i >= 0; i--)
        if (u->running[i]) {
            lua_pushstring(L, names[i]);
            return 1;
        }
    lua_pushnil(L);
    return 1;
}

static int
run_tostring(lua_State *L)
{
    lua_pushliteral(L, "luv's handles and requests");
    return 1;
}

void
lmpe_open_luv_run(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"luv_enter", luv_enter},   {"luv_wait", luv_wait},
                                         {"luv_turn", luv_turn},     {"luv_stop", luv_stop},
                                         {"luv_alive", luv_alive},   {"luv_mode", luv_mode},
                                         {"luv_inside", luv_inside}, {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__close", leave}, {"__tostring", run_tostring}, {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
    luaL_newmetatable(L, RUN);
    lmpe_setfuncs(L, S, meta);
    lua_pop(L, 1);
}
