/* SPDX-License-Identifier: MIT
 *
 * larray.c - mp.Array, mp.Value, mp.RawArray, mp.RawValue: four forms of one shared object; and
 * their views, which have the methods of arrays. An element access is one load or store, but for
 * structs: lstruct.h. Methods that take many elements convert all of them first, so that an error
 * changes nothing. The types of elements are in larray_element.c.
 */
#include "shared/lshared.h"
#include "shared/larray.h"

/* Closures with __index and __newindex have the methods as their third upvalue, and those of values
 * the string "value" as their fourth. */
#define METHODS lua_upvalueindex(3)
#define FIELD lua_upvalueindex(4)

static const char *
name_of(const lmpe_box *b)
{
    return mpe_kind_name(mpe_handle_kind(b->h));
}

/* Records where its elements are, and their type. */
static void
held(lua_State *L, lmpe_box *b)
{
    mpe_elements s;
    if (mpe_array_elements(b->S->e, b->o, &s) != MPE_OK)
        return;
    b->extra = (unsigned char)s.type;
    if (s.type == MPE_STRUCT)
        b->extra = lmpe_struct_extra(
            lmpe_struct_of_layout(L, b->S, mpe_struct_layout(b->S->e, b->o)));
    b->data = s.first;
    b->length = s.length;
}

/* The receiver of a metamethod, without looking at its metatable. */
static inline lmpe_box *
self(lua_State *L)
{
    return lmpe_check_kinds(L, 1, LMPE_ARRAY_KINDS);
}

/* ---- one element ---- */

static inline int
method(lua_State *L)
{
    lua_settop(L, 2);
    lua_rawget(L, METHODS);
    return 1;
}

static inline int
index_in(lua_State *L, lmpe_array a)
{
    int whole;
    uint64_t i = (uint64_t)lua_tointegerx(L, 2, &whole);
    if (i - 1 >= a.length || !whole)
        lua_pushnil(L);
    else
        lmpe_array_push(L, 1, &a, lmpe_array_at(&a, i));
    return 1;
}

/* a[i] */
static int
array_index(lua_State *L)
{
    lmpe_box *b = self(L);
    return lua_type(L, 2) == LUA_TNUMBER ? index_in(L, lmpe_array_of(b)) : method(L);
}

static int
view_index(lua_State *L)
{
    lmpe_box *b = lmpe_check_kinds(L, 1, 1u << MPE_KIND_ARRAY_VIEW);
    return lua_type(L, 2) == LUA_TNUMBER ? index_in(L, lmpe_array_of_view(b)) : method(L);
}

/* Raises for an index; call is how the message begins. */
static int
refuse_index(lua_State *L, int idx, const lmpe_array *a, const char *call)
{
    if (lua_type(L, idx) == LUA_TSTRING)
        lua_pushfstring(L, "\"%s\"", lua_tostring(L, idx));
    else if (lua_type(L, idx) == LUA_TNUMBER)
        luaL_tolstring(L, idx, NULL);
    else
        lua_pushstring(L, luaL_typename(L, idx));
    return luaL_error(L, "%s: index %s is out of range, it must be an integer from 1 to %I", call,
                      lua_tostring(L, -1), (lua_Integer)a->length);
}

static inline int
newindex_in(lua_State *L, const lmpe_box *b, lmpe_array a)
{
    int whole = lua_type(L, 2) == LUA_TNUMBER;
    uint64_t i = whole ? (uint64_t)lua_tointegerx(L, 2, &whole) : 0;
    if (i - 1 >= a.length || !whole)
        return refuse_index(L, 2, &a, name_of(b));
    return lmpe_array_put(L, 3, &a, i, name_of(b));
}

/* a[i] = v */
static int
array_newindex(lua_State *L)
{
    lmpe_box *b = self(L);
    return newindex_in(L, b, lmpe_array_of(b));
}

static int
view_newindex(lua_State *L)
{
    lmpe_box *b = lmpe_check_kinds(L, 1, 1u << MPE_KIND_ARRAY_VIEW);
    return newindex_in(L, b, lmpe_array_of_view(b));
}

/* v.value */
static int
value_index(lua_State *L)
{
    lmpe_box *b = self(L);
    if (lua_rawequal(L, 2, FIELD)) {
        lmpe_array a = lmpe_array_of(b);
        lmpe_array_push(L, 1, &a, a.data);
        return 1;
    }
    lua_settop(L, 2);
    lua_rawget(L, METHODS);
    return 1;
}

