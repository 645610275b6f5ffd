/* SPDX-License-Identifier: MIT
 *
 * lstruct_ref.c - references to an element that is a struct, to a struct in it, and to a field that is
 * an array.
 * They are private to a state and keep the array; an access is one load or store in its memory.
 */
#include "base/llabel.h"
#include "shared/larray.h"

typedef struct lmpe_ref {
    const void *tag;     /* &ref_tag */
    const lmpe_box *box; /* of the array: the user value */
    const lmpe_struct *type;
    const lmpe_field *field; /* NULL: of the whole struct */
    uint8_t *element;        /* the struct */
    uint32_t offset;         /* of it, in the element of the array */
} lmpe_ref;

#define METHODS lua_upvalueindex(3)

static const char struct_key, field_key; /* the metatables */
static const char ref_tag;

static void
push_ref(lua_State *L, const lmpe_ref *r, int box, const void *key)
{
    lmpe_ref *made = lua_newuserdatauv(L, sizeof *made, 1);
    *made = *r;
    lua_pushvalue(L, box);
    lua_setiuservalue(L, -2, 1);
    lua_rawgetp(L, LUA_REGISTRYINDEX, key);
    lua_setmetatable(L, -2);
}

int
lmpe_struct_push_ref(lua_State *L, int idx, const lmpe_struct *t, void *element)
{
    idx = lua_absindex(L, idx);
    const lmpe_ref r = {
        .tag = &ref_tag, .box = lua_touserdata(L, idx), .type = t, .element = element};
    push_ref(L, &r, idx, &struct_key);
    return 1;
}

/* The reference at 1, with the metatable of the function that runs. */
static lmpe_ref *
check_ref(lua_State *L)
{
    lmpe_ref *r = lua_touserdata(L, 1);
    int same = r && lua_getmetatable(L, 1) && lua_rawequal(L, -1, lua_upvalueindex(2)) &&
               lua_rawlen(L, 1) == sizeof *r && r->tag == &ref_tag;
    if (!same) {
        lua_settop(L, 1);
        lua_getfield(L, lua_upvalueindex(2), "__name");
        luaL_typeerror(L, 1, lua_tostring(L, -1));
    }
    lua_pop(L, 1);
    if (!r->box->o)
        lmpe_raise_closed(L);
    return r;
}

static const lmpe_ref *
test_ref(lua_State *L, int idx, const void *key)
{
    if (lua_type(L, idx) != LUA_TUSERDATA || !lua_getmetatable(L, idx))
        return NULL;
    lua_rawgetp(L, LUA_REGISTRYINDEX, key);
    int same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    const lmpe_ref *r = same && lua_rawlen(L, idx) == sizeof *r ? lua_touserdata(L, idx) : NULL;
    return r && r->tag == &ref_tag && r->box->o ? r : NULL;
}

const void *
lmpe_struct_referred(lua_State *L, int idx, const lmpe_struct *t)
{
    const lmpe_ref *r = test_ref(L, idx, &struct_key);
    return r && r->type == t ? r->element : NULL;
}

/* From 0 on, in what has the element. */
static uint64_t
index_of(const lmpe_ref *r)
{
    lmpe_array a = lmpe_array_look(r->box);
    return (uint64_t)((r->element - r->offset - a.data) / a.stride);
}

/* Pushes the fields that lead from an element to the struct, behind what names the element. */
static const char *
push_path(lua_State *L, const lmpe_ref *r, const lmpe_where *element)
{
    const lmpe_struct *t = lmpe_struct_of(lmpe_element_of_box(r->box));
    const char *path = lmpe_push_where(L, element);
    for (uint32_t offset = r->offset; t != r->type;) {
        const lmpe_field *f = t->fields;
        while (!lmpe_field_struct(f) || offset - f->offset >= f->type->size)
            f++;
        offset -= f->offset;
        t = lmpe_field_struct(f);
        path = lua_pushfstring(L, "%s: field '%s'", path, f->name);
    }
    return path;
}

