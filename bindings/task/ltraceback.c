/* SPDX-License-Identifier: MIT
 *
 * ltraceback.c - the traceback of an error: as text, and kept from where it was raised until it
 * is reported. Only that of the last error is kept, since it is raised again or reported at
 * once.
 */
#include "base/lrelease.h"
#include "base/lmodules.h"
#include "task/lcancel.h"

#include <string.h>

/* ---- the stack as text ---- */

static int
has_level(lua_State *L, int level)
{
    lua_Debug ar;
    return lmpe_getstack(L, level, &ar);
}

/* Asking for a level costs as much as it is deep: they are not counted one by one. */
static int
deepest_level(lua_State *L)
{
    int low = 0, high = 1;
    while (has_level(L, high)) {
        low = high;
        high *= 2;
    }
    while (low + 1 < high) {
        int middle = low + (high - low) / 2;
        if (has_level(L, middle))
            low = middle;
        else
            high = middle;
    }
    return low;
}

static int
is_ours(lua_State *L, int level)
{
    lua_Debug ar;
    lmpe_getstack(L, level, &ar);
    lua_getinfo(L, "S", &ar);
    return *ar.what == 'C' || lmpe_is_library(ar.source);
}

static const char *
last_line(const char *text, const char *end)
{
    while (end > text && *--end != '\n')
        ;
    return end;
}

/* Pushes the stack from that level on, as Lua shows it, without the engine's own functions below
 * the script's first function. Lua shows the innermost ten and the outermost eleven levels of a
 * deep one. An interrupt shows the script's own place: not the engine's functions in a wait, nor
 * their names. */
static void
push_stack(lua_State *L, int level, int is_interrupt)
{
    static const char tail_call[] = "\n\t(...tail calls...)";
    int depth = deepest_level(L), last = depth;
    while (last > level && is_ours(L, last))
        last--;
    while (is_interrupt && level <= last && is_ours(L, level))
        level++;
    lmpe_push_traceback_from(L, level);
    const char *text = lua_tostring(L, -1), *end = text + strlen(text), *line;
    for (int drop = depth - last; (line = last_line(text, end)) > text; end = line) {
        int is_tail_call = strncmp(line, tail_call, sizeof tail_call - 1) == 0;
        if (drop == 0 && !is_tail_call)
            break;
        drop -= !is_tail_call;
    }
    lua_pushlstring(L, text, (size_t)(end - text));
    lua_remove(L, -2);
}

/* stack(level, error) -> text; 1 is the caller */
static int
stack(lua_State *L)
{
    lua_settop(L, 2);
    push_stack(L, (int)luaL_checkinteger(L, 1),
               lmpe_self_or_closed(L)->signals->number_of(L, 2) != 0);
    return 1;
}

/* ---- the one that is kept ---- */

/* Keys of the registry. */
static const char raised_key;    /* the error whose traceback was noted last */
static const char traceback_key; /* and the traceback */

/* Is the error at index 1 the task's cancellation? Then the place where it was raised is of no
 * interest. */
static int
is_cancellation(lua_State *L, lmpe_task *t)
{
    if (t->killed) {
        lmpe_push_task(L, t);
        lmpe_push_kill(L, -1);
        int is_kill = lua_rawequal(L, 1, -1);
        lua_pop(L, 2);
        if (is_kill)
            return 1;
    }
    for (lmpe_scope *s = t->wait ? t->wait->scopes : NULL; s; s = s->outer) {
        lmpe_push_token(L, s);
        int same = lua_rawequal(L, 1, -1);
        lua_pop(L, 1);
        if (same)
            return 1;
    }
    return 0;
}

void
lmpe_keep_traceback(lua_State *L, int level)
{
    push_stack(L, level, 0);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &traceback_key);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &raised_key);
}

/* An error that passes outwards through several protected calls keeps its first traceback. An
 * interrupt is raised in the main task, where its report finds the stack as it is; one raised in
 * a computing task has its own. */
int
lmpe_note_traceback(lua_State *L)
{
    lmpe *S = lmpe_of(L);
    lua_settop(L, 1);
    if (S && (is_cancellation(L, S->current) || S->signals->number_of(L, 1)))
        return 1;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &raised_key);
    int known = !lua_isnil(L, 1) && lua_rawequal(L, 1, -1);
    lua_settop(L, 1);
    if (known)
        return 1;
    lmpe_keep_traceback(L, 1);
    return 1;
}

void
lmpe_push_traceback(lua_State *L, int idx)
{
    idx = lua_absindex(L, idx);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &raised_key);
    int same = lua_rawequal(L, -1, idx);
    lua_pop(L, 1);
    if (!same) {
        lua_pushnil(L);
        return;
    }
    lua_rawgetp(L, LUA_REGISTRYINDEX, &traceback_key);
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &raised_key);
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &traceback_key);
}

/* set_traceback(error, text): the text that lmpe_push_traceback returns for it */
static int
set_traceback(lua_State *L)
{
    lua_settop(L, 2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &traceback_key);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &raised_key);
    return 0;
}

/* traceback_of(error) -> text | nil; it is returned once */
static int
traceback_of(lua_State *L)
{
    luaL_checkany(L, 1);
    lmpe_push_traceback(L, 1);
    return 1;
}

void
lmpe_open_traceback(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {
        {"stack", stack},
        {"set_traceback", set_traceback},
        {"traceback_of", traceback_of},
        {NULL, NULL},
    };
    lmpe_setfuncs(L, S, functions);
}
