/* SPDX-License-Identifier: MIT
 *
 * larray_bulk.c - methods of arrays that take many elements. All are converted before the first is
 * stored, so an error changes nothing; the store itself is a plain copy, which another process may
 * see half done, though never half an element.
 */
#include "shared/larray.h"

#include <limits.h>
#include <string.h>

/* Raises for a value of element i. */
int
lmpe_array_refuse(lua_State *L, int idx, const lmpe_array *a, const char *name, lua_Integer i)
{
    idx = lua_absindex(L, idx);
    return lmpe_element_refuse(L, idx, a->type, lua_pushfstring(L, "%s: element %I", name, i));
}

void
lmpe_array_convert(lua_State *L, int idx, const lmpe_array *a, void *to, size_t n, const char *call)
{
    if (a->type->kind == LMPE_STRUCT) {
        lmpe_structs_convert(L, idx, lmpe_struct_of(a->type), to, n, call);
        return;
    }
    lua_Integer bad = lmpe_elements_from(L, idx, a->type, to, n);
    if (bad)
        lmpe_array_refuse(L, -1, a, call, bad);
}

lua_Integer
lmpe_array_opt_integer(lua_State *L, int idx, lua_Integer absent, const char *call,
                       const char *name)
{
    return lua_isnoneornil(L, idx) ? absent : lmpe_array_integer(L, idx, call, name);
}

lua_Integer
lmpe_array_integer(lua_State *L, int idx, const char *call, const char *name)
{
    int whole = lua_type(L, idx) == LUA_TNUMBER;
    lua_Integer i = whole ? lua_tointegerx(L, idx, &whole) : 0;
    if (!whole)
        luaL_error(L, "%s: %s must be an integer, got %s", call, name,
                   lua_type(L, idx) == LUA_TNUMBER ? luaL_tolstring(L, idx, NULL)
                                                   : luaL_typename(L, idx));
    return i;
}

/* The part i..j given at 2 and 3, clipped to the array: its first element, and how many. */
static uint64_t
check_part(lua_State *L, const lmpe_array *a, const char *call, uint64_t *first)
{
    lua_Integer length = (lua_Integer)a->length;
    lua_Integer i = lmpe_array_opt_integer(L, 2, 1, call, "i");
    lua_Integer j = lmpe_array_opt_integer(L, 3, length, call, "j");
    if (i < 1)
        i = 1;
    if (j > length)
        j = length;
    *first = (uint64_t)i;
    return i > j ? 0 : (uint64_t)(j - i + 1);
}

