/* SPDX-License-Identifier: MIT
 *
 * lincrement.c - adding to a number that is stored as bytes: incr of dicts and caches. The sum of
 * two integers is one, and wraps around.
 */
#include "shared/ldict.h"

void
lmpe_increment_by(lua_State *L, int idx, lmpe_increment *n, const char *what)
{
    if (lua_isnil(L, idx))
        return;
    if (lua_type(L, idx) != LUA_TNUMBER)
        luaL_error(L, "%s must be a number, got %s", what, luaL_typename(L, idx));
    n->is_integer = lua_isinteger(L, idx);
    n->i = n->is_integer ? lua_tointeger(L, idx) : 0;
    n->f = lua_tonumber(L, idx);
}

/* The number that is there, or with which an absent key begins. */
static int
read_number(const uint8_t *value, size_t size, const lmpe_increment *n, mpe_wire_item *item)
{
    mpe_wire_reader r;
    *item = (mpe_wire_item){.kind = MPE_WIRE_INT};
    item->u.i = n->init_i;
    if (!value && n->init_is_float) {
        item->kind = MPE_WIRE_FLOAT;
        item->u.f = n->init_f;
    }
    if (!value)
        return n->begins ? MPE_OK : MPE_ENOENT;
    mpe_wire_open(&r, value, size);
    return mpe_wire_read(&r, item) == 1 ? MPE_OK : MPE_ECORRUPT;
}

int
lmpe_increment_edit(const uint8_t *value, size_t size, uint8_t out[16], size_t *out_size, void *ud)
{
    lmpe_increment *n = ud;
    mpe_wire_item item;
    int rc = read_number(value, size, n, &item);
    if (rc != MPE_OK)
        return rc;
    n->found = (int)item.kind;
    if (item.kind == MPE_WIRE_INT && n->is_integer) {
        n->i = (lua_Integer)((uint64_t)n->i + (uint64_t)item.u.i);
        *out_size = (size_t)(mpe_wire_write_int(out, n->i) - out);
        return MPE_OK;
    }
    if (item.kind != MPE_WIRE_INT && item.kind != MPE_WIRE_FLOAT)
        return MPE_ETYPE;
    lua_Number was = item.kind == MPE_WIRE_INT ? (lua_Number)item.u.i : item.u.f;
    n->f = was + (n->is_integer ? (lua_Number)n->i : n->f);
    n->is_integer = 0;
    *out_size = (size_t)(mpe_wire_write_float(out, n->f) - out);
    return MPE_OK;
}
static const char *
kind_name(int kind)
{
    switch (kind) {
    case MPE_WIRE_NIL:
        return "nil";
    case MPE_WIRE_BOOL:
        return "boolean";
    case MPE_WIRE_STR:
        return "string";
    case MPE_WIRE_FUNC:
        return "function";
    case MPE_WIRE_HANDLE:
        return "a shared object";
    default:
        return "table";
    }
}

int
lmpe_increment_push(lua_State *L, int status, const lmpe_increment *n, const char *call)
{
    if (status == MPE_ETYPE)
        return luaL_error(L, "%s: the value of key %s must be a number, got %s", call,
                          luaL_tolstring(L, 2, NULL), kind_name(n->found));
    if (status != MPE_OK)
        return lmpe_raise(L, status, call);
    if (n->is_integer)
        lua_pushinteger(L, n->i);
    else
        lua_pushnumber(L, n->f);
    return 1;
}
