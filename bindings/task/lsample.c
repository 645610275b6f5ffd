/* SPDX-License-Identifier: MIT
 *
 * lsample.c - one sample of what this process does, for readers that count them. Of many tasks only
 * the one that runs is looked at, or, when none runs, the main task: so a sample costs the same
 * whatever the number of tasks.
 */
#include "base/lrelease.h"
#include "base/lmodules.h"
#include "base/lsite.h"
#include "task/ltask_int.h"

#include <string.h>

#define LEVELS 200 /* innermost ones */

/* A name that the library's code has for a function says nothing. */
static int
has_name(lua_State *co, const lua_Debug *ar, int level)
{
    lua_Debug caller;
    if (!ar->name || !lmpe_getstack(co, level + 1, &caller))
        return 0;
    lua_getinfo(co, "S", &caller);
    return *caller.what == 'C' || !lmpe_is_library(caller.source);
}

/* Pushes the name of the function that runs at ar. */
static void
push_name(lua_State *L, lua_State *co, lua_Debug *ar, int level)
{
    if (has_name(co, ar, level)) {
        lua_pushstring(L, ar->name);
        return;
    }
    if (lua_checkstack(co, 1) && lua_getinfo(co, "f", ar)) {
        lua_xmove(co, L, 1);
        int f = lua_gettop(L), found = lmpe_push_function_name(L, f, 1);
        lua_replace(L, f);
        lua_settop(L, f);
        if (found)
            return;
        lua_pop(L, 1);
    }
    lua_pushliteral(L, "function");
}

/* A function is told by the line where it is defined: the lines that run are too many. */
static void
push_frame(lua_State *L, lua_State *co, lua_Debug *ar, int level)
{
    if (*ar->what == 'C') {
        lua_pushfstring(L, "%s [C]", ar->name);
    } else if (*ar->what == 'm') {
        lua_pushfstring(L, "main chunk (%s)", ar->short_src);
    } else {
        push_name(L, co, ar, level);
        lua_pushfstring(L, "%s (%s:%d)", lua_tostring(L, -1), ar->short_src, ar->linedefined);
        lua_remove(L, -2);
    }
}

/* Puts the frames of a coroutine into the list at an index, behind those that are there. */
static void
add_frames(lua_State *L, lua_State *co, int list)
{
    lua_Debug ar;
    for (int level = 0; level < LEVELS && lmpe_getstack(co, level, &ar); level++) {
        if (!lmpe_is_shown(co, &ar, level))
            continue;
        lua_getinfo(co, "n", &ar);
        push_frame(L, co, &ar, level);
        lua_rawseti(L, list, luaL_len(L, list) + 1);
    }
}

static lmpe_task *
task_to_show(lmpe *S)
{
    return S->current->state == LMPE_RUNNING ? S->current : S->main_task;
}

/* sample() -> the name of a task, whether it runs, its frames from the innermost outwards */
static int
sample(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lmpe_task *t = task_to_show(S);
    lmpe_link *l = S->links;
    lua_settop(L, 0);
    luaL_checkstack(L, 20, NULL);
    lmpe_push_task(L, t);
    lmpe_push_task_name(L, t);
    lua_replace(L, 1);
    lua_settop(L, 1);
    lua_pushboolean(L, t->state == LMPE_RUNNING);
    lua_newtable(L);
    for (lua_State *co = NULL; (co = lmpe_next_coroutine(L, t, co, &l)) != NULL;)
        add_frames(L, co, 3);
    return 3;
}

void
lmpe_open_sample(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"sample", sample}, {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
}
