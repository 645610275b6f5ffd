/* SPDX-License-Identifier: MIT
 *
 * lobject.c - the userdata of shared objects, the same for every kind: a box with the object's
 * handle, held while the box lives. One box per object in a state (a weak table by handle), so
 * objects can be table keys; == compares handles.
 */
#include "base/lfinalize.h"
#include "base/llabel.h"
#include "base/lobject.h"
#include "base/lmodules.h"

#include <stdio.h>
#include <string.h>

static const char boxes_key, types_key; /* by handle; metatables by kind */

/* Into the table below the metatable on top. */
static void
set_methods(lua_State *L, lmpe *S, const luaL_Reg *methods, int into)
{
    into = lua_absindex(L, into);
    int meta = lua_gettop(L);
    for (; methods && methods->name; methods++) {
        lua_pushlightuserdata(L, S);
        lua_pushvalue(L, meta);
        lua_pushcclosure(L, methods->func, 2);
        lua_setfield(L, into, methods->name);
    }
}

static int
count(const luaL_Reg *functions)
{
    int n = 0;
    while (functions && functions[n].name)
        n++;
    return n;
}

lmpe_box *
lmpe_test_any(lua_State *L, int idx)
{
    if (lua_type(L, idx) != LUA_TUSERDATA || !lua_getmetatable(L, idx))
        return NULL;
    lua_rawgetp(L, -1, &types_key); /* every one of our metatables has this mark */
    int ours = lua_toboolean(L, -1);
    lua_pop(L, 2);
    return ours ? lua_touserdata(L, idx) : NULL;
}

const char lmpe_box_tag = 'b';
_Thread_local const void *lmpe_checked[LMPE_CHECKED];

int
lmpe_remember_checked(lua_State *L, int idx, const lmpe_box *b)
{
    if (lua_rawlen(L, idx) != sizeof *b || b->tag != &lmpe_box_tag)
        return 0;
    *lmpe_checked_at(b) = b;
    return 1;
}

/* An object whose box holds nothing any more: a later finalizer uses it. */
static void
raise_gone(lua_State *L, const lmpe_box *b, int idx)
{
    if (!b->S->e)
        lmpe_raise_closed(L);
    luaL_argerror(L, idx, "the object has been collected");
}

lmpe_box *
lmpe_check_self(lua_State *L, int idx)
{
    lmpe_box *b = lua_touserdata(L, idx);
    int same = 0;
    if (b && lua_getmetatable(L, idx)) {
        same = lua_rawequal(L, -1, lua_upvalueindex(2)) && lua_rawlen(L, idx) == sizeof *b;
        lua_pop(L, 1);
        if (same && b->o)
            return b;
    }
    lua_settop(L, idx); /* the name must not take the place of an absent argument */
    if (same)
        raise_gone(L, b, idx);
    lua_getfield(L, lua_upvalueindex(2), "__name");
    luaL_typeerror(L, idx, lua_tostring(L, -1));
    return NULL;
}

lmpe_box *
lmpe_check_kind(lua_State *L, int idx, int kind)
{
    lmpe_box *b = lmpe_test_any(L, idx);
    if (!b || !b->o || mpe_handle_kind(b->h) != kind)
        luaL_typeerror(L, idx, lua_pushfstring(L, "mp.%s", mpe_kind_name(kind)));
    return b;
}

/* A new box with its metatable, not yet holding; and whether one was there already. */
static lmpe_box *
new_box(lua_State *L, lmpe *S, mpe_handle h)
{
    lmpe_box *b = lua_newuserdatauv(L, sizeof *b, 2);
    memset(b, 0, sizeof *b);
    b->tag = &lmpe_box_tag;
    b->S = S;
    b->h = h;
    S->boxes++; /* see lrun.c */
    lua_rawgetp(L, LUA_REGISTRYINDEX, &types_key);
    lua_rawgeti(L, -1, mpe_handle_kind(h));
    lua_setmetatable(L, -3);
    lua_pop(L, 1);
    return b;
}

static int
push_known(lua_State *L, mpe_handle h)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &boxes_key);
    if (lua_rawgeti(L, -1, (lua_Integer)h) == LUA_TUSERDATA &&
        ((lmpe_box *)lua_touserdata(L, -1))->o) { /* else the state is being closed */
        lua_remove(L, -2);
        return 1;
    }
    lua_pop(L, 1);
    return 0; /* the table of boxes stays */
}

static const lmpe_box_calls *
calls_of(const lmpe_box *b)
{
    return b->S->calls[mpe_handle_kind(b->h)];
}

void
lmpe_set_makers(lua_State *L, lmpe *S, const luaL_Reg *makers)
{
    luaL_getsubtable(L, -1, "makers");
    lmpe_setfuncs(L, S, makers);
    lua_pop(L, 1);
}

void
lmpe_box_arrived(lmpe_box *b)
{
    const lmpe_box_calls *calls = calls_of(b);
    if (calls && calls->arrived)
        calls->arrived(b);
}

/* Registers the box on top, which holds its object now, in the table of boxes. */
static void
remember(lua_State *L, lmpe_box *b)
{
    const lmpe_box_calls *calls = calls_of(b);
    if (calls && calls->held)
        calls->held(L, b);
    lua_pushvalue(L, -1);
    lua_rawseti(L, -3, (lua_Integer)b->h);
    lua_remove(L, -2);
}

int
lmpe_push_object(lua_State *L, lmpe *S, mpe_object *o, mpe_handle h)
{
    if (push_known(L, h)) {
        mpe_drop(S->e, o);
        return MPE_OK;
    }
    lmpe_box *b = new_box(L, S, h);
    b->o = o;
    remember(L, b);
    lmpe_weigh_growth(L, S);
    return MPE_OK;
}