/* How a message about an assignment begins. */
static lmpe_where
where_of(lua_State *L, const lmpe_ref *r)
{
    int kind = mpe_handle_kind(r->box->h);
    lmpe_where where = {.call = mpe_kind_name(kind)};
    if (kind != MPE_KIND_VALUE && kind != MPE_KIND_RAW_VALUE)
        where.element = (lua_Integer)index_of(r) + 1;
    if (r->type == lmpe_struct_of(lmpe_element_of_box(r->box)))
        return where;
    return (lmpe_where){.call = push_path(L, r, &where)};
}

/* The struct of a reference, and pushes its array. */
static lmpe_struct_place
push_place(lua_State *L, const lmpe_ref *r)
{
    lua_getiuservalue(L, 1, 1);
    return (lmpe_struct_place){
        .box = lua_gettop(L), .index = index_of(r), .t = r->type, .offset = r->offset};
}

/* ---- of a struct ---- */

/* r.x */
static int
struct_index(lua_State *L)
{
    lmpe_ref *r = check_ref(L);
    const lmpe_field *f = lmpe_field_of(L, 2, r->type);
    if (!f) {
        lua_pushvalue(L, 2);
        if (lua_rawget(L, METHODS) == LUA_TNIL) {
            lmpe_where where = where_of(L, r);
            lmpe_field_unknown(L, 2, r->type, &where);
        }
        return 1;
    }
    int is_struct = lmpe_field_struct(f) != NULL;
    if (!is_struct && (!f->count || lmpe_field_is_text(f))) {
        lmpe_field_push(L, f, r->element);
        return 1;
    }
    lmpe_ref made = *r;
    if (is_struct) {
        made.type = lmpe_field_struct(f);
        made.element += f->offset;
        made.offset += f->offset;
    } else {
        made.field = f;
    }
    lua_getiuservalue(L, 1, 1);
    push_ref(L, &made, lua_gettop(L), is_struct ? &struct_key : &field_key);
    return 1;
}

/* r.x = v */
static int
struct_newindex(lua_State *L)
{
    lmpe_ref *r = check_ref(L);
    const lmpe_field *f = lmpe_field_of(L, 2, r->type);
    const lmpe_struct *inner = f ? lmpe_field_struct(f) : NULL;
    uint64_t bits;
    if (f && !f->count && !inner && lmpe_element_from(L, 3, f->type, &bits)) {
        lmpe_element_store(f->type, r->element + f->offset, bits);
        return 0;
    }
    lmpe_where where = where_of(L, r);
    if (!f)
        return lmpe_field_unknown(L, 2, r->type, &where);
    if (inner) {
        lmpe_struct_place to = push_place(L, r);
        to.t = inner;
        to.offset += f->offset;
        return lmpe_struct_write(L, &to, 3, &(lmpe_where){.outer = &where, .field = f});
    }
    lmpe_field_assign(L, 3, f, r->element, &where);
    return 0;
}

/* r:get() -> a table */
static int
struct_get(lua_State *L)
{
    const lmpe_ref *r = check_ref(L);
    lmpe_struct_place from = push_place(L, r);
    return lmpe_struct_read(L, &from);
}

/* r:set{ x = 1 } */
static int
struct_set(lua_State *L)
{
    const lmpe_ref *r = check_ref(L);
    lua_settop(L, 2);
    lmpe_struct_place to = push_place(L, r);
    return lmpe_struct_update(L, &to, 2, &(lmpe_where){.call = "StructRef:set: argument #1"});
}

/* The next field for pairs: (r, name) -> name, value */
static int
struct_next(lua_State *L)
{
    lmpe_ref *r = check_ref(L);
    const lmpe_field *f = lmpe_field_of(L, 2, r->type);
    uint32_t next = f ? (uint32_t)(f - r->type->fields) + 1 : 0;
    if (next == r->type->fields_count)
        return 0;
    lua_pushstring(L, r->type->fields[next].name);
    lua_pushvalue(L, -1);
    lua_gettable(L, 1);
    return 2;
}

