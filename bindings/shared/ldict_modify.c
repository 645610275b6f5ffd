/* SPDX-License-Identifier: MIT
 *
 * ldict_modify.c - d:modify(k, f). f runs with no lock held, and may wait; its result is stored
 * if the key has not changed since, otherwise f runs again. One of several stores always
 * succeeds.
 */
#include "codec/lmessage.h"
#include "shared/ldict.h"

#include <string.h>

/* The stack of a modify: the dict, the key, f, the version of the key, the bytes passed to f
 * (nil: absent), and the result of f. */
enum { MODIFY_KEY = 2, MODIFY_F, MODIFY_VERSION, MODIFY_BYTES, MODIFY_RESULT };

static int
push_bytes_and_value(lua_State *L)
{
    lmpe_store *s = lmpe_store_of(L);
    lua_pushlstring(L, (const char *)s->buf.data, s->buf.len);
    lmpe_store_decode(L, s->buf.data, s->buf.len);
    return 2;
}

/* Reads the entry and leaves the call of f ready: f and its argument on top. */
static void
modify_load(lua_State *L, lmpe_box *b)
{
    lmpe_dict_key k;
    lmpe_store s;
    uint64_t version;
    lua_settop(L, MODIFY_F);
    lmpe_dict_check_key(L, MODIFY_KEY, &k, "Dict:modify");
    lmpe_store_open(&s, b, "Dict:modify");
    int rc = mpe_dict_get(b->S->e, b->o, k.bytes, &s.buf, &version);
    lua_settop(L, MODIFY_F);
    lua_pushinteger(L, (lua_Integer)version);
    if (rc == MPE_OK && lmpe_store_is_small(&s)) {
        lua_pushlstring(L, (const char *)s.buf.data, s.buf.len);
        lmpe_store_value(L, &s);
    } else if (rc == MPE_OK) {
        lmpe_store_call(L, &s, push_bytes_and_value, 0, 2);
    } else {
        lmpe_store_close(&s);
        if (rc != MPE_ENOENT)
            lmpe_raise(L, rc, "Dict:modify");
        lua_settop(L, MODIFY_BYTES + 1);
    }
    lua_pushvalue(L, MODIFY_F);
    lua_insert(L, -2);
}

/* Has the key still the bytes passed to f? Then version is the present one: the change was to a
 * neighbour, perhaps by f itself. */
static int
is_unchanged(lua_State *L, lmpe_box *b, mpe_bytes key, uint64_t *version)
{
    lmpe_store s;
    size_t n = 0;
    const char *bytes = lua_tolstring(L, MODIFY_BYTES, &n);
    lmpe_store_open(&s, b, "Dict:modify");
    int rc = mpe_dict_get(b->S->e, b->o, key, &s.buf, version);
    int same = bytes ? rc == MPE_OK && s.buf.len == n && memcmp(s.buf.data, bytes, n) == 0
                     : rc == MPE_ENOENT;
    lmpe_store_close(&s);
    return same;
}

/* Stores the result of f: 1, or 0 when the key was changed in the meantime. */
static int
modify_store(lua_State *L, lmpe_box *b)
{
    lmpe *S = b->S;
    lmpe_dict_key k;
    int handles = 0, tries = 0, rc, removes = lua_isnil(L, MODIFY_RESULT);
    uint64_t version = (uint64_t)lua_tointeger(L, MODIFY_VERSION);
    lmpe_dict_check_key(L, MODIFY_KEY, &k, "Dict:modify");
    if (!removes)
        handles = lmpe_encode_value(L, S, MODIFY_RESULT, "value", "Dict:modify");
    do {
        mpe_bytes value = {S->scratch->data, S->scratch->len};
        rc = removes ? mpe_dict_remove_if(S->e, b->o, k.bytes, version)
                     : mpe_dict_put_if(S->e, b->o, k.bytes, version, value, handles);
    } while ((rc == MPE_EAGAIN && is_unchanged(L, b, k.bytes, &version)) ||
             lmpe_try_again(L, S, rc, &tries));
    lmpe_sent(L, S);
    if (rc != MPE_OK && rc != MPE_EAGAIN)
        lmpe_raise(L, rc, "Dict:modify");
    return rc == MPE_OK;
}

/* f has returned. */
static int
modify_k(lua_State *L, int status, lua_KContext ctx)
{
    lmpe_box *b = lua_touserdata(L, 1);
    (void)status;
    while (!modify_store(L, b)) {
        modify_load(L, b);
        lua_callk(L, 1, 1, ctx, modify_k);
    }
    lua_settop(L, MODIFY_RESULT);
    return 1;
}

/* d:modify(k, f) -> the new value */
int
lmpe_dict_modify(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    if (lua_type(L, MODIFY_F) != LUA_TFUNCTION && !luaL_getmetafield(L, MODIFY_F, "__call"))
        return luaL_error(L, "Dict:modify: f must be a function, got %s",
                          luaL_typename(L, MODIFY_F));
    modify_load(L, b);
    lua_callk(L, 1, 1, 0, modify_k);
    return modify_k(L, LUA_OK, 0);
}
