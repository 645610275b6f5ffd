/* SPDX-License-Identifier: MIT
 *
 * lstruct.c - mp.Struct: types of structs. A Struct of a script is a table with a layout, so that it
 * is sent as such; what C needs of it is found by that layout, in this state.
 */
#include "shared/lstruct.h"
#include "base/lmodules.h"

#include <stdlib.h>
#include <string.h>

static const char types_key, meta_key; /* types by layout, and their names; the metatable */

/* ---- types ---- */

static size_t
count_fields(const char *layout)
{
    mpe_field f;
    size_t n = 0;
    while (mpe_struct_field(layout, n, &f) == MPE_OK)
        n++;
    return n;
}

/* Pushes what tostring shows. */
static void
push_text(lua_State *L, const char *layout)
{
    luaL_Buffer b;
    mpe_field f;
    luaL_checkstack(L, 8, NULL);
    luaL_buffinit(L, &b);
    for (size_t i = 0; mpe_struct_field(layout, i, &f) == MPE_OK; i++) {
        luaL_addstring(&b, i ? ", " : "{");
        luaL_addlstring(&b, f.name.data, f.name.size);
        luaL_addstring(&b, ": ");
        if (f.layout) {
            push_text(L, f.layout);
            luaL_addvalue(&b);
        } else {
            luaL_addchar(&b, f.type);
        }
        if (f.count) {
            lua_pushfstring(L, "[%d]", (int)f.count);
            luaL_addvalue(&b);
        }
    }
    luaL_addchar(&b, '}');
    luaL_pushresult(&b);
}

/* Keeps the string on top in the table below it, and pops it. */
static const char *
keep(lua_State *L, size_t *size)
{
    const char *s = lua_tolstring(L, -1, size);
    lua_pushvalue(L, -1);
    lua_pushboolean(L, 1);
    lua_rawset(L, -4);
    lua_pop(L, 1);
    return s;
}

/* Gives a type its number. */
static void
number_type(lua_State *L, lmpe *S, lmpe_struct *t)
{
    struct lmpe_structs *old = S->structs;
    if (!old || old->count == old->room) {
        uint32_t room = old ? 2 * old->room : 4;
        struct lmpe_structs *new = lua_newuserdatauv(L, sizeof *new + room * sizeof new->at[0], 0);
        new->count = old ? old->count : 0;
        new->room = room;
        if (old)
            memcpy(new->at, old->at, old->count * sizeof new->at[0]);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &S->structs);
        S->structs = new;
    }
    if (S->structs->count >= (1 << 24) - 1)
        luaL_error(L, "Struct: this program has too many types");
    t->number = S->structs->count;
    S->structs->at[S->structs->count++] = t;
}

/* The type of a field. */
static const lmpe_element *
type_of(lua_State *L, lmpe *S, const mpe_field *f)
{
    const char *end = f->layout;
    if (!end)
        return lmpe_element_of(f->type);
    for (int depth = 1; depth > 0; end++) /* a layout that was read has the brace */
        depth += (*end == '{') - (*end == '}');
    lua_pushlstring(L, f->layout, (size_t)(end - f->layout) - 1);
    const lmpe_struct *t = lmpe_struct_of_layout(L, S, lua_tostring(L, -1));
    lua_pop(L, 1);
    return &t->as;
}

/* A new type, into the table of types on top. */
static lmpe_struct *
new_type(lua_State *L, lmpe *S, const char *layout)
{
    size_t n = count_fields(layout), size = mpe_struct_size(layout);
    if (size == 0)
        luaL_error(L, "Struct: '%s' is no layout", layout);
    lmpe_struct *t = lua_newuserdatauv(L, sizeof *t + n * sizeof t->fields[0], 0);
    lua_insert(L, -2); /* above it the table, which the names go to */
    t->as = (lmpe_element){.code = MPE_STRUCT, .size = (uint32_t)size, .kind = LMPE_STRUCT};
    t->fields_count = (uint32_t)n;
    t->align = 1;
    for (size_t i = 0; i < n; i++) {
        mpe_field f;
        mpe_struct_field(layout, i, &f);
        lmpe_field *to = &t->fields[i];
        *to = (lmpe_field){.offset = f.offset, .count = f.count, .type = type_of(L, S, &f)};
        uint32_t align = f.layout ? lmpe_field_struct(to)->align : f.size;
        t->align = align > t->align ? align : t->align;
        lua_pushlstring(L, f.name.data, f.name.size);
        to->name = keep(L, &to->name_size);
    }
    push_text(L, layout);
    t->text = keep(L, NULL);
    lua_pushstring(L, layout);
    t->layout = keep(L, NULL);
    number_type(L, S, t);
    lua_pushvalue(L, -2);
    lua_setfield(L, -2, layout); /* in the place of the mark that keeps the string */
    lua_remove(L, -2);
    return t;
}