static int
struct_pairs(lua_State *L)
{
    check_ref(L);
    lua_getfield(L, lua_upvalueindex(2), "__next");
    lua_pushvalue(L, 1);
    return 2;
}

/* Pushes what is shown of the value on top, which it replaces: a number, a text or a list of them. */
static void
show_value(lua_State *L)
{
    if (lua_type(L, -1) == LUA_TSTRING) {
        lmpe_push_escaped(L, lua_tostring(L, -1), lua_rawlen(L, -1));
        lua_pushfstring(L, "'%s'", lua_tostring(L, -1));
        lua_replace(L, -3);
        lua_pop(L, 1);
        return;
    }
    if (lua_type(L, -1) == LUA_TNUMBER) {
        luaL_tolstring(L, -1, NULL);
        lua_replace(L, -2);
        return;
    }
    lua_Integer n = (lua_Integer)lua_rawlen(L, -1);
    lua_pushliteral(L, "{");
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, -2, i);
        show_value(L);
        lua_pushstring(L, i < n ? ", " : "");
        lua_concat(L, 3);
    }
    lua_pushliteral(L, "}");
    lua_concat(L, 2);
    lua_replace(L, -2);
}

/* Pushes {x = 1.0, at = {y = 2.0}}. */
static void
show_struct(lua_State *L, const lmpe_struct *t, const uint8_t *element)
{
    luaL_checkstack(L, 12, NULL);
    lua_pushliteral(L, "{");
    for (uint32_t i = 0; i < t->fields_count; i++) {
        const lmpe_field *f = &t->fields[i];
        lua_pushfstring(L, i ? ", %s = " : "%s = ", f->name);
        if (lmpe_field_struct(f)) {
            show_struct(L, lmpe_field_struct(f), element + f->offset);
        } else {
            lmpe_field_push(L, f, element);
            show_value(L);
        }
        lua_concat(L, 3);
    }
    lua_pushliteral(L, "}");
    lua_concat(L, 2);
}

/* mp.StructRef: {x = 1.0, id = 3} */
static int
struct_tostring(lua_State *L)
{
    const lmpe_ref *r = check_ref(L);
    lua_pushliteral(L, "mp.StructRef: ");
    show_struct(L, r->type, r->element);
    lua_concat(L, 2);
    return 1;
}

/* ---- of a field that is an array ---- */

/* The address of the element whose index is at 2; NULL: there is none. */
static uint8_t *
at_index(lua_State *L, const lmpe_ref *r)
{
    int whole = lua_type(L, 2) == LUA_TNUMBER;
    uint64_t i = whole ? (uint64_t)lua_tointegerx(L, 2, &whole) - 1 : 0;
    if (!whole || i >= r->field->count)
        return NULL;
    return r->element + r->field->offset + i * r->field->type->size;
}

/* r.v[i] */
static int
field_index(lua_State *L)
{
    const lmpe_ref *r = check_ref(L);
    const uint8_t *p = at_index(L, r);
    if (p) {
        lmpe_element_push(L, r->field->type, p);
        return 1;
    }
    lua_settop(L, 2);
    if (lua_type(L, 2) == LUA_TNUMBER)
        lua_pushnil(L);
    else
        lua_rawget(L, METHODS);
    return 1;
}

/* r.v[i] = x */
static int
field_newindex(lua_State *L)
{
    const lmpe_ref *r = check_ref(L);
    const lmpe_field *f = r->field;
    uint8_t *p = at_index(L, r);
    uint64_t bits;
    if (p && lmpe_element_from(L, 3, f->type, &bits)) {
        lmpe_element_store(f->type, p, bits);
        return 0;
    }
    lmpe_where where = where_of(L, r);
    const char *call = lmpe_push_where(L, &where);
    if (!p)
        return luaL_error(
            L, "%s: field '%s': index %s is out of range, it must be an integer from 1 to %d", call,
            f->name, luaL_tolstring(L, 2, NULL), (int)f->count);
    return lmpe_element_refuse(
        L, 3, f->type,
        lua_pushfstring(L, "%s: field '%s': element %I", call, f->name, lua_tointeger(L, 2)));
}

