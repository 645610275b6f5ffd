/* SPDX-License-Identifier: MIT
 *
 * lview.c - programs as readers see them, for mpengine/look.lua: views as userdata, with methods that
 * give tables. Nothing here asks the program anything but `ask`, which begins a question: lask.c.
 */
#include "base/lmodules.h"
#include "base/lsystem.h"
#include "base/lobject.h"
#include "process/lview.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#define VIEW "mpengine.view"
#define KINDS 32
#define PLACES 1025 /* with that of the objects whose place is unknown */

mpe_view *
lmpe_check_view(lua_State *L, int idx)
{
    mpe_view **box = luaL_checkudata(L, idx, VIEW);
    luaL_argcheck(L, *box, idx, "the view is closed");
    return *box;
}

static mpe_view **
new_box(lua_State *L)
{
    mpe_view **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    luaL_setmetatable(L, VIEW);
    return box;
}

/* Pushes nil and why there is no view: a word for the caller. */
static int
refuse(lua_State *L, int status)
{
    luaL_pushfail(L);
    lua_pushstring(L, status == MPE_ENOENT     ? "gone"
                      : status == MPE_ETYPE    ? "none"
                      : status == MPE_EPERM    ? "foreign"
                      : status == MPE_EVERSION ? "version"
                      : status != MPE_ESYS     ? mpe_strerror(status)
                      : errno == ENOENT        ? "hidden"
                                               : lmpe_reason(errno));
    return 2;
}

/* view([pid]) -> a view of the program of that process, or of the own one | nil, "gone" | "none" |
 * "foreign" | "version" | "hidden" (there is no /proc) | message */
static int
view(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    int is_own = lua_isnoneornil(L, 1);
    lua_Integer pid = is_own ? 0 : luaL_checkinteger(L, 1);
    if (pid < 0 || pid > INT_MAX)
        return refuse(L, MPE_ENOENT);
    mpe_view **box = new_box(L);
    int rc = is_own ? mpe_view_own(S->e, box) : mpe_view_open((int)pid, box);
    return rc == MPE_OK ? 1 : refuse(L, rc);
}

static int
view_close(lua_State *L)
{
    mpe_view **box = luaL_checkudata(L, 1, VIEW);
    mpe_view_close(*box);
    *box = NULL;
    return 0;
}

/* The list is at index 1. */
static void
add_view(void *ud, int pid, int status, mpe_view *v)
{
    lua_State *L = ud;
    if (v)
        *new_box(L) = v;
    else
        refuse(L, status);
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, pid);
    lua_setfield(L, -2, "pid");
    lua_insert(L, 2);
    if (!v)
        lua_setfield(L, 2, "reason");
    lua_setfield(L, 2, "view");
    lua_rawseti(L, 1, luaL_len(L, 1) + 1);
}

/* views() -> a list of { pid, view | reason }, one for each program of this user | nil, reason */
static int
views(lua_State *L)
{
    lua_settop(L, 0);
    lua_newtable(L);
    int rc = mpe_views_each(add_view, L);
    return rc == MPE_OK ? 1 : refuse(L, rc);
}

/* ---- tables ---- */

static void
set_integer(lua_State *L, const char *key, uint64_t value)
{
    lua_pushinteger(L, (lua_Integer)value);
    lua_setfield(L, -2, key);
}

static void
set_boolean(lua_State *L, const char *key, int value)
{
    lua_pushboolean(L, value);
    lua_setfield(L, -2, key);
}

static void
set_command(lua_State *L, const char *command)
{
    lua_newtable(L);
    for (lua_Integer n = 1; *command; n++, command += strlen(command) + 1) {
        lua_pushstring(L, command);
        lua_rawseti(L, -2, n);
    }
    lua_setfield(L, -2, "command");
}

/* v:info() -> { created (seconds), nonce, limit, committed, processes, tasks, objects, command (list) } */
static int
view_info(lua_State *L)
{
    mpe_view_info info;
    mpe_view_info_get(lmpe_check_view(L, 1), &info);
    lua_createtable(L, 0, 8);
    lua_pushnumber(L, (lua_Number)info.created_ns / MPE_NS_PER_S);
    lua_setfield(L, -2, "created");
    set_integer(L, "nonce", info.nonce);
    set_integer(L, "limit", info.limit_bytes);
    set_integer(L, "committed", info.committed_bytes);
    set_integer(L, "processes", info.processes);
    set_integer(L, "tasks", info.tasks);
    set_integer(L, "objects", info.objects);
    set_command(L, info.command);
    return 1;
}

