/* SPDX-License-Identifier: MIT
 *
 * ldescribe_wait.c - what a waiting task waits for, for readers: a shared object by its handle, all else in
 * words; and the tasks that must go on first. For tasks and objects of mp.co no Lua value is made.
 * It is read off the stack of the task: waiting itself records nothing.
 */
#include "base/llabel.h"
#include "base/lobject.h"
#include "task/ldescribe.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define TITLES 4 /* of several objects */

/* ---- titles ---- */

struct line {
    char text[512];
    size_t size;
};

__attribute__((format(printf, 2, 3))) static void
add(struct line *l, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(l->text + l->size, sizeof l->text - l->size, format, args);
    va_end(args);
    l->size += (size_t)(n > 0 ? n : 0);
    if (l->size >= sizeof l->text)
        l->size = sizeof l->text - 1;
}

static void
add_bytes(struct line *l, const char *bytes, size_t size)
{
    size_t room = sizeof l->text - 1 - l->size;
    size = size < room ? size : room;
    memcpy(l->text + l->size, bytes, size);
    l->size += size;
}

/* A string of the script's, on top, as a text for people; popped. */
static void
add_escaped(lua_State *L, struct line *l)
{
    size_t size;
    const char *bytes = lua_tolstring(L, -1, &size);
    lmpe_push_escaped(L, bytes, size);
    bytes = lua_tolstring(L, -1, &size);
    add_bytes(l, bytes, size);
    lua_pop(L, 2);
}

/* " 'name'" for the string on top; nothing for another value. It is popped. */
static int
add_name(lua_State *L, struct line *l)
{
    if (lua_type(L, -1) != LUA_TSTRING) {
        lua_pop(L, 1);
        return 0;
    }
    add(l, " '");
    add_escaped(L, l);
    add(l, "'");
    return 1;
}

static void
add_task(lua_State *L, struct line *l, lmpe_task *t)
{
    static const char *const states[] = {"ready", "ready", "running", "waiting", "ended"};
    add(l, "mp.Task: ");
    lmpe_push_task_name(L, t);
    add_escaped(L, l);
    add(l, " (%s)", states[t->state]);
}

/* The object on top is one of mp.co: 1, and its name, kind and place are known. */
static int
add_co_object(lua_State *L, struct line *l, uint32_t *place)
{
    int top = lua_gettop(L), is_queue = lmpe_coqueue_label(L, top, place);
    if (!is_queue && !lua_istable(L, top))
        return 0;
    if (luaL_getmetafield(L, top, "__name") != LUA_TSTRING ||
        strncmp(lua_tostring(L, -1), "mp.co.", 6) != 0) {
        lua_settop(L, top);
        return 0;
    }
    add(l, "%s", lua_tostring(L, -1));
    if (is_queue) {
        lua_pushvalue(L, top + 1);
    } else {
        lua_pushliteral(L, "waiting");
        lua_rawget(L, top);
        *place = lmpe_waitlist_place(L, -1);
        lua_pushliteral(L, "name");
        lua_rawget(L, top);
    }
    if (add_name(L, l))
        *place = 0;
    lua_settop(L, top);
    return 1;
}

/* Something else says itself what it is, as long as few do. */
static void
add_other(lua_State *L, lmpe_description *d, struct line *l)
{
    size_t size;
    int top = lua_gettop(L);
    int is_object = luaL_getmetafield(L, -1, "__name") == LUA_TSTRING;
    const char *text = is_object ? lua_tolstring(L, -1, &size) : NULL;
    if (is_object && lmpe_describe_asks(d))
        text = luaL_tolstring(L, top, &size);
    if (text)
        add_bytes(l, text, size);
    else
        add(l, "an answer");
    lua_settop(L, top);
}

/* What the value on top is. */
static void
add_title(lua_State *L, lmpe_description *d, struct line *l, uint32_t *place)
{
    int top = lua_gettop(L);
    lmpe_task *t = lmpe_test_task(L, -1);
    lmpe_box *b = t ? NULL : lmpe_test_any(L, -1);
    *place = 0;
    if (t)
        add_task(L, l, t);
    else if (b)
        lmpe_push_identity(L, b), add(l, "%s", lua_tostring(L, -1));
    else if (lua_isinteger(L, -1))
        add(l, "descriptor %d", (int)lua_tointeger(L, -1));
    else if (!add_co_object(L, l, place))
        add_other(L, d, l);
    lua_settop(L, top);
}

/* ---- several ---- */

static void
add_dependence(lmpe_wait_told *w, const lmpe_task *t)
{
    if (t && t->state != LMPE_DONE && w->depends < LMPE_DEPENDS)
        w->numbers[w->depends++] = (uint32_t)lmpe_task_number(t);
}

