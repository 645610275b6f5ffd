/* SPDX-License-Identifier: MIT
 *
 * ltask_describe.c - what reports and readers show of a task: its name, and which frames of its stack
 * are the script's.
 */
#include "base/lrelease.h"
#include "base/lmodules.h"
#include "base/lobject.h"
#include "base/lsite.h"
#include "task/lcancel.h"

#include <string.h>

int
lmpe_is_shown(lua_State *co, lua_Debug *ar, int level)
{
    lua_Debug caller;
    lua_getinfo(co, "Sl", ar);
    if (*ar->what != 'C')
        return !lmpe_is_library(ar->source) && ar->currentline > 0;
    lua_getinfo(co, "n", ar);
    if (!*ar->namewhat || !lmpe_getstack(co, level + 1, &caller))
        return 0;
    lua_getinfo(co, "S", &caller);
    return *caller.what != 'C' && !lmpe_is_library(caller.source);
}

lua_State *
lmpe_next_coroutine(lua_State *L, lmpe_task *t, lua_State *co, lmpe_link **l)
{
    if (t->state == LMPE_RUNNING && t == t->S->current)
        return co ? lmpe_outwards(t->S, co, l) : L;
    if (co)
        return NULL;
    return t->co ? lmpe_innermost(L, t->co) : t == t->S->current ? L : t->S->driver;
}

void
lmpe_push_task_name(lua_State *L, lmpe_task *t)
{
    lmpe_push_extra(L, -1);
    int has_name = lua_istable(L, -1) && lua_getfield(L, -1, "name") == LUA_TSTRING;
    if (lua_istable(L, -2) && !has_name)
        lua_pop(L, 1);
    if (has_name) {
        lua_remove(L, -2);
        return;
    }
    lua_pop(L, 1);
    if (t == t->S->main_task)
        lua_pushliteral(L, "main");
    else
        lmpe_push_site_name(L, t->site);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_pushfstring(L, "Task-%I", lmpe_task_number(t));
    }
}

/* running_for() -> seconds since the loop was last run, whatever has run since */
static int
running_for(lua_State *L)
{
    uint64_t clock = *lmpe_self(L)->clock;
    lua_pushnumber(L, clock ? (lua_Number)(mpe_now() - clock) / MPE_NS_PER_S : 0);
    return 1;
}

/* function_name(f) -> its name, as the script that runs knows it; else its place | nil */
static int
function_name(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lmpe_push_function_name(L, 1, 1);
    return 1;
}

void
lmpe_open_names(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {
        {"running_for", running_for}, {"function_name", function_name}, {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
}
