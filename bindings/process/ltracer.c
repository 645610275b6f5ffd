/* SPDX-License-Identifier: MIT
 *
 * ltracer.c - the reader's side of a trace, for mpengine/look/trace.lua: a tracer as a userdata, whose
 * records are given as strings of records.
 */
#include "process/lview.h"
#include "base/lsystem.h"

#include <errno.h>
#include <string.h>

#define TRACER "mpengine.tracer"
#define AT_ONCE 4096 /* records */

static mpe_tracer *
check_tracer(lua_State *L)
{
    mpe_tracer **box = luaL_checkudata(L, 1, TRACER);
    luaL_argcheck(L, *box, 1, "the tracer is closed");
    return *box;
}

/* tracer() -> a tracer | nil, message */
static int
tracer(lua_State *L)
{
    mpe_tracer **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    luaL_setmetatable(L, TRACER);
    int rc = mpe_tracer_new(box);
    if (rc == MPE_OK)
        return 1;
    luaL_pushfail(L);
    lua_pushstring(L, rc == MPE_ESYS ? lmpe_reason(errno) : mpe_strerror(rc));
    return 2;
}

/* t:word() -> the number for trace_begin */
static int
tracer_word(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)mpe_tracer_word(check_tracer(L)));
    return 1;
}

/* t:start(view) -> true | nil, "gone" | the pid of another one */
static int
tracer_start(lua_State *L)
{
    int by = 0, rc = mpe_tracer_start(check_tracer(L), lmpe_check_view(L, 2), &by);
    if (rc == MPE_OK) {
        lua_pushboolean(L, 1);
        return 1;
    }
    luaL_pushfail(L);
    if (rc == MPE_EAGAIN)
        lua_pushinteger(L, by);
    else
        lua_pushliteral(L, "gone");
    return 2;
}

/* t:pause(paused) */
static int
tracer_pause(lua_State *L)
{
    mpe_tracer_pause(check_tracer(L), lua_toboolean(L, 2));
    return 0;
}

/* t:clock() -> a time as records have it, the same as core.now has it, in ns */
static int
tracer_clock(lua_State *L)
{
    uint64_t ticks = 0, ns = 0;
    mpe_tracer_clock(check_tracer(L), &ticks, &ns);
    lua_pushinteger(L, (lua_Integer)ticks);
    lua_pushinteger(L, (lua_Integer)ns);
    return 2;
}

/* t:read(slot, most) -> records that were not read yet, as bytes, at most so many; how many were lost
 * among them; how many there were behind the last, which are skipped */
static int
tracer_read(lua_State *L)
{
    mpe_tracer *t = check_tracer(L);
    uint32_t slot = (uint32_t)luaL_checkinteger(L, 2);
    size_t most = (size_t)luaL_checkinteger(L, 3), n = 1, count = 0;
    uint64_t lost = 0;
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    while (n > 0 && count + 2 <= most) { /* two: a loss and a record */
        mpe_trace_record *room = (mpe_trace_record *)(void *)luaL_prepbuffsize(
            &b, AT_ONCE * sizeof *room);
        n = mpe_tracer_read(t, slot, room, most - count < AT_ONCE ? most - count : AT_ONCE);
        if (n > 0 && room->what == MPE_TRACE_LOST)
            lost += room->more;
        luaL_addsize(&b, n * sizeof *room);
        count += n;
    }
    luaL_pushresult(&b);
    lua_pushinteger(L, (lua_Integer)lost);
    lua_pushinteger(L, n == 0 ? 0 : (lua_Integer)mpe_tracer_skip(t, slot));
    return 3;
}

static int
tracer_close(lua_State *L)
{
    mpe_tracer **box = luaL_checkudata(L, 1, TRACER);
    mpe_tracer_free(*box);
    *box = NULL;
    return 0;
}

/* kind_of(handle) -> the name of its kind */
static int
kind_of(lua_State *L)
{
    lua_pushstring(L, mpe_kind_name(mpe_handle_kind((mpe_handle)luaL_checkinteger(L, 1))));
    return 1;
}

/* trace_begin(word): this program is traced by that tracer */
static int
trace_begin(lua_State *L)
{
    mpe_trace_begin(lmpe_self(L)->e, (uint64_t)luaL_checkinteger(L, 1));
    return 0;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {
        {"tracer", tracer}, {"trace_begin", trace_begin}, {"kind_of", kind_of}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"word", tracer_word},
                                       {"start", tracer_start},
                                       {"pause", tracer_pause},
                                       {"clock", tracer_clock},
                                       {"read", tracer_read},
                                       {"close", tracer_close},
                                       {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
    luaL_newmetatable(L, TRACER);
    lua_createtable(L, 0, 4);
    lmpe_setfuncs(L, S, methods);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, tracer_close);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "__gc");
    lua_setfield(L, -2, "__close");
    lua_pop(L, 1);
}

const lmpe_module lmpe_tracer_module = {.open = on_open};