int
lmpe_push_handle(lua_State *L, lmpe *S, mpe_handle h)
{
    int kind = mpe_handle_kind(h);
    if (kind <= MPE_KIND_NONE || kind >= MPE_KIND_COUNT)
        return MPE_ESTALE;
    if (push_known(L, h))
        return MPE_OK;
    lmpe_box *b = new_box(L, S, h);
    int rc = mpe_hold(S->e, h, &b->o);
    if (rc != MPE_OK) {
        b->o = NULL;
        lua_pop(L, 2);
        return rc;
    }
    remember(L, b);
    lmpe_weigh_growth(L, S);
    return MPE_OK;
}

int
lmpe_created(lua_State *L, lmpe *S, int status, mpe_object *const *o, const char *function,
             int name)
{
    if (status != MPE_OK)
        return lmpe_raise(L, status, function);
    lmpe_push_object(L, S, *o, mpe_handle_of(S->e, *o));
    int tries = 0;
    do
        status = lmpe_label(L, S, *o, name);
    while (lmpe_try_again(L, S, status, &tries));
    return status == MPE_OK ? 1 : lmpe_raise(L, status, function);
}

static void
forget(lmpe_box *b)
{
    b->o = NULL;
    b->length = 0;
    if (*lmpe_checked_at(b) == b)
        *lmpe_checked_at(b) = NULL;
}

/* The collector calls this for any value to which a script has given one of our metatables. A
 * box that a script passes stays as it is: it may be in use. */
static int
box_gc(lua_State *L)
{
    lmpe_box *b = lua_touserdata(L, 1);
    if (!lmpe_is_finalizing(L) || !b || !lmpe_remember_checked(L, 1, b))
        return 0;
    if (b->o && b->S->e) {
        const lmpe_box_calls *calls = calls_of(b);
        if (calls && calls->collected)
            calls->collected(b);
        mpe_drop(b->S->e, b->o);
    }
    forget(b);
    return 0;
}

/* A box made by a finalizer while the state was being closed is never finalized itself. */
static void
on_close(lua_State *L, lmpe *S)
{
    (void)S;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &boxes_key);
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        lmpe_box *b = lua_touserdata(L, -1);
        if (b)
            forget(b);
    }
    lua_pop(L, 1);
}

static int
box_eq(lua_State *L)
{
    lmpe_box *a = lmpe_test_any(L, 1), *b = lmpe_test_any(L, 2);
    lua_pushboolean(L, a && b && a->h == b->h);
    return 1;
}

void
lmpe_push_identity(lua_State *L, lmpe_box *b)
{
    char where[32];
    snprintf(where, sizeof where, "0x%llx", (unsigned long long)(b->h & 0xffffffffffffffull));
    lua_pushfstring(L, "mp.%s: %s", mpe_kind_name(mpe_handle_kind(b->h)), where);
    mpe_bytes name = mpe_object_name(b->S->e, b->o);
    if (!name.data)
        return;
    lua_pushliteral(L, " '");
    lmpe_push_escaped(L, name.data, name.size);
    lua_pushliteral(L, "'");
    lua_concat(L, 4);
}

/* package.loaded["mp.NAME"] = the methods on top: error messages find their names there when they
 * are called through pcall, and the codec sends them by name. */
static void
name_methods(lua_State *L, const char *name)
{
    const char *module = lua_pushfstring(L, "mp.%s", name);
    lua_pushvalue(L, -2);
    lmpe_set_loaded(L, module);
    lua_pop(L, 1);
}

void
lmpe_new_type(lua_State *L, lmpe *S, const lmpe_type *type)
{
    static const luaL_Reg common[] = {{"__gc", box_gc}, {"__eq", box_eq}, {NULL, NULL}};
    const char *text = mpe_kind_name(type->kind);
    const char *name = lua_pushfstring(L, "%s%s", text, type->suffix ? type->suffix : "");
    lua_insert(L, -2);
    lua_createtable(L, 0, 6 + count(type->meta)); /* the metatable */
    lua_pushfstring(L, "mp.%s", text);
    lua_setfield(L, -2, "__name");
    lua_pushboolean(L, 1);
    lua_rawsetp(L, -2, &types_key);
    set_methods(L, S, common, -1);
    lua_createtable(L, 0, count(type->methods)); /* its methods */
    lua_insert(L, -2);
    set_methods(L, S, type->methods, -2);
    lua_insert(L, -2);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "__index");
    name_methods(L, name);
    lua_setfield(L, -2, "methods");
    set_methods(L, S, type->meta, -1); /* may replace __index */
    lua_rawgetp(L, LUA_REGISTRYINDEX, &types_key);
    lua_pushvalue(L, -2);
    lua_rawseti(L, -2, type->kind);
    lua_pop(L, 1);
    /* core.NAME: the metatable, for the Lua side */
    lua_setfield(L, -2, name);
    lua_remove(L, -2); /* the name */
    S->calls[type->kind] = type->calls;
}

/* handle(object) -> its handle as an integer, nil for anything else */
static int
handle(lua_State *L)
{
    lmpe_box *b = lmpe_test_any(L, 1);
    if (!b)
        return 0;
    lua_pushinteger(L, (lua_Integer)b->h);
    return 1;
}

/* escaped(bytes) -> a text for people */
static int
escaped(lua_State *L)
{
    size_t size;
    const char *bytes = luaL_checklstring(L, 1, &size);
    lmpe_push_escaped(L, bytes, size);
    return 1;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"handle", handle}, {"escaped", escaped}, {NULL, NULL}};
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &types_key);
    lua_newtable(L);
    lua_newtable(L);
    lua_pushliteral(L, "v");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &boxes_key);

    lmpe_setfuncs(L, S, functions);
}

const lmpe_module lmpe_object_module = {.open = on_open, .close = on_close};