/* v:processes() -> a list of { slot, pid, parent (its slot) | nil, name, sleeps, answers, tasks } */
static int
view_processes(lua_State *L)
{
    mpe_view *v = lmpe_check_view(L, 1);
    mpe_view_process p;
    uint32_t at = 0;
    lua_newtable(L);
    for (lua_Integer n = 1; mpe_view_process_next(v, &at, &p) == MPE_OK; n++) {
        lua_createtable(L, 0, 8);
        set_integer(L, "slot", p.slot);
        set_integer(L, "generation", p.generation);
        set_integer(L, "pid", (uint64_t)p.pid);
        set_integer(L, "tasks", p.tasks);
        set_boolean(L, "sleeps", p.sleeps);
        set_boolean(L, "answers", p.answers);
        lua_pushstring(L, p.name);
        lua_setfield(L, -2, "name");
        if (p.parent_slot >= 0)
            set_integer(L, "parent", (uint64_t)p.parent_slot);
        lua_rawseti(L, -2, n);
    }
    return 1;
}

/* Pushes the slots of the processes with a task that waits for it. */
static void
push_waiting(lua_State *L, mpe_view *v, uint32_t index)
{
    lua_Integer n = 0;
    lua_newtable(L);
    for (uint32_t slot = 0; slot < 256; slot++) {
        if (!mpe_view_waits(v, index, slot))
            continue;
        lua_pushinteger(L, slot);
        lua_rawseti(L, -2, ++n);
    }
}

static void
push_object(lua_State *L, mpe_view *v, uint32_t index, const mpe_view_object *o)
{
    lua_createtable(L, 0, 12);
    set_integer(L, "index", index);
    set_integer(L, "handle", o->handle);
    lua_pushstring(L, mpe_kind_name(o->kind));
    lua_setfield(L, -2, "kind");
    if (o->name.data)
        lua_pushlstring(L, o->name.data, o->name.size), lua_setfield(L, -2, "name");
    if (o->place)
        lua_pushstring(L, o->place), lua_setfield(L, -2, "place");
    set_integer(L, "holders", o->holders);
    set_integer(L, "depth", o->depth);
    set_integer(L, "bound", o->bound);
    set_integer(L, "puts", o->puts);
    set_integer(L, "gets", o->gets);
    set_boolean(L, "is_set", o->is_set);
    set_boolean(L, "is_closed", o->is_closed);
    set_boolean(L, "abandoned", o->lock.abandoned);
    if (o->lock.locked) {
        set_integer(L, "owner", o->lock.slot);
        set_integer(L, "owner_task", o->lock.task & (MPE_OWNER_FIRST - 1));
        set_integer(L, "levels", o->lock.levels);
    }
    if (o->queues[0])
        set_integer(L, "queue", o->queues[0]);
    if (o->queues[1])
        set_integer(L, "other_queue", o->queues[1]);
    if (o->waiters > 0)
        push_waiting(L, v, index), lua_setfield(L, -2, "waiting");
}

static int
is_queue(int kind)
{
    return kind == MPE_KIND_QUEUE || kind == MPE_KIND_JOINABLE;
}

/* v:objects([all]) -> a list of those that are held or waited for, and queues with items; or of all */
static int
view_objects(lua_State *L)
{
    mpe_view *v = lmpe_check_view(L, 1);
    mpe_view_object o;
    uint32_t at = 0;
    int all = lua_toboolean(L, 2);
    lua_newtable(L);
    for (lua_Integer n = 1; mpe_view_object_next(v, &at, &o) == MPE_OK;) {
        if (!all && !o.lock.locked && o.waiters == 0 && !(is_queue(o.kind) && o.depth > 0))
            continue;
        push_object(L, v, at, &o);
        lua_rawseti(L, -2, n++);
    }
    return 1;
}

/* v:object(index) -> that one | nil */
static int
view_object(lua_State *L)
{
    mpe_view *v = lmpe_check_view(L, 1);
    uint32_t index = (uint32_t)luaL_checkinteger(L, 2), at = index - 1;
    mpe_view_object o;
    if (index == 0 || mpe_view_object_next(v, &at, &o) != MPE_OK || at != index)
        return 0;
    push_object(L, v, at, &o);
    return 1;
}