const lmpe_struct *
lmpe_struct_of_layout(lua_State *L, lmpe *S, const char *layout)
{
    luaL_checkstack(L, 8, NULL);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &types_key);
    const lmpe_struct *t = lua_getfield(L, -1, layout) == LUA_TUSERDATA ? lua_touserdata(L, -1)
                                                                        : NULL;
    lua_pop(L, 1);
    if (!t)
        t = new_type(L, S, layout);
    lua_pop(L, 1);
    return t;
}

uint32_t
lmpe_struct_extra(const lmpe_struct *t)
{
    return MPE_STRUCT | (t->number + 1) << 8;
}

const lmpe_field *
lmpe_field_of(lua_State *L, int idx, const lmpe_struct *t)
{
    size_t size;
    if (lua_type(L, idx) != LUA_TSTRING)
        return NULL;
    const char *name = lua_tolstring(L, idx, &size);
    for (uint32_t i = 0; i < t->fields_count; i++) /* short strings are the same ones */
        if (t->fields[i].name == name)
            return &t->fields[i];
    for (uint32_t i = 0; size > 40 && i < t->fields_count; i++)
        if (t->fields[i].name_size == size && memcmp(t->fields[i].name, name, size) == 0)
            return &t->fields[i];
    return NULL;
}

const lmpe_field *
lmpe_field_at(lua_State *L, int idx, const lmpe_struct *t)
{
    const char *path = lua_type(L, idx) == LUA_TSTRING ? lua_tostring(L, idx) : "";
    for (;;) {
        size_t size = strcspn(path, ".");
        lua_pushlstring(L, path, size);
        const lmpe_field *f = lmpe_field_of(L, -1, t);
        lua_pop(L, 1);
        if (!f || path[size] == '\0')
            return f;
        t = lmpe_field_struct(f);
        path += size + 1;
        if (!t)
            return NULL;
    }
}

int
lmpe_field_unknown(lua_State *L, int idx, const lmpe_struct *t, const lmpe_where *where)
{
    const char *key = luaL_tolstring(L, idx, NULL);
    lmpe_push_where(L, where);
    return luaL_error(L, "%s: there is no field '%s', only those of %s", lua_tostring(L, -1), key,
                      t->text);
}

/* ---- lists of fields ---- */

static int
is_name(const char *s, size_t size)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";
    return size > 0 && strspn(s, letters) == size && !(*s >= '0' && *s <= '9');
}

/* Checks the name at idx of field i, whose names so far are keys of the table at seen. */
static const char *
check_name(lua_State *L, int idx, lua_Integer i, int seen, const char *call)
{
    size_t size = 0;
    const char *name = lua_type(L, idx) == LUA_TSTRING ? lua_tolstring(L, idx, &size) : NULL;
    if (!name || !is_name(name, size))
        luaL_error(L, "%s: field %I: the name must be letters, digits and _, got %s", call, i,
                   name ? lua_pushfstring(L, "'%s'", name) : luaL_typename(L, idx));
    if (strcmp(name, "get") == 0 || strcmp(name, "set") == 0)
        luaL_error(L, "%s: field %I: the name cannot be '%s', which is a method", call, i, name);
    if (lua_getfield(L, seen, name) != LUA_TNIL)
        luaL_error(L, "%s: field %I: there is already a field '%s'", call, i, name);
    lua_pop(L, 1);
    lua_pushboolean(L, 1);
    lua_setfield(L, seen, name);
    return name;
}