/* v.value = x */
static int
value_newindex(lua_State *L)
{
    lmpe_box *b = self(L);
    uint64_t bits;
    lmpe_array a = lmpe_array_of(b);
    if (!lua_rawequal(L, 2, FIELD))
        return luaL_error(L, "%s: there is no field '%s' to assign, only 'value'", name_of(b),
                          luaL_tolstring(L, 2, NULL));
    if (a.type->kind == LMPE_STRUCT) {
        lmpe_where where = {.call = lua_pushfstring(L, "%s: value", name_of(b))};
        return lmpe_struct_write(L, &(lmpe_struct_place){.box = 1, .t = lmpe_struct_of(a.type)}, 3,
                                 &where);
    }
    if (!lmpe_element_from(L, 3, a.type, &bits))
        return lmpe_element_refuse(L, 3, a.type, lua_pushfstring(L, "%s: value", name_of(b)));
    lmpe_element_store(a.type, a.data, bits);
    return 0;
}

#define LENGTH_KINDS (LMPE_ARRAY_KINDS | 1u << MPE_KIND_ARRAY_VIEW)
static int
array_len(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)lmpe_check_kinds(L, 1, LENGTH_KINDS)->length);
    return 1;
}

/* The index at idx as an element's address. */
static uint8_t *
check_element(lua_State *L, int idx, const lmpe_array *a, const char *call)
{
    int whole = lua_type(L, idx) == LUA_TNUMBER;
    uint64_t i = whole ? (uint64_t)lua_tointegerx(L, idx, &whole) : 0;
    if (i - 1 >= a->length || !whole)
        refuse_index(L, idx, a, call);
    return lmpe_array_at(a, i);
}

static int
refuse_sum(lua_State *L, const lmpe_element *t, uint64_t bits, int idx, const char *call)
{
    lmpe_element_push_bits(L, t, bits);
    const char *present = luaL_tolstring(L, -1, NULL), *delta = luaL_tolstring(L, idx, NULL);
    return luaL_error(L, "%s: %s + %s does not fit type '%c': the sum must be %s", call, present,
                      delta, t->code, t->must);
}

/* Adds the number at idx to the element at p. */
static int
add_to(lua_State *L, const lmpe_array *a, uint8_t *p, int idx, const char *call)
{
    const lmpe_element *t = a->type;
    int whole = 1, is_float = t->kind == LMPE_FLOAT || t->kind == LMPE_DOUBLE;
    lmpe_array_check_numbers(L, t, call);
    if (lua_type(L, idx) != LUA_TNUMBER)
        return luaL_error(L, "%s: delta must be a number, got %s", call, luaL_typename(L, idx));
    lua_Integer delta = is_float ? 0 : lua_tointegerx(L, idx, &whole);
    if (!whole)
        return luaL_error(L, "%s: delta must be an integer for type '%c', got %s", call, t->code,
                          luaL_tolstring(L, idx, NULL));
    uint64_t sum, seen = lmpe_element_load(t, p);
    do {
        if (lmpe_element_sum(t, seen, delta, lua_tonumber(L, idx), &sum))
            continue;
        return refuse_sum(L, t, seen, idx, call);
    } while (!lmpe_element_exchange(t, p, &seen, sum));
    lmpe_element_push_bits(L, t, sum);
    return 1;
}

/* a:add(i, delta) -> the new value */
static int
array_add(lua_State *L)
{
    lmpe_array a = lmpe_array_look(lmpe_check_self(L, 1));
    return add_to(L, &a, check_element(L, 2, &a, "Array:add"), 3, "Array:add");
}

/* v:add(delta) */
static int
value_add(lua_State *L)
{
    lmpe_array a = lmpe_array_of(lmpe_check_self(L, 1));
    return add_to(L, &a, a.data, 2, "Value:add");
}

static int
exchange_at(lua_State *L, const lmpe_array *a, uint8_t *p, int first, const char *call)
{
    const lmpe_element *t = a->type;
    if (t->kind == LMPE_STRUCT)
        lmpe_array_check_numbers(L, t, call);
    uint64_t expected, desired, seen = lmpe_element_load(t, p);
    lua_settop(L, first + 1); /* the text of an error must not take the place of an absent one */
    if (!lmpe_element_from(L, first, t, &expected))
        return lmpe_element_refuse(L, first, t, lua_pushfstring(L, "%s: expected", call));
    if (!lmpe_element_from(L, first + 1, t, &desired))
        return lmpe_element_refuse(L, first + 1, t, lua_pushfstring(L, "%s: desired", call));
    while (lmpe_element_same(t, seen, expected)) {
        if (lmpe_element_exchange(t, p, &seen, desired)) {
            lua_pushboolean(L, 1);
            return 1;
        }
    }
    lua_pushboolean(L, 0);
    lmpe_element_push_bits(L, t, seen);
    return 2;
}