/* v:census() -> a list of { kind, place, count, items }: how many objects were made where */
static int
view_census(lua_State *L)
{
    mpe_view *v = lmpe_check_view(L, 1);
    mpe_view_object o;
    uint32_t at = 0;
    lua_newtable(L);
    lua_newtable(L); /* kind and place -> entry */
    while (mpe_view_object_next(v, &at, &o) == MPE_OK) {
        const char *kind = mpe_kind_name(o.kind), *place = o.place ? o.place : "?";
        lua_pushfstring(L, "%s %s", kind ? kind : "?", place);
        lua_pushvalue(L, -1);
        if (lua_rawget(L, 3) == LUA_TNIL) {
            lua_pop(L, 1);
            lua_createtable(L, 0, 4);
            lua_pushstring(L, kind), lua_setfield(L, -2, "kind");
            lua_pushstring(L, place), lua_setfield(L, -2, "place");
            set_integer(L, "count", 0);
            set_integer(L, "items", 0);
            lua_pushvalue(L, -1);
            lua_rawseti(L, 2, luaL_len(L, 2) + 1);
            lua_pushvalue(L, -2);
            lua_pushvalue(L, -2);
            lua_rawset(L, 3);
        }
        lua_getfield(L, -1, "count");
        lua_getfield(L, -2, "items");
        uint64_t count = (uint64_t)lua_tointeger(L, -2), items = (uint64_t)lua_tointeger(L, -1);
        lua_pop(L, 2);
        set_integer(L, "count", count + 1);
        set_integer(L, "items", items + o.depth);
        lua_settop(L, 3);
    }
    lua_settop(L, 2);
    return 1;
}

/* v:place(number) -> the text of a place | nil */
static int
view_place(lua_State *L)
{
    lua_pushstring(L, mpe_view_place(lmpe_check_view(L, 1), (uint32_t)luaL_checkinteger(L, 2)));
    return 1;
}

static void
push_workers(lua_State *L, mpe_view *v, uint32_t index)
{
    mpe_view_worker w;
    uint64_t at = 0, now = mpe_now();
    lua_newtable(L);
    for (lua_Integer n = 1; mpe_view_worker_next(v, index, &at, &w) == MPE_OK; n++) {
        lua_createtable(L, 0, 7);
        set_integer(L, "place", w.worker + 1);
        set_integer(L, "pid", (uint64_t)w.pid);
        set_boolean(L, "runs", w.is_running);
        set_integer(L, "number", w.number);
        set_integer(L, "item", (uint64_t)w.item + 1);
        set_integer(L, "items", w.items);
        lua_pushnumber(L, (lua_Number)w.busy_ns / MPE_NS_PER_S);
        lua_setfield(L, -2, "busy");
        if (w.since)
            lua_pushnumber(L, (lua_Number)(now - w.since) / MPE_NS_PER_S),
                lua_setfield(L, -2, "seconds");
        lua_rawseti(L, -2, n);
    }
}

/* v:pools() -> a list of { index, name, place, workers = { { place, pid, runs, number, item, items, busy,
 * seconds }, ... } } */
static int
view_pools(lua_State *L)
{
    mpe_view *v = lmpe_check_view(L, 1);
    mpe_view_object o;
    uint32_t at = 0;
    lua_newtable(L);
    for (lua_Integer n = 1; mpe_view_object_next(v, &at, &o) == MPE_OK;) {
        if (!o.is_board)
            continue;
        lua_createtable(L, 0, 4);
        set_integer(L, "index", at);
        if (o.name.data)
            lua_pushlstring(L, o.name.data, o.name.size), lua_setfield(L, -2, "name");
        if (o.place)
            lua_pushstring(L, o.place), lua_setfield(L, -2, "place");
        push_workers(L, v, at);
        lua_setfield(L, -2, "workers");
        lua_rawseti(L, -2, n++);
    }
    return 1;
}

/* hide_reader(): this program is not shown as one */
static int
hide_reader(lua_State *L)
{
    mpe_view_hide(lmpe_self(L)->e);
    return 0;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {
        {"view", view}, {"views", views}, {"hide_reader", hide_reader}, {NULL, NULL}};
    static const luaL_Reg methods[] = {
        {"info", view_info},     {"processes", view_processes}, {"objects", view_objects},
        {"object", view_object}, {"census", view_census},       {"pools", view_pools},
        {"place", view_place},   {"close", view_close},         {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
    luaL_newmetatable(L, VIEW);
    lua_createtable(L, 0, 8);
    lmpe_setfuncs(L, S, methods);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, view_close);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "__gc");
    lua_setfield(L, -2, "__close");
    lua_pop(L, 1);
}

const lmpe_module lmpe_view_module = {.open = on_open};