/* The type at idx of a field, and the number of its elements at idx + 1: "s16" is both. */
static char
check_field_type(lua_State *L, int idx, const char *name, lua_Integer *count, const char *call)
{
    size_t size = 0;
    const char *s = lua_type(L, idx) == LUA_TSTRING ? lua_tolstring(L, idx, &size) : NULL;
    int whole = 1;
    *count = 0;
    if (size > 1 && size < 10 && s[0] == 's' && lua_isnil(L, idx + 1) &&
        strspn(s + 1, "0123456789") == size - 1) {
        *count = strtoll(s + 1, NULL, 10);
        s = "c";
    } else if (!s || size != 1 || lmpe_element_of(*s)->code != *s) {
        luaL_error(L,
                   "%s: field '%s': the type must be one of " LMPE_ELEMENT_CODES
                   ", s and a number of bytes, or a struct, got %s",
                   call, name, s ? lua_pushfstring(L, "'%s'", s) : luaL_typename(L, idx));
    } else if (!lua_isnil(L, idx + 1)) {
        *count = lua_tointegerx(L, idx + 1, &whole);
        whole = whole && lua_type(L, idx + 1) == LUA_TNUMBER;
    } else {
        return *s;
    }
    if (!whole || *count < 1 || *count > MPE_STRUCT_BYTES)
        luaL_error(L,
                   "%s: field '%s': the number of elements must be an integer from 1 to %d, got %s",
                   call, name, MPE_STRUCT_BYTES,
                   whole ? lua_pushfstring(L, "%I", *count) : luaL_tolstring(L, idx + 1, NULL));
    return *s;
}

static int
is_struct(lua_State *L, int idx)
{
    if (!lua_istable(L, idx) || !lua_getmetatable(L, idx))
        return 0;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &meta_key);
    int same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same;
}

/* The layout of the Struct at idx, which its table keeps. */
static const char *
layout_of(lua_State *L, int idx)
{
    lua_pushliteral(L, "layout");
    lua_rawget(L, lua_absindex(L, idx));
    const char *layout = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
    lua_pop(L, 1);
    return layout;
}

static void push_layout(lua_State *L, int idx, int depth, const char *call);

/* Pushes the layout of a field whose type, a table, is at idx. */
static void
push_inner_layout(lua_State *L, int idx, const char *name, int depth, const char *call)
{
    call = lua_pushfstring(L, "%s: field '%s'", call, name);
    if (!lua_isnil(L, idx + 1))
        luaL_error(L, "%s: a struct cannot have a number of elements", call);
    if (depth == 0)
        luaL_error(L, "%s: structs can be in each other at most %d times", call, MPE_STRUCT_DEPTH);
    if (is_struct(L, idx))
        lua_pushstring(L, layout_of(L, idx));
    else if (lua_rawlen(L, idx) > 0)
        push_layout(L, idx, depth - 1, call);
    else
        luaL_error(L, "%s: the list of its fields must not be empty", call);
    lua_remove(L, -2);
}

/* Pushes the layout of the list at idx. */
static void
push_layout(lua_State *L, int idx, int depth, const char *call)
{
    luaL_checkstack(L, 20, NULL);
    lua_newtable(L);
    int seen = lua_gettop(L);
    lua_pushliteral(L, "");
    lua_Integer n = luaL_len(L, idx), count;
    for (lua_Integer i = 1; i <= n; i++) {
        if (lua_geti(L, idx, i) != LUA_TTABLE)
            luaL_error(L, "%s: field %I must be a table of a name and a type, got %s", call, i,
                       luaL_typename(L, -1));
        for (int k = 1; k <= 3; k++)
            lua_geti(L, seen + 2, k);
        const char *name = check_name(L, seen + 3, i, seen, call);
        lua_pushfstring(L, "%s%s%s:", lua_tostring(L, seen + 1), i > 1 ? "," : "", name);
        if (lua_istable(L, seen + 4)) {
            push_inner_layout(L, seen + 4, name, depth, call);
            lua_pushfstring(L, "%s{%s}", lua_tostring(L, -2), lua_tostring(L, -1));
        } else {
            char type[2] = {check_field_type(L, seen + 4, name, &count, call), '\0'};
            lua_pushfstring(L, count ? "%s%s%I" : "%s%s", lua_tostring(L, -1), type, count);
        }
        lua_replace(L, seen + 1);
        lua_settop(L, seen + 1);
    }
    lua_remove(L, seen);
    if (n > 0 && mpe_struct_size(lua_tostring(L, -1)) == 0)
        luaL_error(L, "%s: a struct must have at most %d bytes, and %d structs in each other", call,
                   MPE_STRUCT_BYTES, MPE_STRUCT_DEPTH);
}

