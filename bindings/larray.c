/* SPDX-License-Identifier: MIT
 *
 * larray.c - mp.Array, mp.Value, mp.RawArray, mp.RawValue: four kinds of one shared object. An
 * element access is one load or store; whatever takes many elements converts all of them first, so
 * that an error changes nothing. The types of elements are in larray_element.c.
 */
#include "larray_element.h"
#include "lstore.h"

#include <string.h>

/* Closures with __index and __newindex have the methods as their third upvalue, and those of values
 * the string "value" as their fourth. */
#define METHODS lua_upvalueindex(3)
#define FIELD lua_upvalueindex(4)

#define KINDS                                                                                      \
    (1u << MPE_KIND_ARRAY | 1u << MPE_KIND_VALUE | 1u << MPE_KIND_RAW_ARRAY |                      \
     1u << MPE_KIND_RAW_VALUE)

/* An array, looked at. */
typedef struct view {
    const lmpe_element *type;
    uint8_t *data;
    uint64_t length;
} view;

static const char *
name_of(const lmpe_box *b)
{
    switch (mpe_handle_kind(b->h)) {
    case MPE_KIND_ARRAY:
        return "Array";
    case MPE_KIND_VALUE:
        return "Value";
    case MPE_KIND_RAW_ARRAY:
        return "RawArray";
    default:
        return "RawValue";
    }
}

static view
view_of(const lmpe_box *b)
{
    char type;
    view a;
    a.data = mpe_array_data(b->S->e, b->o, &type, &a.length);
    a.type = lmpe_element_of(type);
    return a;
}

static uint8_t *
at(const view *a, uint64_t index)
{
    return a->data + (index - 1) * a->type->size;
}

/* The receiver of a metamethod, without looking at its metatable: a box of this state is told by
 * its size and the state it names. */
static lmpe_box *
self(lua_State *L)
{
    lmpe_box *b = lua_touserdata(L, 1);
    if (b && lua_rawlen(L, 1) == sizeof *b && b->S == lmpe_self(L) && b->o &&
        KINDS >> mpe_handle_kind(b->h) & 1)
        return b;
    return lmpe_check_self(L, 1);
}

/* ---- one element ---- */

/* a[i] */
static int
array_index(lua_State *L)
{
    lmpe_box *b = self(L);
    if (lua_type(L, 2) != LUA_TNUMBER) {
        lua_settop(L, 2);
        lua_rawget(L, METHODS);
        return 1;
    }
    int whole;
    uint64_t i = (uint64_t)lua_tointegerx(L, 2, &whole);
    view a = view_of(b);
    if (i - 1 >= a.length || !whole)
        lua_pushnil(L);
    else
        lmpe_element_push(L, a.type, lmpe_element_load(a.type, at(&a, i)));
    return 1;
}

/* Raises for an index; call is how the message begins. */
static int
refuse_index(lua_State *L, int idx, const view *a, const char *call)
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

/* Raises for a value of element i. */
static int
refuse_element(lua_State *L, int idx, const view *a, const char *name, lua_Integer i)
{
    return lmpe_element_refuse(L, idx, a->type, lua_pushfstring(L, "%s: element %I", name, i));
}

/* a[i] = v */
static int
array_newindex(lua_State *L)
{
    lmpe_box *b = self(L);
    view a = view_of(b);
    int whole = lua_type(L, 2) == LUA_TNUMBER;
    uint64_t bits, i = whole ? (uint64_t)lua_tointegerx(L, 2, &whole) : 0;
    if (i - 1 >= a.length || !whole)
        return refuse_index(L, 2, &a, name_of(b));
    if (!lmpe_element_from(L, 3, a.type, &bits))
        return refuse_element(L, 3, &a, name_of(b), (lua_Integer)i);
    lmpe_element_store(a.type, at(&a, i), bits);
    return 0;
}

