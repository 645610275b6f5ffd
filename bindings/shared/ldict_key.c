/* SPDX-License-Identifier: MIT
 *
 * ldict_key.c - the keys of dicts as bytes, which are their identity: a letter and its value. s
 * and the string, i and an integer, d and a float that is not an integer (both 8 bytes,
 * little-endian), t, f.
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
    uint64_t bits = (uint64_t)lua_tointegerx(L, idx, &whole);
    k->small[0] = 'i';
    if (!whole) {
        lua_Number v = lua_tonumber(L, idx);
        if (v != v)
            return 0;
        k->small[0] = 'd';
        memcpy(&bits, &v, sizeof bits);
    }
    bits = mpe_wire_le64(bits);
    memcpy(k->small + 1, &bits, sizeof bits);
    k->bytes.size = 9;
    return 1;
}

int
lmpe_dict_to_key(lua_State *L, int idx, lmpe_dict_key *k)
{
    const char *s;
    size_t n;
    uint8_t *p = k->small;
    k->bytes.data = p;
    switch (lua_type(L, idx)) {
    case LUA_TSTRING:
        s = lua_tolstring(L, idx, &n);
        if (n >= LMPE_KEY_INLINE)
            k->bytes.data = p = lua_newuserdatauv(L, n + 1, 0);
        p[0] = 's';
        memcpy(p + 1, s, n);
        k->bytes.size = n + 1;
        return 1;
    case LUA_TNUMBER:
        return number_key(L, idx, k);
    case LUA_TBOOLEAN:
        p[0] = lua_toboolean(L, idx) ? 't' : 'f';
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
    uint64_t bits = 0;
    lua_Number v;
    if (n == 9)
        memcpy(&bits, p + 1, sizeof bits);
    bits = mpe_wire_le64(bits);
    switch (n ? p[0] : 0) {
    case 's':
        lua_pushlstring(L, (const char *)p + 1, n - 1);
        return;
    case 'i':
        lua_pushinteger(L, (lua_Integer)bits);
        return;
    case 'd':
        memcpy(&v, &bits, sizeof v);
        lua_pushnumber(L, v);
        return;
    case 't':
    case 'f':
        lua_pushboolean(L, p[0] == 't');
        return;
    default: /* a C program's own */
        lua_pushlstring(L, (const char *)p, n);
    }
}