const lmpe_struct *
lmpe_struct_from(lua_State *L, lmpe *S, int idx, const char *call)
{
    idx = lua_absindex(L, idx);
    if (is_struct(L, idx))
        return lmpe_struct_of_layout(L, S, layout_of(L, idx));
    if (!lua_istable(L, idx) || lua_rawlen(L, idx) == 0)
        return NULL;
    push_layout(L, idx, MPE_STRUCT_DEPTH, call);
    const lmpe_struct *t = lmpe_struct_of_layout(L, S, lua_tostring(L, -1));
    lua_pop(L, 1);
    return t;
}

void
lmpe_struct_push_type(lua_State *L, const lmpe_struct *t)
{
    lua_createtable(L, 0, 2);
    lua_pushstring(L, t->layout);
    lua_setfield(L, -2, "layout");
    lua_pushinteger(L, t->as.size);
    lua_setfield(L, -2, "size");
    lua_rawgetp(L, LUA_REGISTRYINDEX, &meta_key);
    lua_setmetatable(L, -2);
}

/* ---- mp.Struct ---- */

/* Struct{ {name, type [, count]}, ... } */
static int
new_struct(lua_State *L)
{
    const lmpe_struct *t = lmpe_struct_from(L, lmpe_self(L), 1, "Struct");
    if (!t)
        return luaL_error(L, "Struct: argument #1 must be a list of fields, got %s",
                          lua_istable(L, 1) ? "one without any" : luaL_typename(L, 1));
    lmpe_struct_push_type(L, t);
    return 1;
}

static const lmpe_struct *
check_struct(lua_State *L)
{
    if (!is_struct(L, 1))
        luaL_typeerror(L, 1, "mp.Struct");
    return lmpe_struct_of_layout(L, lmpe_self(L), layout_of(L, 1));
}

/* s:fields() -> { {name =, type =, count =, offset =, size =}, ... } */
static int
struct_fields(lua_State *L)
{
    const lmpe_struct *t = check_struct(L);
    lua_createtable(L, (int)t->fields_count, 0);
    for (uint32_t i = 0; i < t->fields_count; i++) {
        const lmpe_field *f = &t->fields[i];
        lua_createtable(L, 0, 5);
        lua_pushstring(L, f->name);
        lua_setfield(L, -2, "name");
        if (lmpe_field_struct(f))
            lmpe_struct_push_type(L, lmpe_field_struct(f));
        else
            lua_pushlstring(L, &f->type->code, 1);
        lua_setfield(L, -2, "type");
        lua_pushinteger(L, f->offset);
        lua_setfield(L, -2, "offset");
        lua_pushinteger(L, f->type->size);
        lua_setfield(L, -2, "size");
        if (f->count) {
            lua_pushinteger(L, f->count);
            lua_setfield(L, -2, "count");
        }
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

static int
struct_tostring(lua_State *L)
{
    const lmpe_struct *t = check_struct(L);
    lua_pushfstring(L, "mp.Struct: %s (%d bytes)", t->text, (int)t->as.size);
    return 1;
}

static int
struct_eq(lua_State *L)
{
    lua_pushboolean(L, is_struct(L, 1) && is_struct(L, 2) &&
                           strcmp(layout_of(L, 1), layout_of(L, 2)) == 0);
    return 1;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"Struct", new_struct}, {NULL, NULL}};
    static const luaL_Reg meta[] = {{"fields", struct_fields},
                                    {"__tostring", struct_tostring},
                                    {"__eq", struct_eq},
                                    {NULL, NULL}};
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &types_key);
    lua_newtable(L); /* sent by the name of this module */
    lmpe_setfuncs(L, S, meta);
    lua_pushliteral(L, "mp.Struct");
    lua_setfield(L, -2, "__name");
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &meta_key);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "StructType"); /* messages find the names of methods there */
    lmpe_set_loaded(L, "mp.Struct");
    lmpe_setfuncs(L, S, functions);
}

const lmpe_module lmpe_struct_module = {.open = on_open};
