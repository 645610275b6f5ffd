/* SPDX-License-Identifier: MIT
 *
 * ltrace.c - what a trace is told of tasks. The callers have seen that there is one. A task is told by
 * its number; where it was spawned by the number of the site, whose name is told again for each half of
 * the ring; what it waits for in this process by a hash of its title, which is told as often as a rule.
 */
#include "base/lhash.h"
#include "base/lmodules.h"
#include "base/lsite.h"
#include "task/ltask_int.h"

#include <stdio.h>
#include <stdlib.h>
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

/* What this part of the trace was told; made at first use. NULL: there is no memory. */
static struct lmpe_told *
told(lmpe *S)
{
    uint64_t part = mpe_trace_part(S->e);
    if (!S->told)
        S->told = calloc(1, sizeof *S->told);
    if (!S->told)
        return NULL;
    if (S->told->trace != *S->trace || S->told->part != part)
        memset(S->told, 0, sizeof *S->told);
    S->told->trace = *S->trace;
    S->told->part = part;
    return S->told;
}

/* Makes no Lua value. */
static void
tell_site(lua_State *L, lmpe *S, uint32_t site)
{
    size_t size;
    struct lmpe_told *t = told(S);
    if (!t || site >= SITES || t->sites[site] || !lua_checkstack(L, 3))
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

static const char name_key; /* in the registry: the string "name" */

#define TITLE_MAX 160u /* bytes of a title; names may be longer */

struct title {
    const char *kind; /* NULL: unknown */
    const char *name; /* NULL: none */
    size_t size;
    uint32_t place;
};

/* A wait is noted between the moment when its waiter is filed and the one when it waits. No code may run
 * there that could fire the waiter, so none that could start the collector, whose finalizers are code of
 * the script's: what follows makes no Lua value, and calls only what makes none. */

static void
read_name(lua_State *L, struct title *t)
{
    if (lua_type(L, -1) == LUA_TSTRING)
        t->name = lua_tolstring(L, -1, &t->size);
}

/* The kind of the value on top, and its name, if it is an object of mp.co. */
static void
read_object(lua_State *L, struct title *t)
{
    int object = lua_gettop(L);
    if (!lua_getmetatable(L, object) || lua_getfield(L, -1, "__name") != LUA_TSTRING)
        return;
    t->kind = lua_tostring(L, -1);
    if (!lua_istable(L, object) || strncmp(t->kind, "mp.co.", 6) != 0)
        return;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &name_key);
    lua_rawget(L, object);
    read_name(L, t);
}

static void
read_task(lua_State *L, lmpe_task *task, struct title *t)
{
    t->kind = "mp.Task";
    lmpe_push_extra(L, 1);
    if (lua_istable(L, -1) && lua_getfield(L, -1, "name") == LUA_TSTRING) {
        read_name(L, t);
    } else if (task == task->S->main_task) {
        t->name = "main";
        t->size = 4;
    } else {
        lmpe_push_site_name(L, task->site);
        read_name(L, t);
    }
}

/* The title of the first argument of the function that waits. Its strings stay on the stack. */
static struct title
read_title(lua_State *L)
{
    struct title t = {NULL, NULL, 0, 0};
    lmpe_task *task;
    int type = lua_gettop(L) > 0 ? lua_type(L, 1) : LUA_TNIL;
    if (type == LUA_TTABLE) {
        t.kind = "the ends of tasks";
    } else if (type == LUA_TSTRING) {
        t.kind = "module";
        lua_pushvalue(L, 1);
        read_name(L, &t);
    } else if (type != LUA_TUSERDATA) {
        return t;
    } else if (lmpe_coqueue_label(L, 1, &t.place)) {
        read_name(L, &t);
        lua_pushvalue(L, 1);
        if (lua_getmetatable(L, -1) && lua_getfield(L, -1, "__name") == LUA_TSTRING)
            t.kind = lua_tostring(L, -1);
    } else if ((task = lmpe_test_task(L, 1)) != NULL) {
        read_task(L, task, &t);
    } else if (luaL_testudata(L, 1, LMPE_WAITLIST)) {
        t.place = lmpe_waitlist_place(L, 1);
        lua_getiuservalue(L, 1, 1);
        read_object(L, &t);
    } else {
        lua_pushvalue(L, 1);
        read_object(L, &t);
    }
    if (t.name)
        t.place = 0;
    return t;
}

static uint32_t
hash_title(const struct title *t)
{
    uint64_t h = lmpe_hash_more(LMPE_HASH_SEED ^ t->place, t->kind, strlen(t->kind));
    h = lmpe_hash_more(h, t->name, t->size);
    return (uint32_t)(h ^ h >> 32) | 1;
}

/* As the kind and its place, or, behind a zero, its name. */
static void
tell_title(lmpe *S, const struct title *t, uint32_t number)
{
    char text[TITLE_MAX];
    const char *place = t->place ? mpe_place_text(S->e, t->place) : NULL;
    int n = place ? snprintf(text, sizeof text, "%s made at %s", t->kind, place)
                  : snprintf(text, sizeof text, "%s", t->kind);
    size_t size = n < (int)sizeof text ? (size_t)n : sizeof text - 1;
    if (t->name) {
        size_t room = sizeof text - ++size;
        room = room < t->size ? room : t->size;
        memcpy(text + size, t->name, room);
        size += room;
    }
    mpe_trace_add(S->e, MPE_TRACE_TITLE, number, 0, size);
    mpe_trace_text(S->e, text, size);
}

void
lmpe_trace_list(lua_State *L, lmpe_task *t)
{
    int top = lua_gettop(L);
    lmpe *S = t->S;
    uint32_t number = 0;
    struct title title = {NULL, NULL, 0, 0};
    if (lua_checkstack(L, 8))
        title = read_title(L);
    struct lmpe_told *known = told(S);
    if (title.kind && known) {
        number = hash_title(&title);
        uint32_t *place = &known->titles[number & (TITLES - 1)];
        if (*place != number)
            tell_title(S, &title, number);
        *place = number;
    }
    lua_settop(L, top);
    lmpe_trace_task(t, MPE_TRACE_WAIT, number, MPE_TRACE_OF_TASKS);
}

void
lmpe_trace_open(lua_State *L)
{
    lua_pushliteral(L, "name");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &name_key);
}

void
lmpe_trace_forget(lmpe *S)
{
    free(S->told);
    S->told = NULL;
}