/* v.value */
static int
value_index(lua_State *L)
{
    lmpe_box *b = self(L);
    if (lua_rawequal(L, 2, FIELD)) {
        view a = view_of(b);
        lmpe_element_push(L, a.type, lmpe_element_load(a.type, a.data));
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
    view a = view_of(b);
    if (!lua_rawequal(L, 2, FIELD))
        return luaL_error(L, "%s: there is no field '%s' to assign, only 'value'", name_of(b),
                          luaL_tolstring(L, 2, NULL));
    if (!lmpe_element_from(L, 3, a.type, &bits))
        return lmpe_element_refuse(L, 3, a.type, lua_pushfstring(L, "%s: value", name_of(b)));
    lmpe_element_store(a.type, a.data, bits);
    return 0;
}

static int
array_len(lua_State *L)
{
    view a = view_of(self(L));
    lua_pushinteger(L, (lua_Integer)a.length);
    return 1;
}

/* The index at idx as an element's address. */
static uint8_t *
check_element(lua_State *L, int idx, const view *a, const char *call)
{
    int whole = lua_type(L, idx) == LUA_TNUMBER;
    uint64_t i = whole ? (uint64_t)lua_tointegerx(L, idx, &whole) : 0;
    if (i - 1 >= a->length || !whole)
        refuse_index(L, idx, a, call);
    return at(a, i);
}

static int
refuse_sum(lua_State *L, const lmpe_element *t, uint64_t bits, int idx, const char *call)
{
    lmpe_element_push(L, t, bits);
    const char *present = luaL_tolstring(L, -1, NULL), *delta = luaL_tolstring(L, idx, NULL);
    return luaL_error(L, "%s: %s + %s does not fit type '%c': the sum must be %s", call, present,
                      delta, t->code, t->must);
}

/* Adds the number at idx to the element at p. */
static int
add_to(lua_State *L, const view *a, uint8_t *p, int idx, const char *call)
{
    const lmpe_element *t = a->type;
    int whole = 1, is_float = t->kind == LMPE_FLOAT || t->kind == LMPE_DOUBLE;
    if (t->kind >= LMPE_CHAR)
        return luaL_error(L, "%s: elements of type '%c' are not numbers", call, t->code);
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
    lmpe_element_push(L, t, t->size == 8 ? sum : sum & ((1ull << 8 * t->size) - 1));
    return 1;
}

/* a:add(i, delta) -> the new value */
static int
array_add(lua_State *L)
{
    view a = view_of(lmpe_check_self(L, 1));
    return add_to(L, &a, check_element(L, 2, &a, "Array:add"), 3, "Array:add");
}

/* v:add(delta) */
static int
value_add(lua_State *L)
{
    view a = view_of(lmpe_check_self(L, 1));
    return add_to(L, &a, a.data, 2, "Value:add");
}

static int
exchange_at(lua_State *L, const view *a, uint8_t *p, int first, const char *call)
{
    const lmpe_element *t = a->type;
    uint64_t expected, desired, seen = lmpe_element_load(t, p);
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
    lmpe_element_push(L, t, seen);
    return 2;
}

/* a:compare_exchange(i, expected, desired) -> true | false, current */
static int
array_compare_exchange(lua_State *L)
{
    view a = view_of(lmpe_check_self(L, 1));
    uint8_t *p = check_element(L, 2, &a, "Array:compare_exchange");
    return exchange_at(L, &a, p, 3, "Array:compare_exchange");
}

static int
value_compare_exchange(lua_State *L)
{
    view a = view_of(lmpe_check_self(L, 1));
    return exchange_at(L, &a, a.data, 2, "Value:compare_exchange");
}

/* ---- many elements ---- */

/* An optional integer argument. */
static lua_Integer
opt_integer(lua_State *L, int idx, lua_Integer absent, const char *call, const char *name)
{
    int whole = lua_type(L, idx) == LUA_TNUMBER;
    if (lua_isnoneornil(L, idx))
        return absent;
    lua_Integer i = whole ? lua_tointegerx(L, idx, &whole) : 0;
    if (!whole)
        luaL_error(L, "%s: %s must be an integer, got %s", call, name,
                   luaL_tolstring(L, idx, NULL));
    return i;
}

/* The part i..j given at 2 and 3, what of it there is: its first element, and how many. */
static uint64_t
check_part(lua_State *L, const view *a, const char *call, uint64_t *first)
{
    lua_Integer length = (lua_Integer)a->length;
    lua_Integer i = opt_integer(L, 2, 1, call, "i"), j = opt_integer(L, 3, length, call, "j");
    if (i < 1)
        i = 1;
    if (j > length)
        j = length;
    *first = (uint64_t)i;
    return i > j ? 0 : (uint64_t)(j - i + 1);
}

/* a:totable([i [, j]]) */
static int
array_totable(lua_State *L)
{
    view a = view_of(lmpe_check_self(L, 1));
    uint64_t first, n = check_part(L, &a, "Array:totable", &first);
    lmpe_elements_push(L, a.type, at(&a, first), n);
    return 1;
}

/* a:string([i [, j]]): the bytes of the elements */
static int
array_string(lua_State *L)
{
    view a = view_of(lmpe_check_self(L, 1));
    uint64_t first, n = check_part(L, &a, "Array:string", &first);
    lua_pushlstring(L, n ? (const char *)at(&a, first) : "", n * a.type->size);
    return 1;
}

/* The place given at 3 where n elements shall go. */
static uint8_t *
check_place(lua_State *L, const view *a, uint64_t n, const char *call)
{
    lua_Integer i = opt_integer(L, 3, 1, call, "at"), length = (lua_Integer)a->length;
    if (i < 1 || i > length + 1)
        luaL_error(L, "%s: at must be an index from 1 to %I, got %I", call, length, i);
    if (n > (uint64_t)(length - i + 1))
        luaL_error(L, "%s: %I elements from %I on do not fit in %I", call, (lua_Integer)n, i,
                   length);
    return at(a, (uint64_t)i);
}


/* a:set(list [, at]) */
static int
array_set(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    view a = view_of(b);
    if (!lmpe_is_list(L, 2))
        return luaL_error(L, "Array:set: list must be a table, got %s", luaL_typename(L, 2));
    lua_Integer n = luaL_len(L, 2);
    uint8_t *to = check_place(L, &a, n > 0 ? (uint64_t)n : 0, "Array:set");
    if (n <= 0)
        return 0;
    size_t bytes = (size_t)n * a.type->size;
    void *values = lua_newuserdatauv(L, bytes, 0); /* all or nothing */
    lua_Integer bad = lmpe_elements_from(L, 2, a.type, values, (size_t)n);
    if (bad)
        return refuse_element(L, -1, &a, "Array:set", bad);
    memcpy(to, values, bytes);
    return 0;
}

/* a:set_string(bytes [, at]) */
static int
array_set_string(lua_State *L)
{
    view a = view_of(lmpe_check_self(L, 1));
    size_t size;
    if (lua_type(L, 2) != LUA_TSTRING)
        return luaL_error(L, "Array:set_string: bytes must be a string, got %s",
                          luaL_typename(L, 2));
    const char *bytes = lua_tolstring(L, 2, &size);
    if (size % a.type->size != 0)
        return luaL_error(L, "Array:set_string: %I bytes are not whole elements of %d bytes",
                          (lua_Integer)size, (int)a.type->size);
    uint8_t *to = check_place(L, &a, size / a.type->size, "Array:set_string");
    memcpy(to, bytes, size);
    return 0;
}

/* a:fill(v) */
static int
array_fill(lua_State *L)
{
    view a = view_of(lmpe_check_self(L, 1));
    uint64_t bits;
    if (!lmpe_element_from(L, 2, a.type, &bits))
        return lmpe_element_refuse(L, 2, a.type, "Array:fill: value");
    lmpe_elements_fill(a.type, a.data, a.length, bits);
    return 0;
}

/* ---- its lock ---- */

static int
get_lock(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    int rc = lmpe_push_handle(L, b->S, mpe_lock_facet(b->S->e, b->o));
    return rc == MPE_OK ? 1 : lmpe_raise(L, rc, "get_lock");
}

static int
forward_k(lua_State *L, int status, lua_KContext top)
{
    (void)status;
    return lua_gettop(L) - (int)top;
}

/* Calls the method of that name of the lock, which may wait. */
static int
forward(lua_State *L, const char *method)
{
    int n = lua_gettop(L);
    get_lock(L);
    lua_getfield(L, -1, method);
    lua_insert(L, 2);    /* self, method, ..., lock */
    lua_insert(L, 3);    /* self, method, lock, ... */
    lua_callk(L, n, LUA_MULTRET, 1, forward_k);
    return forward_k(L, LUA_OK, 1);
}

static int
array_guard(lua_State *L)
{
    return forward(L, "guard");
}

static int
array_acquire(lua_State *L)
{
    return forward(L, "acquire");
}

static int
array_release(lua_State *L)
{
    return forward(L, "release");
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
    view a = view_of(b);
    int kind = mpe_handle_kind(b->h);
    lmpe_push_identity(L, b, name_of(b));
    if (kind == MPE_KIND_ARRAY || kind == MPE_KIND_RAW_ARRAY)
        lua_pushfstring(L, " ('%c', %I element%s", a.type->code, (lua_Integer)a.length,
                        a.length == 1 ? "" : "s");
    else
        lua_pushfstring(L, " ('%c'", a.type->code);
    push_lock_state(L, b);
    lua_concat(L, 3);
    return 1;
}

/* ---- making ---- */

static const lmpe_element *
check_code(lua_State *L, const char *name)
{
    size_t n = 0;
    const char *s = lua_type(L, 1) == LUA_TSTRING ? lua_tolstring(L, 1, &n) : NULL;
    const lmpe_element *t = lmpe_element_of(s && n == 1 ? s[0] : 0);
    if (s && n == 1 && t->code == s[0])
        return t;
    if (s)
        lua_pushfstring(L, "'%s'", s);
    else
        lua_pushstring(L, luaL_typename(L, 1));
    luaL_error(L, "%s: type code must be one of " LMPE_ELEMENT_CODES ", got %s", name,
               lua_tostring(L, -1));
    return NULL;
}

/* Pushes a new array of zeros. Its bytes count for the collector, which knows only of boxes; when
 * there is no more memory, garbage may hold it. */
static view
new_zeroed(lua_State *L, const lmpe_element *t, uint64_t length, unsigned flags, const char *name)
{
    lmpe *S = lmpe_self(L);
    mpe_object *o = NULL;
    int rc = mpe_array_create(S->e, t->code, length, flags, &o);
    if (rc == MPE_EARENA) {
        lua_gc(L, LUA_GCCOLLECT);
        rc = mpe_array_create(S->e, t->code, length, flags, &o);
    }
    if (rc == MPE_EARENA)
        luaL_error(L, "%s: shared memory exhausted: %I elements of %d bytes do not fit", name,
                   (lua_Integer)length, (int)t->size);
    lmpe_created(L, S, rc, &o, name);
    uint64_t kib = length * t->size >> 10;
    if (kib > 0 && lua_gc(L, LUA_GCISRUNNING))
        lua_gc(L, LUA_GCSTEP, kib < 1 << 20 ? (int)kib : 1 << 20);
    return view_of(lua_touserdata(L, -1));
}

static int
from_size(lua_State *L, const lmpe_element *t, unsigned flags, const char *name)
{
    int whole;
    lua_Integer n = lua_tointegerx(L, 2, &whole);
    if (!whole || n < 0)
        return luaL_error(L, "%s: size must be an integer from 0 on, got %s", name,
                          luaL_tolstring(L, 2, NULL));
    new_zeroed(L, t, (uint64_t)n, flags, name);
    return 1;
}

static int
from_list(lua_State *L, const lmpe_element *t, unsigned flags, const char *name)
{
    lua_Integer n = luaL_len(L, 2);
    view a = new_zeroed(L, t, n > 0 ? (uint64_t)n : 0, flags, name);
    lua_Integer bad = lmpe_elements_from(L, 2, t, a.data, a.length);
    return bad ? refuse_element(L, -1, &a, name, bad) : 1;
}

/* Bytes, or code points. */
static int
from_string(lua_State *L, const lmpe_element *t, unsigned flags, const char *name)
{
    size_t size, count = 0, step;
    uint32_t code;
    const char *s = lua_tolstring(L, 2, &size);
    if (t->kind == LMPE_CHAR) {
        memcpy(new_zeroed(L, t, size, flags, name).data, s, size);
        return 1;
    }
    for (size_t i = 0; i < size; i += step, count++)
        if ((step = lmpe_utf8_decode(s + i, size - i, &code)) == 0)
            return luaL_error(L, "%s: the string is not valid UTF-8 at byte %I", name,
                              (lua_Integer)i + 1);
    view a = new_zeroed(L, t, count, flags, name);
    for (size_t k = 1; k <= count; k++) {
        s += lmpe_utf8_decode(s, 4, &code);
        lmpe_element_store(t, at(&a, k), code);
    }
    return 1;
}

static int
create_array(lua_State *L, unsigned flags, const char *name)
{
    const lmpe_element *t = check_code(L, name);
    lua_settop(L, 2);
    int type = lua_type(L, 2);
    if (type == LUA_TNUMBER)
        return from_size(L, t, flags, name);
    if (lmpe_is_list(L, 2))
        return from_list(L, t, flags, name);
    if (type == LUA_TSTRING && t->kind >= LMPE_CHAR)
        return from_string(L, t, flags, name);
    return luaL_error(L, "%s: argument #2 must be a size or a list%s, got %s", name,
                      t->kind >= LMPE_CHAR ? " or a string" : "", luaL_typename(L, 2));
}

static int
create_value(lua_State *L, unsigned flags, const char *name)
{
    const lmpe_element *t = check_code(L, name);
    uint64_t bits = 0;
    lua_settop(L, 2);
    if (!lua_isnil(L, 2) && !lmpe_element_from(L, 2, t, &bits))
        return lmpe_element_refuse(L, 2, t, lua_pushfstring(L, "%s: value", name));
    view a = new_zeroed(L, t, 1, flags, name);
    lmpe_element_store(t, a.data, bits);
    return 1;
}

/* Array(code, size | list | string) */
static int
new_array(lua_State *L)
{
    return create_array(L, 0, "Array");
}

static int
new_raw_array(lua_State *L)
{
    return create_array(L, MPE_ARRAY_RAW, "RawArray");
}

/* Value(code [, v]) */
static int
new_value(lua_State *L)
{
    return create_value(L, MPE_ARRAY_VALUE, "Value");
}

static int
new_raw_value(lua_State *L)
{
    return create_value(L, MPE_ARRAY_VALUE | MPE_ARRAY_RAW, "RawValue");
}

/* ---- opening ---- */

/* The first ones are those of the lock, which raw types lack. */
#define LOCK_METHODS 4
static const luaL_Reg array_methods[] = {{"get_lock", get_lock},
                                         {"guard", array_guard},
                                         {"acquire", array_acquire},
                                         {"release", array_release},
                                         {"totable", array_totable},
                                         {"set", array_set},
                                         {"fill", array_fill},
                                         {"string", array_string},
                                         {"set_string", array_set_string},
                                         {"add", array_add},
                                         {"compare_exchange", array_compare_exchange},
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
new_type(lua_State *L, lmpe *S, int kind, const char *name, int is_value, int is_raw)
{
    const luaL_Reg *methods = is_value ? value_methods : array_methods;
    lmpe_new_type(L, S, kind, name, methods + (is_raw ? LOCK_METHODS : 0),
                  is_value ? value_meta : array_meta);
    lua_getfield(L, -1, name);
    set_accessor(L, S, "__index", is_value ? value_index : array_index);
    set_accessor(L, S, "__newindex", is_value ? value_newindex : array_newindex);
    lua_pop(L, 1);
}

void
lmpe_open_array(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"new_array", new_array},
                                         {"new_raw_array", new_raw_array},
                                         {"new_value", new_value},
                                         {"new_raw_value", new_raw_value},
                                         {NULL, NULL}};
    new_type(L, S, MPE_KIND_ARRAY, "Array", 0, 0);
    new_type(L, S, MPE_KIND_RAW_ARRAY, "RawArray", 0, 1);
    new_type(L, S, MPE_KIND_VALUE, "Value", 1, 0);
    new_type(L, S, MPE_KIND_RAW_VALUE, "RawValue", 1, 1);
    lmpe_setfuncs(L, S, functions);
}
