/* SPDX-License-Identifier: MIT
 *
 * ltask_describe.c - all tasks of this process as tables, for readers: what each waits for, since
 * when, and its stack. Many tasks have the same stack, so each stack is made into a text once and
 * has a number. It is told by its frames, the sources by address; a text is for one answer only.
 */
#include "base/lmodules.h"
#include "base/lobject.h"
#include "base/lsite.h"
#include "task/lcancel.h"

#include <string.h>

#define LEVELS 40     /* innermost ones of a stack, and as many as are examined */
#define CLOCK_EVERY 8 /* tasks between two looks at the clock */

/* Indexes on the stack of describe_tasks. */
enum { FROM = 1, SECONDS, KNOWN, LIST, ANCHORS };

struct frame {
    const char *source;
    int line, defined;
};

/* ---- stacks ---- */

static void
add_line(lua_State *L, luaL_Buffer *b, lua_Debug *ar)
{
    if (luaL_bufflen(b) > 0)
        luaL_addchar(b, '\n');
    if (*ar->what == 'C')
        lua_pushfstring(L, "[C]: in %s '%s'", ar->namewhat, ar->name);
    else if (*ar->namewhat)
        lua_pushfstring(L, "%s:%d: in %s '%s'", ar->short_src, ar->currentline, ar->namewhat,
                        ar->name);
    else if (*ar->what == 'm')
        lua_pushfstring(L, "%s:%d: in main chunk", ar->short_src, ar->currentline);
    else
        lua_pushfstring(L, "%s:%d: in function <%s:%d>", ar->short_src, ar->currentline,
                        ar->short_src, ar->linedefined);
    luaL_addvalue(b);
}

int
lmpe_is_shown(lua_State *co, lua_Debug *ar, int level)
{
    lua_Debug caller;
    lua_getinfo(co, "Sln", ar);
    if (*ar->what != 'C')
        return !lmpe_is_library(ar->source) && ar->currentline > 0;
    if (!*ar->namewhat || !lua_getstack(co, level + 1, &caller))
        return 0;
    lua_getinfo(co, "S", &caller);
    return *caller.what != 'C' && !lmpe_is_library(caller.source);
}

/* Notes the frames of a coroutine behind those that are there; returns how many there are. */
static int
note_frames(lua_State *co, struct frame *f, int n)
{
    lua_Debug ar;
    for (int level = 0; n < LEVELS && lua_getstack(co, level, &ar); level++)
        if (lmpe_is_shown(co, &ar, level))
            f[n++] = (struct frame){ar.source, ar.currentline, ar.linedefined};
    return n;
}

static void
add_lines(lua_State *L, luaL_Buffer *b, lua_State *co)
{
    lua_Debug ar;
    for (int level = 0; level < LEVELS && lua_getstack(co, level, &ar); level++)
        if (lmpe_is_shown(co, &ar, level))
            add_line(L, b, &ar);
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

/* Pushes the number of the stack of a task; its text is in known.texts from now on. */
static void
push_stack_number(lua_State *L, lmpe_task *t)
{
    struct frame f[LEVELS];
    memset(f, 0, sizeof f);
    int n = 0;
    lmpe_link *l = t->S->links;
    for (lua_State *co = NULL; (co = lmpe_next_coroutine(L, t, co, &l)) != NULL;)
        n = note_frames(co, f, n);
    lua_pushlstring(L, (const char *)f, (size_t)n * sizeof *f);
    lua_pushvalue(L, -1);
    if (lua_rawget(L, KNOWN) != LUA_TNIL) {
        lua_remove(L, -2);
        return;
    }
    lua_pop(L, 1);
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    l = t->S->links;
    for (lua_State *co = NULL; (co = lmpe_next_coroutine(L, t, co, &l)) != NULL;)
        add_lines(L, &b, co);
    luaL_pushresult(&b);
    lua_getfield(L, KNOWN, "texts");
    lua_Integer number = luaL_len(L, -1) + 1;
    lua_pushvalue(L, -2);
    lua_rawseti(L, -2, number);
    lua_pop(L, 2);
    lua_pushinteger(L, number);
    lua_insert(L, -2);
    lua_pushvalue(L, -2);
    lua_rawset(L, KNOWN);
}

/* ---- tasks ---- */

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

static const char *
state_of(const lmpe_task *t)
{
    static const char *const names[] = {"ready", "ready", "running", "waiting", "ended"};
    return names[t->state];
}

/* The task is on top; the table that describes it is pushed. */
static void
push_description(lua_State *L, lmpe_task *t)
{
    int task = lua_gettop(L);
    lua_createtable(L, 0, 12);
    lua_pushvalue(L, task);
    lmpe_push_task_name(L, t);
    lua_setfield(L, task + 1, "name");
    lua_settop(L, task + 1);
    lua_pushinteger(L, lmpe_task_number(t));
    lua_setfield(L, -2, "id");
    lua_pushstring(L, state_of(t));
    lua_setfield(L, -2, "state");
    push_stack_number(L, t);
    lua_setfield(L, task + 1, "stack");
    lua_settop(L, task + 1);
    if (t->site && lmpe_push_site(L, t->S, t->site))
        lua_setfield(L, task + 1, "spawned");
    lua_settop(L, task + 1);
    if (t->state != LMPE_WAITING)
        return;
    uint32_t waited = lmpe_moment(mpe_now()) - t->since;
    lua_pushnumber(L, (lua_Number)waited * (1 << 20) / MPE_NS_PER_S);
    lua_setfield(L, task + 1, "seconds");
    lmpe_describe_wait(L, t, task + 1);
    lua_settop(L, task + 1);
}

/* describe_tasks(from, seconds, known) -> a list of tables, the place to go on from | nil. Of the script's
 * tasks: name, id, state, stack (number in known.texts), spawned (lines), and of a wait: seconds,
 * waits_for, and what of object (handle), slot, holder applies. */
static int
describe_tasks(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    uint32_t place = (uint32_t)luaL_checkinteger(L, FROM), n = 0;
    uint64_t until = mpe_now() + (uint64_t)(luaL_checknumber(L, SECONDS) * MPE_NS_PER_S);
    luaL_checktype(L, KNOWN, LUA_TTABLE);
    lua_settop(L, KNOWN);
    luaL_checkstack(L, 40, NULL);
    lua_newtable(L);
    lmpe_push_anchors(L);
    for (; place <= S->anchor_top; place++) {
        lua_rawgeti(L, ANCHORS, place);
        lmpe_task *t = lua_touserdata(L, -1);
        if (t && !t->background) {
            push_description(L, t);
            lua_rawseti(L, LIST, ++n);
        }
        lua_settop(L, ANCHORS);
        if (n % CLOCK_EVERY == 0 && mpe_now() > until)
            break;
    }
    lua_settop(L, LIST);
    if (place > S->anchor_top)
        return 1;
    lua_pushinteger(L, place + 1);
    return 2;
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
lmpe_open_describe(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"describe_tasks", describe_tasks},
                                         {"running_for", running_for},
                                         {"function_name", function_name},
                                         {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
}