/* a:totable([i [, j]]) */
int
lmpe_array_totable(lua_State *L)
{
    lmpe_array a = lmpe_array_look(lmpe_check_self(L, 1));
    uint64_t first, n = check_part(L, &a, "Array:totable", &first);
    const lmpe_struct *t = lmpe_struct_of(a.type);
    if (!t) {
        lmpe_elements_push(L, a.type, lmpe_array_at(&a, first), a.stride, n);
        return 1;
    }
    lua_createtable(L, n < INT_MAX ? (int)n : INT_MAX, 0);
    for (uint64_t i = 0; i < n; i++) {
        lmpe_struct_push(L, t, lmpe_array_at(&a, first + i));
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

/* Copies n elements to others, with bytes from one to the next. */
static void
copy(const lmpe_element *t, void *to, int64_t to_stride, const void *from, int64_t from_stride,
     size_t n)
{
    if (t->kind == LMPE_STRUCT)
        lmpe_structs_copy(lmpe_struct_of(t), to, to_stride, from, from_stride, n);
    else
        lmpe_elements_copy(t, to, to_stride, from, from_stride, n);
}

/* a:string([i [, j]]): the bytes of the elements */
int
lmpe_array_string(lua_State *L)
{
    lmpe_array a = lmpe_array_look(lmpe_check_self(L, 1));
    uint64_t first, n = check_part(L, &a, "Array:string", &first);
    if (n == 0 || lmpe_array_is_dense(&a)) {
        lua_pushlstring(L, n ? (const char *)lmpe_array_at(&a, first) : "", n * a.type->size);
        return 1;
    }
    luaL_Buffer buffer;
    char *to = luaL_buffinitsize(L, &buffer, n * a.type->size);
    memset(to, 0, n * a.type->size); /* also between the fields of structs */
    copy(a.type, to, a.type->size, lmpe_array_at(&a, first), a.stride, n);
    luaL_pushresultsize(&buffer, n * a.type->size);
    return 1;
}

/* Stores n elements that lie one after the other. */
static void
store(const lmpe_array *a, uint8_t *to, const void *from, size_t n)
{
    if (a->type->kind != LMPE_STRUCT && lmpe_array_is_dense(a))
        memcpy(to, from, n * a->type->size);
    else
        copy(a->type, to, a->stride, from, a->type->size, n);
}

/* The place given at 3 for n elements. */
static uint8_t *
check_place(lua_State *L, const lmpe_array *a, uint64_t n, const char *call)
{
    lua_Integer i = lmpe_array_opt_integer(L, 3, 1, call, "at"), length = (lua_Integer)a->length;
    if (i < 1 || i > length + 1)
        luaL_error(L, "%s: at must be an index from 1 to %I, got %I", call, length, i);
    if (n > (uint64_t)(length - i + 1))
        luaL_error(L, "%s: %I elements from %I on do not fit in %I", call, (lua_Integer)n, i,
                   length);
    return lmpe_array_at(a, (uint64_t)i);
}

/* a:set(list [, at]), a:set(i, j, v) */
int
lmpe_array_set(lua_State *L)
{
    lmpe_array a = lmpe_array_look(lmpe_check_self(L, 1));
    if (lua_gettop(L) >= 4)
        return lmpe_array_set_cell(L);
    if (!lmpe_is_list(L, 2))
        return luaL_error(L, "Array:set: list must be a table, got %s", luaL_typename(L, 2));
    lua_Integer n = luaL_len(L, 2);
    uint8_t *to = check_place(L, &a, n > 0 ? (uint64_t)n : 0, "Array:set");
    if (n <= 0)
        return 0;
    void *values = lua_newuserdatauv(L, (size_t)n * a.type->size, 0); /* all or nothing */
    lmpe_array_convert(L, 2, &a, values, (size_t)n, "Array:set");
    store(&a, to, values, (size_t)n);
    return 0;
}

/* a:set_string(bytes [, at]) */
int
lmpe_array_set_string(lua_State *L)
{
    lmpe_array a = lmpe_array_look(lmpe_check_self(L, 1));
    size_t size;
    if (lua_type(L, 2) != LUA_TSTRING)
        return luaL_error(L, "Array:set_string: bytes must be a string, got %s",
                          luaL_typename(L, 2));
    const char *bytes = lua_tolstring(L, 2, &size);
    if (size % a.type->size != 0)
        return luaL_error(L, "Array:set_string: %I bytes are not whole elements of %d bytes",
                          (lua_Integer)size, (int)a.type->size);
    uint8_t *to = check_place(L, &a, size / a.type->size, "Array:set_string");
    store(&a, to, bytes, size / a.type->size);
    return 0;
}

static int
fill_structs(lua_State *L, const lmpe_array *a)
{
    const lmpe_struct *t = lmpe_struct_of(a->type);
    void *value = lua_newuserdatauv(L, t->as.size, 0);
    lmpe_struct_convert(L, 2, t, value, &(lmpe_where){.call = "Array:fill: value"});
    lmpe_structs_copy(t, a->data, a->stride, value, 0, a->length);
    return 0;
}

/* a:fill(v) */
int
lmpe_array_fill(lua_State *L)
{
    lmpe_array a = lmpe_array_look(lmpe_check_self(L, 1));
    uint64_t bits;
    if (a.type->kind == LMPE_STRUCT)
        return fill_structs(L, &a);
    if (!lmpe_element_from(L, 2, a.type, &bits))
        return lmpe_element_refuse(L, 2, a.type, "Array:fill: value");
    if (lmpe_array_is_dense(&a))
        lmpe_elements_fill(a.type, a.data, a.length, bits);
    else
        for (uint64_t i = 1; i <= a.length; i++)
            lmpe_element_store(a.type, lmpe_array_at(&a, i), bits);
    return 0;
}
