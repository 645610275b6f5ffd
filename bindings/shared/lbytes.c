/* SPDX-License-Identifier: MIT
 *
 * lbytes.c - values between Lua and the bytes that dicts and lists store. Bytes in a grown
 * buffer and pinned objects belong to a C frame, so code that may raise while they exist runs
 * under pcall.
 */
#include "codec/lmessage.h"
#include "codec/lcodec.h"
#include "shared/lbytes.h"

#include <stdarg.h>

void
lmpe_store_open(lmpe_store *s, lmpe_box *b, const char *call)
{
    s->S = b->S;
    s->o = b->o;
    s->call = call;
    s->pins = mpe_pin_mark(b->S->e);
    s->handles = 0;
    mpe_buf_init(&s->buf);
    mpe_buf_init(&s->key);
}

void
lmpe_store_close(lmpe_store *s)
{
    mpe_unpin(s->S->e, s->pins);
    mpe_buf_free(&s->buf);
    mpe_buf_free(&s->key);
}

int
lmpe_store_call(lua_State *L, lmpe_store *s, lua_CFunction f, int n, int nresults)
{
    lua_pushcfunction(L, f);
    lua_pushlightuserdata(L, s);
    lua_rotate(L, -n - 2, 2);
    int status = lua_pcall(L, n + 1, nresults, 0);
    lmpe_store_close(s);
    return status == LUA_OK ? nresults : lua_error(L);
}

static int
decode_protected(lua_State *L)
{
    lmpe_store *s = lmpe_store_of(L);
    lmpe_store_decode(L, s->buf.data, s->buf.len);
    return 1;
}

int
lmpe_store_value(lua_State *L, lmpe_store *s)
{
    if (lmpe_store_is_small(s)) {
        int n = lmpe_decode_values(L, s->S, s->buf.data, s->buf.len, s->pins);
        return n == 1 ? 1 : luaL_error(L, LMPE_NOT_ONE_VALUE);
    }
    return lmpe_store_call(L, s, decode_protected, 0, 1);
}

lmpe_store *
lmpe_store_of(lua_State *L)
{
    return lua_touserdata(L, 1);
}

int
lmpe_store_error(lua_State *L, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    luaL_where(L, 2); /* 0 is the protected function, 1 the method */
    lua_pushvfstring(L, format, args);
    va_end(args);
    lua_concat(L, 2);
    return lua_error(L);
}

void
lmpe_store_check(lua_State *L, lmpe_store *s, int status)
{
    if (status < 0)
        lmpe_store_error(L, "%s: %s", s->call, mpe_strerror(status));
}

size_t
lmpe_store_encode(lua_State *L, lmpe_store *s, int idx, const char *root)
{
    lmpe_encode_opts opts = {
        .names = &root, .nnames = 1, .in_program = 1, .passes = LMPE_PASS_KEPT};
    size_t before = s->buf.len;
    if (lmpe_encode(L, idx, 1, &s->buf, &opts) < 0)
        lmpe_store_error(L, "%s: %s", s->call, lua_tostring(L, -1));
    s->handles |= opts.has_handles;
    return s->buf.len - before;
}

void
lmpe_store_decode(lua_State *L, const void *bytes, size_t size)
{
    int n;
    if (lmpe_decode(L, bytes, size, &n, LMPE_DECODE_FUNCTIONS) < 0)
        lua_error(L);
    if (n != 1)
        luaL_error(L, LMPE_NOT_ONE_VALUE);
}

void
lmpe_store_accessors(lua_State *L, lmpe *S, const char *name, lua_CFunction index,
                     lua_CFunction newindex)
{
    lua_getfield(L, -1, name);
    lua_pushlightuserdata(L, S);
    lua_pushvalue(L, -2);
    lua_getfield(L, -1, "methods");
    lua_pushcclosure(L, index, 3);
    lua_setfield(L, -2, "__index");
    lua_pushlightuserdata(L, S);
    lua_pushvalue(L, -2);
    lua_getfield(L, -1, "methods");
    lua_pushcclosure(L, newindex, 3);
    lua_setfield(L, -2, "__newindex");
    lua_pop(L, 1);
}

const char *
lmpe_type_name(lua_State *L, int idx)
{
    if (lua_type(L, idx) == LUA_TUSERDATA && luaL_getmetafield(L, idx, "__name") == LUA_TSTRING)
        return lua_tostring(L, -1);
    return luaL_typename(L, idx);
}

int
lmpe_is_list(lua_State *L, int idx)
{
    if (lua_istable(L, idx))
        return 1;
    lmpe_box *b = lmpe_test_any(L, idx);
    if (!b || !b->o)
        return 0;
    int kind = mpe_handle_kind(b->h);
    return kind == MPE_KIND_ARRAY || kind == MPE_KIND_RAW_ARRAY || kind == MPE_KIND_ARRAY_VIEW ||
           kind == MPE_KIND_LIST;
}
