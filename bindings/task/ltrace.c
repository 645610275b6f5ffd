/* SPDX-License-Identifier: MIT
 *
 * ltrace.c - what a trace is told of tasks. The callers have seen that there is one. A task is told by
 * its number; where it was spawned by the number of the site, whose name is told again for each half of
 * the ring; what it waits for in this process by a hash of its title, which is told as often as a rule.
 */
#include "base/llabel.h"
#include "base/lmodules.h"
#include "base/lsite.h"
#include "task/ltask_int.h"

#include <string.h>

#define SITES 4096u
#define TITLES 1024u /* a power of two */

struct lmpe_told {
    uint64_t trace, part; /* that were told */
    uint8_t sites[SITES];
    uint32_t titles[TITLES]; /* the last number told of those that have this place */
};

void
lmpe_trace_task(lmpe_task *t, uint32_t what, uint64_t object, uint64_t more)
{
    mpe_trace_add(t->S->e, what, (uint32_t)lmpe_task_number(t), object, more);
}

/* What this part of the trace was told; made at first use. */
static struct lmpe_told *
told(lua_State *L, lmpe *S)
{
    uint64_t part = mpe_trace_part(S->e);
    if (!S->told) {
        S->told = memset(lua_newuserdatauv(L, sizeof *S->told, 0), 0, sizeof *S->told);
        lua_rawsetp(L, LUA_REGISTRYINDEX, S->told);
    }
    if (S->told->trace != *S->trace || S->told->part != part)
        memset(S->told, 0, sizeof *S->told);
    S->told->trace = *S->trace;
    S->told->part = part;
    return S->told;
}

/* Allocates nothing but what told does. */
static void
tell_site(lua_State *L, lmpe *S, uint32_t site)
{
    size_t size;
    struct lmpe_told *t = told(L, S);
    if (site >= SITES || t->sites[site] || !lua_checkstack(L, 3))
        return;
    t->sites[site] = 1;
    lmpe_push_site_name(L, site);
    const char *name = lua_tolstring(L, -1, &size);
    if (name) {
        mpe_trace_add(S->e, MPE_TRACE_SITE, site, 0, size);
        mpe_trace_text(S->e, name, size);
    }
    lua_pop(L, 1);
}

void
lmpe_trace_run(lmpe_task *t)
{
    lmpe *S = t->S;
    if (t->site && S->told)
        tell_site(S->driver, S, t->site);
    lmpe_trace_task(t, MPE_TRACE_RUN, 0, t == S->main_task ? MPE_TRACE_MAIN : t->site);
}

void
lmpe_trace_spawn(lua_State *L, lmpe_task *t)
{
    if (t->site)
        tell_site(L, t->S, t->site);
    lmpe_trace_task(t, MPE_TRACE_SPAWN, 0, t->site);
}

/* ---- what tasks wait for in this process ---- */

struct title {
    const char *kind; /* NULL: unknown */
    const char *name; /* NULL: none */
    size_t size;
    uint32_t place;
};

/* The kind of the value on top, and its name, if it is an object of mp.co. */
static void
read_object(lua_State *L, struct title *t)
{
    int object = lua_gettop(L);
    if (luaL_getmetafield(L, object, "__name") != LUA_TSTRING)
        return;
    t->kind = lua_tostring(L, -1);
    if (!lua_istable(L, object) || strncmp(t->kind, "mp.co.", 6) != 0)
        return;
    lua_pushliteral(L, "name");
    lua_rawget(L, object);
    t->name = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &t->size) : NULL;
}

/* The title of the first argument of the function that waits. Its strings stay on the stack. */
static struct title
read_title(lua_State *L)
{
    struct title t = {NULL, NULL, 0, 0};
    if (lua_gettop(L) == 0)
        return t;
    if (lmpe_coqueue_label(L, 1, &t.place)) {
        t.name = lua_tolstring(L, -1, &t.size);
        luaL_getmetafield(L, 1, "__name");
        t.kind = lua_tostring(L, -1);
    } else if (luaL_testudata(L, 1, LMPE_WAITLIST)) {
        t.place = lmpe_waitlist_place(L, 1);
        lua_getiuservalue(L, 1, 1);
        read_object(L, &t);
    } else if (lmpe_test_task(L, 1)) {
        t.kind = "mp.Task";
        lua_pushvalue(L, 1);
        lmpe_push_task_name(L, lmpe_test_task(L, 1));
        t.name = lua_tolstring(L, -1, &t.size);
    } else if (lua_type(L, 1) == LUA_TSTRING) {
        t.kind = "module";
        t.name = lua_tolstring(L, 1, &t.size);
    } else if (lua_type(L, 1) == LUA_TUSERDATA) {
        lua_pushvalue(L, 1);
        read_object(L, &t);
    } else if (lua_istable(L, 1)) {
        t.kind = "the ends of tasks";
    }
    if (t.name)
        t.place = 0;
    return t;
}

static uint32_t
hash_title(const struct title *t)
{
    uint64_t h = 0xcbf29ce484222325u ^ t->place;
    for (const char *k = t->kind; *k; k++)
        h = (h ^ (uint8_t)*k) * 0x100000001b3u;
    for (size_t i = 0; i < t->size; i++)
        h = (h ^ (uint8_t)t->name[i]) * 0x100000001b3u;
    return (uint32_t)(h ^ h >> 32) | 1;
}

static void
tell_title(lua_State *L, lmpe *S, const struct title *t, uint32_t number)
{
    const char *text, *place = mpe_place_text(S->e, t->place);
    if (t->name)
        lmpe_push_escaped(L, t->name, t->size);
    if (t->name)
        text = lua_pushfstring(L, "%s '%s'", t->kind, lua_tostring(L, -1));
    else if (place)
        text = lua_pushfstring(L, "%s made at %s", t->kind, place);
    else
        text = lua_pushstring(L, t->kind);
    size_t size = strlen(text);
    mpe_trace_add(S->e, MPE_TRACE_TITLE, number, 0, size);
    mpe_trace_text(S->e, text, size);
}

void
lmpe_trace_list(lua_State *L, lmpe_task *t)
{
    int top = lua_gettop(L);
    lmpe *S = t->S;
    luaL_checkstack(L, 8, NULL);
    struct title title = read_title(L);
    uint32_t number = title.kind ? hash_title(&title) : 0;
    if (number) {
        uint32_t *place = &told(L, S)->titles[number & (TITLES - 1)];
        if (*place != number)
            tell_title(L, S, &title, number);
        *place = number;
    }
    lua_settop(L, top);
    lmpe_trace_task(t, MPE_TRACE_WAIT, number, MPE_TRACE_OF_TASKS);
}