/* The list on top: of tasks that are joined, or of things of which any will do. */
static void
add_several(lua_State *L, lmpe_description *d, struct line *l, lmpe_wait_told *w, int is_any)
{
    uint32_t place;
    int list = lua_gettop(L);
    lua_Integer n = (lua_Integer)lua_rawlen(L, list), titles = 0;
    add(l, is_any ? "any of %d things" : "the ends of %d tasks", (int)n);
    for (lua_Integer i = 1; i <= n && (is_any ? titles < TITLES : w->depends < LMPE_DEPENDS); i++) {
        lua_rawgeti(L, list, i);
        lmpe_resolve_subject(L);
        lmpe_task *t = lmpe_test_task(L, -1);
        if (!is_any)
            add_dependence(w, t);
        int is_shown = titles < TITLES && (!t || t->state != LMPE_DONE);
        if (is_shown) {
            add(l, titles++ == 0 ? ": " : ", ");
            add_title(L, d, l, &place);
        }
        lua_settop(L, list);
    }
    if (n > titles && titles > 0)
        add(l, ", ...");
}

/* The children of the scope on top, which must all end. 0: it is none. */
static int
add_children(lua_State *L, struct line *l, lmpe_wait_told *w)
{
    int top = lua_gettop(L);
    if (!lua_istable(L, top) || luaL_getmetafield(L, top, "__name") != LUA_TSTRING ||
        strcmp(lua_tostring(L, -1), "mp.Scope") != 0) {
        lua_settop(L, top);
        return 0;
    }
    lua_pushliteral(L, "children");
    lua_rawget(L, top);
    int children = lua_gettop(L), count = 0;
    for (lua_pushnil(L); lua_istable(L, children) && lua_next(L, children); lua_pop(L, 1)) {
        add_dependence(w, lmpe_test_task(L, -2));
        if (++count == LMPE_DEPENDS) {
            lua_pop(L, 2);
            break;
        }
    }
    add(l, "mp.Scope: the ends of %d tasks", count);
    lua_settop(L, top);
    return 1;
}

/* ---- one ---- */

/* The number of the task that holds the lock of mp.co on top, or is what is on top; 0: none. */
static lua_Integer
holder_of(lua_State *L)
{
    static const char *const fields[] = {"owner", "held"};
    lua_Integer number = 0;
    lmpe_task *t = lmpe_test_task(L, -1);
    if (t)
        return t->state == LMPE_DONE ? 0 : lmpe_task_number(t);
    if (!lua_istable(L, -1) || !luaL_getmetafield(L, -1, "__name"))
        return 0;
    lua_pop(L, 1);
    for (int i = 0; i < 2 && number == 0; i++) {
        lua_pushstring(L, fields[i]);
        lua_rawget(L, -2);
        if (lua_isinteger(L, -1))
            number = lua_tointeger(L, -1) & (MPE_OWNER_FIRST - 1);
        lua_pop(L, 1);
    }
    return number;
}

static int
is_plain_table(lua_State *L)
{
    int has = lua_getmetatable(L, -1);
    lua_pop(L, has);
    return !has && lua_istable(L, -1);
}

static void
add_subject(lua_State *L, lmpe_description *d, lmpe_task *t, struct line *l, lmpe_wait_told *w)
{
    if (!lmpe_push_subject(L, t)) {
        add(l, "an answer");
        return;
    }
    if (lua_type(L, -1) == LUA_TSTRING) {
        add(l, "module");
        add_name(L, l);
        add(l, ", which another task loads");
        return;
    }
    int is_any = luaL_testudata(L, -1, LMPE_ANY) != NULL;
    lmpe_resolve_subject(L);
    if (is_plain_table(L)) {
        add_several(L, d, l, w, is_any);
    } else if (!add_children(L, l, w)) {
        lua_Integer number = is_any ? 0 : holder_of(L);
        if (number) {
            w->slot = mpe_self_slot(t->S->e) + 1;
            w->holder = number;
        }
        add_title(L, d, l, &w->place);
    }
}

static void
add_await(lua_State *L, lmpe_description *d, lmpe_task *t, struct line *l, lmpe_wait_told *w)
{
    uint32_t slot;
    lmpe_await *a = &t->wait->await;
    if (lmpe_find_owner(t, &slot, &w->holder))
        w->slot = slot + 1;
    if (a->source == LMPE_OBJECT)
        w->object = mpe_handle_of(t->S->e, a->on.object);
    else if (a->source == LMPE_FD)
        add(l, "descriptor %d", a->on.fd);
    else if (a->source == LMPE_PROCESS)
        add(l, "the end of the process with pid %d", mpe_process_pid(a->on.process));
    else
        add_subject(L, d, t, l, w);
}

void
lmpe_describe_wait(lua_State *L, lmpe_description *d, lmpe_task *t, lmpe_wait_told *w)
{
    struct line l;
    l.size = 0;
    int top = lua_gettop(L);
    if (t->uses_await)
        add_await(L, d, t, &l, w);
    else if (t->w.list)
        add_subject(L, d, t, &l, w);
    else
        add(&l, "the end of its sleep");
    lua_settop(L, top);
    if (l.size > 0)
        w->text = lmpe_describe_text(d, l.text, l.size);
}
