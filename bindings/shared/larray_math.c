/* SPDX-License-Identifier: MIT
 *
 * larray_math.c - calculations with all elements of an array or a view; the engine does them. Numbers
 * of integer types are Lua integers, those of f and d floats.
 */
#include "shared/larray.h"

typedef union number {
    int64_t i;
    double d;
} number;

const char *
lmpe_element_text(lua_State *L, const lmpe_element *t)
{
    return t->kind == LMPE_STRUCT ? lua_pushstring(L, lmpe_struct_of(t)->text)
                                  : lua_pushfstring(L, "'%c'", t->code);
}

void
lmpe_array_check_numbers(lua_State *L, const lmpe_element *t, const char *call)
{
    if (t->kind == LMPE_STRUCT)
        luaL_error(L, "%s: the elements are structs, not numbers: see field", call);
    if (t->kind >= LMPE_CHAR)
        luaL_error(L, "%s: elements of type '%c' are not numbers", call, t->code);
}

/* The array at 1, whose elements must be numbers. */
static lmpe_box *
check_numbers(lua_State *L, const char *call)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    lmpe_array_check_numbers(L, lmpe_element_of_box(b), call);
    return b;
}

static int
is_float(const lmpe_box *b)
{
    return lmpe_element_of_box(b)->kind >= LMPE_FLOAT;
}

static int
push_number(lua_State *L, const lmpe_box *b, const number *n)
{
    if (is_float(b))
        lua_pushnumber(L, n->d);
    else
        lua_pushinteger(L, n->i);
    return 1;
}

static number
check_factor(lua_State *L, int idx, const lmpe_box *b, const char *call)
{
    int whole = 1;
    if (lua_type(L, idx) != LUA_TNUMBER)
        luaL_error(L, "%s: factor must be a number, got %s", call, luaL_typename(L, idx));
    if (is_float(b))
        return (number){.d = lua_tonumber(L, idx)};
    lua_Integer i = lua_tointegerx(L, idx, &whole);
    if (!whole)
        luaL_error(L, "%s: factor must be an integer for type '%c', got %s", call, (int)b->extra,
                   luaL_tolstring(L, idx, NULL));
    return (number){.i = i};
}

/* The array at idx, of the type and length of b. */
static lmpe_box *
check_other(lua_State *L, int idx, const lmpe_box *b, const char *call)
{
    lmpe_box *x = lmpe_test_any(L, idx);
    int kind = x && x->o ? mpe_handle_kind(x->h) : MPE_KIND_NONE;
    if (kind != MPE_KIND_ARRAY && kind != MPE_KIND_RAW_ARRAY && kind != MPE_KIND_ARRAY_VIEW)
        luaL_error(L, "%s: argument #%d must be an array, got %s", call, idx - 1,
                   lmpe_type_name(L, idx));
    if (x->extra != b->extra)
        luaL_error(L, "%s: argument #%d must be of type '%c', got one of %s", call, idx - 1,
                   (int)b->extra, lmpe_element_text(L, lmpe_element_of_box(x)));
    if (x->length != b->length)
        luaL_error(L, "%s: argument #%d must have %I elements, got one of %I", call, idx - 1,
                   (lua_Integer)b->length, (lua_Integer)x->length);
    return x;
}

/* a:sum() */
int
lmpe_array_sum(lua_State *L)
{
    number n;
    lmpe_box *b = check_numbers(L, "Array:sum");
    int rc = mpe_array_sum(b->S->e, b->o, &n);
    return rc == MPE_OK ? push_number(L, b, &n) : lmpe_raise(L, rc, "Array:sum");
}

static int
best(lua_State *L, int (*find)(mpe_engine *, mpe_object *, void *), const char *call)
{
    number n;
    lmpe_box *b = check_numbers(L, call);
    int rc = find(b->S->e, b->o, &n);
    if (rc == MPE_OK)
        return push_number(L, b, &n);
    if (rc != MPE_ERANGE)
        return lmpe_raise(L, rc, call);
    lua_pushnil(L); /* there are none */
    return 1;
}

/* a:min() */
int
lmpe_array_min(lua_State *L)
{
    return best(L, mpe_array_least, "Array:min");
}

/* a:max() */
int
lmpe_array_max(lua_State *L)
{
    return best(L, mpe_array_greatest, "Array:max");
}

/* a:dot(b) */
int
lmpe_array_dot(lua_State *L)
{
    number n;
    lmpe_box *b = check_numbers(L, "Array:dot"), *x = check_other(L, 2, b, "Array:dot");
    int rc = mpe_array_dot(b->S->e, b->o, x->o, &n);
    return rc == MPE_OK ? push_number(L, b, &n) : lmpe_raise(L, rc, "Array:dot");
}

/* The result of a call that changes elements. */
static int
changed(lua_State *L, const lmpe_box *b, int rc, const char *call)
{
    const lmpe_element *t = lmpe_element_of_box(b);
    if (rc == MPE_OK)
        return 0;
    if (rc != MPE_ERANGE)
        return lmpe_raise(L, rc, call);
    return luaL_error(L, "%s: a result does not fit type '%c': each must be %s", call, t->code,
                      t->must);
}

/* a:scale(k) */
int
lmpe_array_scale(lua_State *L)
{
    lmpe_box *b = check_numbers(L, "Array:scale");
    number k = check_factor(L, 2, b, "Array:scale");
    return changed(L, b, mpe_array_scale(b->S->e, b->o, &k), "Array:scale");
}

/* y:axpy(k, x): y = k * x + y */
int
lmpe_array_axpy(lua_State *L)
{
    lmpe_box *b = check_numbers(L, "Array:axpy");
    number k = check_factor(L, 2, b, "Array:axpy");
    lmpe_box *x = check_other(L, 3, b, "Array:axpy");
    return changed(L, b, mpe_array_axpy(b->S->e, b->o, &k, x->o), "Array:axpy");
}