/* a:compare_exchange(i, expected, desired) -> true | false, current */
static int
array_compare_exchange(lua_State *L)
{
    lmpe_array a = lmpe_array_look(lmpe_check_self(L, 1));
    uint8_t *p = check_element(L, 2, &a, "Array:compare_exchange");
    return exchange_at(L, &a, p, 3, "Array:compare_exchange");
}

static int
value_compare_exchange(lua_State *L)
{
    lmpe_array a = lmpe_array_of(lmpe_check_self(L, 1));
    return exchange_at(L, &a, a.data, 2, "Value:compare_exchange");
}

/* ---- its lock ---- */

/* That of a view is the array's. */
static int
get_lock(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    int is_view = mpe_handle_kind(b->h) == MPE_KIND_ARRAY_VIEW;
    if (is_view) {
        int held = lmpe_push_handle(L, b->S, mpe_array_whole(b->S->e, b->o));
        if (held != MPE_OK)
            return lmpe_raise(L, held, "get_lock");
        b = lua_touserdata(L, -1);
        if (mpe_handle_kind(b->h) == MPE_KIND_RAW_ARRAY)
            return luaL_error(
                L, "ArrayView:get_lock: it must be a view of an Array: a RawArray has no lock");
    }
    int rc = lmpe_push_handle(L, b->S, mpe_lock_facet(b->S->e, b->o));
    if (rc != MPE_OK)
        return lmpe_raise(L, rc, "get_lock");
    if (is_view)
        lua_remove(L, -2);
    return 1;
}

static int
guard_k(lua_State *L, int status, lua_KContext top)
{
    (void)status;
    return lua_gettop(L) - (int)top;
}

/* a:guard([timeout]): the lock's, which is written in Lua and may wait. */
static int
array_guard(lua_State *L)
{
    int n = lua_gettop(L);
    get_lock(L);
    lua_getfield(L, -1, "guard");
    lua_insert(L, 2); /* self, guard, ..., lock */
    lua_insert(L, 3); /* self, guard, lock, ... */
    lua_callk(L, n, LUA_MULTRET, 1, guard_k);
    return guard_k(L, LUA_OK, 1);
}

static int
array_acquire(lua_State *L)
{
    get_lock(L);
    lua_replace(L, 1);
    return lmpe_lock_acquire(L, lua_touserdata(L, 1));
}

static int
array_release(lua_State *L)
{
    get_lock(L);
    lua_replace(L, 1);
    return lmpe_lock_release(L, lua_touserdata(L, 1));
}

static void
push_lock_state(lua_State *L, lmpe_box *b)
{
    mpe_lock_state state;
    mpe_slot_info owner;
    mpe_lock_state_get(b->S->e, b->o, &state);
    if (mpe_handle_kind(b->h) != MPE_KIND_ARRAY && mpe_handle_kind(b->h) != MPE_KIND_VALUE)
        lua_pushliteral(L, ")");
    else if (state.abandoned)
        lua_pushliteral(L, ", the lock's owner died)");
    else if (!state.locked)
        lua_pushliteral(L, ", free)");
    else if (mpe_slot_get(b->S->e, state.slot, &owner) == MPE_OK)
        lua_pushfstring(L, ", held by %s, pid %d)", owner.name, owner.pid);
    else
        lua_pushliteral(L, ", held)");
}

/* mp.Array: 0x2a40 ('i', 3 elements, free) */
static int
array_tostring(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    lmpe_array a = lmpe_array_look(b);
    int kind = mpe_handle_kind(b->h);
    lmpe_push_identity(L, b);
    lua_pushliteral(L, " (");
    lmpe_element_text(L, a.type);
    if (kind == MPE_KIND_ARRAY || kind == MPE_KIND_RAW_ARRAY || kind == MPE_KIND_ARRAY_VIEW)
        lua_pushfstring(L, ", %I element%s", (lua_Integer)a.length, a.length == 1 ? "" : "s");
    else
        lua_pushliteral(L, "");
    push_lock_state(L, b);
    lua_concat(L, 5);
    return 1;
}