static int
field_len(lua_State *L)
{
    lua_pushinteger(L, check_ref(L)->field->count);
    return 1;
}

/* r.v:totable() */
static int
field_totable(lua_State *L)
{
    const lmpe_ref *r = check_ref(L);
    lmpe_field_push(L, r->field, r->element);
    return 1;
}

/* r.v:set(list) */
static int
field_set(lua_State *L)
{
    const lmpe_ref *r = check_ref(L);
    lua_settop(L, 2);
    lmpe_field_assign(L, 2, r->field, r->element, &(lmpe_where){.call = "FieldRef:set"});
    return 0;
}

/* mp.FieldRef: {1.0, 2.0} */
static int
field_tostring(lua_State *L)
{
    const lmpe_ref *r = check_ref(L);
    lua_pushliteral(L, "mp.FieldRef: ");
    lmpe_field_push(L, r->field, r->element);
    show_value(L);
    lua_concat(L, 2);
    return 1;
}

/* ---- opening ---- */

static int
ref_eq(lua_State *L)
{
    const void *const keys[] = {&struct_key, &field_key};
    for (int k = 0; k < 2; k++) {
        const lmpe_ref *a = test_ref(L, 1, keys[k]), *b = test_ref(L, 2, keys[k]);
        if (a && b)
            lua_pushboolean(L,
                            a->element == b->element && a->field == b->field && a->type == b->type);
        if (a && b)
            return 1;
    }
    lua_pushboolean(L, 0);
    return 1;
}

/* Registers functions with the metatable below them as their second upvalue. */
static void
set_functions(lua_State *L, lmpe *S, const luaL_Reg *functions, int meta)
{
    lua_pushlightuserdata(L, S);
    lua_pushvalue(L, meta);
    luaL_setfuncs(L, functions, 2);
}

static void
new_type(lua_State *L, lmpe *S, const void *key, const char *name, const luaL_Reg *methods,
         const luaL_Reg *meta, lua_CFunction index)
{
    lua_newtable(L);
    int at = lua_gettop(L);
    lua_pushfstring(L, "mp.%s", name);
    lua_setfield(L, at, "__name");
    lua_pushstring(L, ": send the array, or a copy of it"); /* read by lcodec_objects.c */
    lua_setfield(L, at, "__instead");
    set_functions(L, S, meta, at);
    lua_newtable(L);
    set_functions(L, S, methods, at);
    lua_pushvalue(L, -1);
    lua_setfield(L, at, "methods");
    lua_pushlightuserdata(L, S);
    lua_pushvalue(L, at);
    lua_pushvalue(L, -3);
    lua_pushcclosure(L, index, 3);
    lua_setfield(L, at, "__index");
    lua_settop(L, at);
    lua_pushvalue(L, at);
    lua_rawsetp(L, LUA_REGISTRYINDEX, key);
    lua_setfield(L, -2, name); /* core.NAME: messages find the names of methods there */
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg struct_methods[] = {
        {"get", struct_get}, {"set", struct_set}, {NULL, NULL}};
    static const luaL_Reg struct_meta[] = {
        {"__newindex", struct_newindex}, {"__pairs", struct_pairs}, {"__next", struct_next},
        {"__tostring", struct_tostring}, {"__eq", ref_eq},          {NULL, NULL}};
    static const luaL_Reg field_methods[] = {
        {"totable", field_totable}, {"set", field_set}, {NULL, NULL}};
    static const luaL_Reg field_meta[] = {{"__newindex", field_newindex},
                                          {"__len", field_len},
                                          {"__tostring", field_tostring},
                                          {"__eq", ref_eq},
                                          {NULL, NULL}};
    new_type(L, S, &struct_key, "StructRef", struct_methods, struct_meta, struct_index);
    new_type(L, S, &field_key, "FieldRef", field_methods, field_meta, field_index);
}

const lmpe_module lmpe_struct_ref_module = {.open = on_open};
