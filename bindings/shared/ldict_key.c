/* SPDX-License-Identifier: MIT
 *
 * ldict_key.c - the keys of dicts as bytes, which are their identity: one value as a message has
 * it, a string, number or boolean. A float that is an integer is one.
 */
#include "shared/ldict.h"

#include <string.h>

const char *
lmpe_dict_bad_key(lua_State *L, int idx)
{
    return lua_type(L, idx) == LUA_TNUMBER ? "nan" : lmpe_type_name(L, idx);
}

static int
number_key(lua_State *L, int idx, lmpe_dict_key *k)
{
    int whole;
    uint8_t *p = k->small;
    lua_Integer i = lua_tointegerx(L, idx, &whole);
    if (whole) {
        p = mpe_wire_write_int(p, i);
    } else {
        lua_Number v = lua_tonumber(L, idx);
        if (v != v)
            return 0;
        p = mpe_wire_write_float(p, v);
    }
    k->bytes.size = (size_t)(p - k->small);
    return 1;
}

int
lmpe_dict_to_key(lua_State *L, int idx, lmpe_dict_key *k)
{
    const char *s;
    size_t n, header;
    uint8_t *p = k->small;
    k->bytes.data = p;
    switch (lua_type(L, idx)) {
    case LUA_TSTRING:
        s = lua_tolstring(L, idx, &n);
        if (n + MPE_WIRE_STR_HEADER > LMPE_KEY_INLINE)
            k->bytes.data = p = lua_newuserdatauv(L, n + MPE_WIRE_STR_HEADER, 0);
        header = n <= MPE_WIRE_SHORT ? 1 : mpe_wire_str_header(p, n);
        if (n <= MPE_WIRE_SHORT)
            p[0] = (uint8_t)(MPE_TAG_STR0 + n);
        memcpy(p + header, s, n);
        k->bytes.size = n + header;
        return 1;
    case LUA_TNUMBER:
        return number_key(L, idx, k);
    case LUA_TBOOLEAN:
        p[0] = lua_toboolean(L, idx) ? MPE_TAG_TRUE : MPE_TAG_FALSE;
        k->bytes.size = 1;
        return 1;
    default:
        return 0;
    }
}

void
lmpe_dict_check_key(lua_State *L, int idx, lmpe_dict_key *k, const char *call)
{
    if (!lmpe_dict_to_key(L, idx, k))
        luaL_error(L, LMPE_KEY_MUST, call, lmpe_dict_bad_key(L, idx));
}

void
lmpe_dict_push_key(lua_State *L, const uint8_t *p, size_t n)
{
    mpe_wire_reader r;
    mpe_wire_item item;
    mpe_wire_open(&r, p, n);
    int is_one = mpe_wire_read(&r, &item) == 1 && r.at == r.end;
    if (is_one && item.kind == MPE_WIRE_STR)
        lua_pushlstring(L, (const char *)item.u.bytes, item.n);
    else if (is_one && item.kind == MPE_WIRE_INT)
        lua_pushinteger(L, (lua_Integer)item.u.i);
    else if (is_one && item.kind == MPE_WIRE_FLOAT && item.u.f == item.u.f)
        lua_pushnumber(L, item.u.f);
    else if (is_one && item.kind == MPE_WIRE_BOOL)
        lua_pushboolean(L, (int)item.u.i);
    else
        luaL_error(L, "damaged data: the bytes of a key are not a string, number or boolean");
}
