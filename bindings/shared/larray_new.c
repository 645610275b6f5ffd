/* SPDX-License-Identifier: MIT
 *
 * larray_new.c - the constructors of arrays and values. No other process has a new array yet, so
 * its elements are converted in place; one that fails is garbage.
 */
#include "base/llabel.h"
#include "shared/larray.h"

#include <string.h>

/* What a constructor makes. */
typedef struct form {
    const lmpe_element *type;
    const char *call;
    unsigned flags;
    int name;             /* the index of the name of the object, behind the arguments */
    lua_Integer columns;  /* 0: one dimension */
    lua_Integer elements; /* of a matrix */
} form;

/* The element type at 1: a code, a Struct or a list of fields. */
static const lmpe_element *
check_type(lua_State *L, const char *name)
{
    const lmpe_struct *st = lmpe_struct_from(L, lmpe_self(L), 1, name);
    if (st)
        return &st->as;
    size_t n = 0;
    const char *s = lua_type(L, 1) == LUA_TSTRING ? lua_tolstring(L, 1, &n) : NULL;
    const lmpe_element *t = lmpe_element_of(s && n == 1 ? s[0] : 0);
    if (s && n == 1 && s[0] && t->code == s[0])
        return t;
    if (s)
        lua_pushfstring(L, "'%s'", s);
    else
        lua_pushstring(L, luaL_typename(L, 1));
    luaL_error(L, "%s: type code must be one of " LMPE_ELEMENT_CODES ", or a Struct, got %s", name,
               lua_tostring(L, -1));
    return NULL;
}

static int
create(lmpe *S, const form *f, uint64_t length, mpe_object **out)
{
    uint32_t columns = (uint32_t)f->columns;
    const lmpe_struct *st = lmpe_struct_of(f->type);
    if (st)
        return mpe_struct_create(S->e, st->layout, length, columns, f->flags, out);
    if (columns)
        return mpe_matrix_create(S->e, f->type->code, length / columns, columns, f->flags, out);
    return mpe_array_create(S->e, f->type->code, length, f->flags, out);
}

/* Pushes a new array of zeros. */
static lmpe_array
new_zeroed(lua_State *L, const form *f, uint64_t length)
{
    lmpe *S = lmpe_self(L);
    mpe_object *o = NULL;
    int rc, tries = 0;
    const char *name = f->call;
    const lmpe_element *t = f->type;
    if (f->columns && length != (uint64_t)f->elements)
        luaL_error(L, "%s: %I elements do not make %I rows of %I", name, (lua_Integer)length,
                   f->elements / f->columns, f->columns);
    do
        rc = create(S, f, length, &o);
    while (lmpe_try_again(L, S, rc, &tries));
    if (rc == MPE_EARENA)
        luaL_error(L, "%s: shared memory exhausted: %I elements of %d bytes do not fit", name,
                   (lua_Integer)length, (int)t->size);
    lmpe_created(L, S, rc, &o, name, f->name);
    return lmpe_array_of(lua_touserdata(L, -1));
}

static int
from_size(lua_State *L, const form *f)
{
    int whole;
    lua_Integer n = lua_tointegerx(L, 2, &whole);
    if (!whole || n < 0)
        return luaL_error(L, "%s: size must be an integer from 0 on, got %s", f->call,
                          luaL_tolstring(L, 2, NULL));
    new_zeroed(L, f, (uint64_t)n);
    return 1;
}

static int
from_list(lua_State *L, const form *f)
{
    lua_Integer n = luaL_len(L, 2);
    lmpe_array a = new_zeroed(L, f, n > 0 ? (uint64_t)n : 0);
    lmpe_array_convert(L, 2, &a, a.data, a.length, f->call);
    return 1;
}

/* Bytes, or code points. */
static int
from_string(lua_State *L, const form *f)
{
    size_t size, count = 0, step;
    uint32_t code;
    const char *s = lua_tolstring(L, 2, &size);
    if (f->type->kind == LMPE_CHAR) {
        memcpy(new_zeroed(L, f, size).data, s, size);
        return 1;
    }
    for (size_t i = 0; i < size; i += step, count++)
        if ((step = lmpe_utf8_decode(s + i, size - i, &code)) == 0)
            return luaL_error(L, "%s: the string is not valid UTF-8 at byte %I", f->call,
                              (lua_Integer)i + 1);
    lmpe_array a = new_zeroed(L, f, count);
    for (size_t k = 1; k <= count; k++) {
        s += lmpe_utf8_decode(s, 4, &code);
        lmpe_element_store(a.type, lmpe_array_at(&a, k), code);
    }
    return 1;
}

