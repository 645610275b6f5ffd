/* SPDX-License-Identifier: MIT
 *
 * larray_new.c - the constructors of arrays and values. No other process has a new array yet, so
 * its elements are converted in place; one that fails is garbage.
 */
#include "base/llabel.h"
#include "shared/larray.h"

#include <string.h>

#define NAME 3 /* the index of the name, behind the two arguments */

static const lmpe_element *
check_code(lua_State *L, const char *name)
{
    size_t n = 0;
    const char *s = lua_type(L, 1) == LUA_TSTRING ? lua_tolstring(L, 1, &n) : NULL;
    const lmpe_element *t = lmpe_element_of(s && n == 1 ? s[0] : 0);
    if (s && n == 1 && s[0] && t->code == s[0])
        return t;
    if (s)
        lua_pushfstring(L, "'%s'", s);
    else
        lua_pushstring(L, luaL_typename(L, 1));
    luaL_error(L, "%s: type code must be one of " LMPE_ELEMENT_CODES ", got %s", name,
               lua_tostring(L, -1));
    return NULL;
}

/* Pushes a new array of zeros. */
static lmpe_array
new_zeroed(lua_State *L, const lmpe_element *t, uint64_t length, unsigned flags, const char *name)
{
    lmpe *S = lmpe_self(L);
    mpe_object *o = NULL;
    int rc, tries = 0;
    do
        rc = mpe_array_create(S->e, t->code, length, flags, &o);
    while (lmpe_try_again(L, S, rc, &tries));
    if (rc == MPE_EARENA)
        luaL_error(L, "%s: shared memory exhausted: %I elements of %d bytes do not fit", name,
                   (lua_Integer)length, (int)t->size);
    lmpe_created(L, S, rc, &o, name, NAME);
    return lmpe_array_of(lua_touserdata(L, -1));
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
    lmpe_array a = new_zeroed(L, t, n > 0 ? (uint64_t)n : 0, flags, name);
    lua_Integer bad = lmpe_elements_from(L, 2, t, a.data, a.length);
    return bad ? lmpe_array_refuse(L, -1, &a, name, bad) : 1;
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
    lmpe_array a = new_zeroed(L, t, count, flags, name);
    for (size_t k = 1; k <= count; k++) {
        s += lmpe_utf8_decode(s, 4, &code);
        lmpe_element_store(t, lmpe_array_at(&a, k), code);
    }
    return 1;
}

static int
create_array(lua_State *L, unsigned flags, const char *name)
{
    static const char *const fields[] = {"type", "size", NULL};
    lmpe_take_fields(L, name, fields);
    const lmpe_element *t = check_code(L, name);
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
    static const char *const fields[] = {"type", "value", NULL};
    lmpe_take_fields(L, name, fields);
    const lmpe_element *t = check_code(L, name);
    uint64_t bits = 0;
    if (!lua_isnil(L, 2) && !lmpe_element_from(L, 2, t, &bits))
        return lmpe_element_refuse(L, 2, t, lua_pushfstring(L, "%s: value", name));
    lmpe_array a = new_zeroed(L, t, 1, flags, name);
    lmpe_element_store(t, a.data, bits);
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