/* ---- opening ---- */

/* The first ones are those of the lock, which raw types lack. */
#define LOCK_METHODS 4
static const luaL_Reg array_methods[] = {{"get_lock", get_lock},
                                         {"guard", array_guard},
                                         {"acquire", array_acquire},
                                         {"release", array_release},
                                         {"totable", lmpe_array_totable},
                                         {"set", lmpe_array_set},
                                         {"fill", lmpe_array_fill},
                                         {"string", lmpe_array_string},
                                         {"set_string", lmpe_array_set_string},
                                         {"add", array_add},
                                         {"compare_exchange", array_compare_exchange},
                                         {"view", lmpe_array_view},
                                         {"field", lmpe_array_field},
                                         {"reshape", lmpe_array_reshape},
                                         {"shape", lmpe_array_shape},
                                         {"row", lmpe_array_row},
                                         {"col", lmpe_array_column},
                                         {"get", lmpe_array_get},
                                         {"sum", lmpe_array_sum},
                                         {"min", lmpe_array_min},
                                         {"max", lmpe_array_max},
                                         {"dot", lmpe_array_dot},
                                         {"scale", lmpe_array_scale},
                                         {"axpy", lmpe_array_axpy},
                                         {NULL, NULL}};
static const luaL_Reg value_methods[] = {{"get_lock", get_lock},
                                         {"guard", array_guard},
                                         {"acquire", array_acquire},
                                         {"release", array_release},
                                         {"add", value_add},
                                         {"compare_exchange", value_compare_exchange},
                                         {NULL, NULL}};
static const luaL_Reg array_meta[] = {
    {"__len", array_len}, {"__tostring", array_tostring}, {NULL, NULL}};
static const luaL_Reg value_meta[] = {{"__tostring", array_tostring}, {NULL, NULL}};

/* Sets a metamethod of the metatable on top, with the upvalues that METHODS and FIELD name. */
static void
set_accessor(lua_State *L, lmpe *S, const char *event, lua_CFunction f)
{
    lua_pushlightuserdata(L, S);
    lua_pushvalue(L, -2);
    lua_getfield(L, -1, "methods");
    lua_pushliteral(L, "value");
    lua_pushcclosure(L, f, 4);
    lua_setfield(L, -2, event);
}

static void
new_type(lua_State *L, lmpe *S, int kind, int is_value, int is_raw)
{
    int is_view = kind == MPE_KIND_ARRAY_VIEW;
    const luaL_Reg *methods = is_value ? value_methods : array_methods;
    static const lmpe_box_calls calls = {.held = held};
    lmpe_new_type(L, S,
                  &(lmpe_type){.kind = kind,
                               .methods = methods + (is_raw ? LOCK_METHODS : 0),
                               .meta = is_value ? value_meta : array_meta,
                               .calls = &calls});
    lua_getfield(L, -1, mpe_kind_name(kind));
    set_accessor(L, S, "__index", is_value ? value_index : is_view ? view_index : array_index);
    set_accessor(L, S, "__newindex",
                 is_value  ? value_newindex
                 : is_view ? view_newindex
                           : array_newindex);
    lua_pop(L, 1);
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg makers[] = {
        {"Array", lmpe_new_array}, {"Value", lmpe_new_value}, {NULL, NULL}};
    new_type(L, S, MPE_KIND_ARRAY, 0, 0);
    new_type(L, S, MPE_KIND_VALUE, 1, 0);
    lmpe_set_makers(L, S, makers);
}

static void
on_open_raw(lua_State *L, lmpe *S)
{
    static const luaL_Reg makers[] = {
        {"RawArray", lmpe_new_raw_array}, {"RawValue", lmpe_new_raw_value}, {NULL, NULL}};
    new_type(L, S, MPE_KIND_RAW_ARRAY, 0, 1);
    new_type(L, S, MPE_KIND_RAW_VALUE, 1, 1);
    lmpe_set_makers(L, S, makers);
}

static void
on_open_view(lua_State *L, lmpe *S)
{
    new_type(L, S, MPE_KIND_ARRAY_VIEW, 0, 0);
}

const lmpe_module lmpe_array_view_module = {.open = on_open_view};
const lmpe_module lmpe_array_module = {.open = on_open};
const lmpe_module lmpe_raw_array_module = {.open = on_open_raw};