/* The fields rows and cols at 3 and 4; without them it has one dimension. */
static void
check_shape(lua_State *L, form *f)
{
    if (lua_isnil(L, 3) && lua_isnil(L, 4))
        return;
    lua_Integer rows = lmpe_array_integer(L, 3, f->call, "rows");
    f->columns = lmpe_array_integer(L, 4, f->call, "cols");
    if (rows < 0)
        luaL_error(L, "%s: rows must be an integer from 0 on, got %I", f->call, rows);
    if (f->columns < 1 || f->columns > UINT32_MAX)
        luaL_error(L, "%s: cols must be an integer from 1 to %I, got %I", f->call,
                   (lua_Integer)UINT32_MAX, f->columns);
    if (__builtin_mul_overflow(rows, f->columns, &f->elements))
        luaL_error(L, "%s: shared memory exhausted: %I rows of %I elements do not fit", f->call,
                   rows, f->columns);
}

/* The arguments, as lmpe_take_fields leaves them. A list of fields is a type and no such table; behind
 * a type there are two arguments at most. */
static void
take_fields(lua_State *L, const char *name, const char *const *fields)
{
    if (lua_istable(L, 1) && lua_rawlen(L, 1) > 0) {
        const lmpe_struct *t = lmpe_struct_from(L, lmpe_self(L), 1, name);
        if (t) {
            lmpe_struct_push_type(L, t);
            lua_replace(L, 1);
        }
    }
    int has_meta = lua_getmetatable(L, 1);
    lua_pop(L, has_meta);
    if (!lua_istable(L, 1) || has_meta)
        lua_settop(L, 2);
    lmpe_take_fields(L, name, fields);
}

static int
create_array(lua_State *L, unsigned flags, const char *name)
{
    static const char *const fields[] = {"type", "size", "rows", "cols", NULL};
    form f = {.call = name, .flags = flags, .name = 5};
    take_fields(L, name, fields);
    const lmpe_element *t = f.type = check_type(L, name);
    check_shape(L, &f);
    int type = lua_type(L, 2);
    if (type == LUA_TNIL && f.columns) {
        new_zeroed(L, &f, (uint64_t)f.elements);
        return 1;
    }
    if (type == LUA_TNUMBER)
        return from_size(L, &f);
    if (lmpe_is_list(L, 2))
        return from_list(L, &f);
    int takes_text = t->kind == LMPE_CHAR || t->kind == LMPE_WIDE;
    if (type == LUA_TSTRING && takes_text)
        return from_string(L, &f);
    return luaL_error(L, "%s: argument #2 must be a size or a list%s, got %s", name,
                      takes_text ? " or a string" : "", luaL_typename(L, 2));
}

static int
create_value(lua_State *L, unsigned flags, const char *name)
{
    static const char *const fields[] = {"type", "value", NULL};
    take_fields(L, name, fields);
    const lmpe_element *t = check_type(L, name);
    const lmpe_where where = {.call = lua_pushfstring(L, "%s: value", name)};
    uint64_t bits = 0;
    if (t->kind != LMPE_STRUCT && !lua_isnil(L, 2) && !lmpe_element_from(L, 2, t, &bits))
        return lmpe_element_refuse(L, 2, t, where.call);
    const form f = {.type = t, .call = name, .flags = flags, .name = 3};
    lmpe_array a = new_zeroed(L, &f, 1);
    if (t->kind != LMPE_STRUCT)
        lmpe_element_store(t, a.data, bits);
    else if (!lua_isnil(L, 2))
        lmpe_struct_convert(L, 2, lmpe_struct_of(t), a.data, &where);
    return 1;
}

/* Array(code, size | list | string) */
int
lmpe_new_array(lua_State *L)
{
    return create_array(L, 0, "Array");
}

int
lmpe_new_raw_array(lua_State *L)
{
    return create_array(L, MPE_ARRAY_RAW, "RawArray");
}

/* Value(code [, v]) */
int
lmpe_new_value(lua_State *L)
{
    return create_value(L, MPE_ARRAY_VALUE, "Value");
}

int
lmpe_new_raw_value(lua_State *L)
{
    return create_value(L, MPE_ARRAY_VALUE | MPE_ARRAY_RAW, "RawValue");
}
