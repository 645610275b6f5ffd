/* SPDX-License-Identifier: MIT
 *
 * ldict.c - mp.Dict: the type, and operations on one entry. A value's bytes are one message of
 * the codec. No lock of the engine is held while Lua runs.
 */
#include "base/llabel.h"
#include "codec/lmessage.h"
#include "shared/ldict.h"

/* ---- one entry ---- */

/* Pushes the value of the key at idx and returns 1, or 0. */
static int
push_value(lua_State *L, lmpe_box *b, int idx, const char *call)
{
    lmpe_dict_key k;
    lmpe_store s;
    lmpe_dict_check_key(L, idx, &k, call);
    lmpe_store_open(&s, b, call);
    int rc = mpe_dict_get(b->S->e, b->o, k.bytes, &s.buf, NULL);
    if (rc == MPE_OK)
        return lmpe_store_value(L, &s);
    lmpe_store_close(&s);
    return rc == MPE_ENOENT ? 0 : lmpe_raise(L, rc, call);
}

/* d[k] = v, or its removal by nil. */
static int
put(lua_State *L, lmpe_box *b, const char *call)
{
    lmpe_dict_key k;
    lmpe *S = b->S;
    lmpe_dict_check_key(L, 2, &k, call);
    if (lua_isnil(L, 3)) {
        int rc = mpe_dict_remove(S->e, b->o, k.bytes, NULL);
        return rc == MPE_OK || rc == MPE_ENOENT ? 0 : lmpe_raise(L, rc, call);
    }
    int handles = lmpe_encode_value(L, S, 3, "value", call);
    mpe_bytes value = {S->scratch->data, S->scratch->len};
    int rc, tries = 0;
    do
        rc = mpe_dict_put(S->e, b->o, k.bytes, value, handles);
    while (lmpe_try_again(L, S, rc, &tries));
    lmpe_sent(L, S);
    return rc == MPE_OK ? 0 : lmpe_raise(L, rc, call);
}

#define LONGEST_METHOD 10 /* setdefault */

/* Can the key be the name of a method? */
static int
may_be_method(lua_State *L, int idx)
{
    return lua_type(L, idx) == LUA_TSTRING && lua_rawlen(L, idx) <= LONGEST_METHOD;
}

/* d[k] */
static int
dict_index(lua_State *L)
{
    lmpe_box *b = lmpe_receiver(L, MPE_KIND_DICT);
    if (may_be_method(L, 2)) {
        lua_pushvalue(L, 2);
        if (lua_rawget(L, LMPE_METHODS) != LUA_TNIL)
            return 1;
    }
    return push_value(L, b, 2, "Dict");
}

/* d[k] = v */
static int
dict_newindex(lua_State *L)
{
    lmpe_box *b = lmpe_receiver(L, MPE_KIND_DICT);
    lua_settop(L, 3);
    if (may_be_method(L, 2)) {
        lua_pushvalue(L, 2);
        if (lua_rawget(L, LMPE_METHODS) != LUA_TNIL) {
            const char *name = lua_tostring(L, 2);
            return luaL_error(L,
                              "Dict: '%s' is a method, it cannot be assigned: use "
                              "d:set(\"%s\", value)",
                              name, name);
        }
        lua_pop(L, 1);
    }
    return put(L, b, "Dict");
}

static int
dict_len(lua_State *L)
{
    lmpe_box *b = lmpe_receiver(L, MPE_KIND_DICT);
    lua_pushinteger(L, (lua_Integer)mpe_dict_count(b->S->e, b->o));
    return 1;
}

/* d:get(k [, default]) */
static int
dict_get(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    lua_settop(L, 3);
    if (!push_value(L, b, 2, "Dict:get"))
        lua_pushvalue(L, 3);
    return 1;
}

/* d:set(k, v) */
static int
dict_set(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    lua_settop(L, 3);
    return put(L, b, "Dict:set");
}

/* d:has(k) */
static int
dict_has(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    lmpe_dict_key k;
    lmpe_dict_check_key(L, 2, &k, "Dict:has");
    lua_pushboolean(L, mpe_dict_has(b->S->e, b->o, k.bytes));
    return 1;
}

/* d:setdefault(k, v) -> the value that is there now */
static int
dict_setdefault(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    lmpe *S = b->S;
    lmpe_dict_key k;
    int rc = MPE_EEXIST, tries = 0;
    lua_settop(L, 3);
    lmpe_dict_check_key(L, 2, &k, "Dict:setdefault");
    while (rc == MPE_EEXIST ||
           lmpe_try_again(L, S, rc, &tries)) { /* removed between the two reads: once more */
        if (push_value(L, b, 2, "Dict:setdefault"))
            return 1;
        if (lua_isnil(L, 3))
            break;
        int handles = lmpe_encode_value(L, S, 3, "value", "Dict:setdefault");
        mpe_bytes value = {S->scratch->data, S->scratch->len};
        rc = mpe_dict_put_new(S->e, b->o, k.bytes, value, handles);
    }
    lmpe_sent(L, S);
    if (rc != MPE_OK && rc != MPE_EEXIST)
        return lmpe_raise(L, rc, "Dict:setdefault");
    lua_pushvalue(L, 3);
    return 1;
}

/* d:pop(k [, default]) */
static int
dict_pop(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    lmpe_dict_key k;
    lmpe_store s;
    lua_settop(L, 3);
    lmpe_dict_check_key(L, 2, &k, "Dict:pop");
    lmpe_store_open(&s, b, "Dict:pop");
    int rc = mpe_dict_remove(b->S->e, b->o, k.bytes, &s.buf);
    if (rc == MPE_OK)
        return lmpe_store_value(L, &s);
    lmpe_store_close(&s);
    if (rc != MPE_ENOENT)
        return lmpe_raise(L, rc, "Dict:pop");
    lua_pushvalue(L, 3);
    return 1;
}

static int
push_item(lua_State *L)
{
    lmpe_store *s = lmpe_store_of(L);
    lmpe_dict_push_key(L, s->key.data, s->key.len);
    lmpe_store_decode(L, s->buf.data, s->buf.len);
    return 2;
}

/* d:popitem() -> k, v | nil */
static int
dict_popitem(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    lmpe_store s;
    lmpe_store_open(&s, b, "Dict:popitem");
    int rc = mpe_dict_pop_any(b->S->e, b->o, &s.key, &s.buf);
    if (rc == MPE_OK)
        return lmpe_store_call(L, &s, push_item, 0, 2);
    lmpe_store_close(&s);
    if (rc != MPE_ENOENT)
        return lmpe_raise(L, rc, "Dict:popitem");
    lua_pushnil(L);
    return 1;
}

/* ---- incr ---- */

/* d:incr(k [, n]) -> the new value */
static int
dict_incr(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    lmpe_increment n = {.is_integer = 1, .i = 1, .begins = 1};
    lmpe_dict_key k;
    lua_settop(L, 3);
    lmpe_dict_check_key(L, 2, &k, "Dict:incr");
    lmpe_increment_by(L, 3, &n, "Dict:incr: n");
    int rc, tries = 0;
    do
        rc = mpe_dict_edit(b->S->e, b->o, k.bytes, lmpe_increment_edit, &n);
    while (lmpe_try_again(L, b->S, rc, &tries));
    return lmpe_increment_push(L, rc, &n, "Dict:incr");
}

static int
dict_clear(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    mpe_dict_clear(b->S->e, b->o);
    return 0;
}

/* ---- making ---- */

static int
dict_tostring(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    lua_Integer n = (lua_Integer)mpe_dict_count(b->S->e, b->o);
    lmpe_push_identity(L, b);
    lua_pushfstring(L, n == 1 ? " (%I entry)" : " (%I entries)", n);
    lua_concat(L, 2);
    return 1;
}

/* Dict([table | dict [, { name = }]]) */
static int
new_dict(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    mpe_object *o = NULL;
    lmpe_take_name(L, "Dict");
    int has_entries = !lua_isnil(L, 1);
    int rc, tries = 0;
    do
        rc = mpe_dict_create(S->e, &o);
    while (lmpe_try_again(L, S, rc, &tries));
    lmpe_created(L, S, rc, &o, "Dict", 2);
    if (has_entries)
        lmpe_dict_update_from(L, lua_touserdata(L, -1), 1, "Dict");
    return 1;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg methods[] = {{"get", dict_get},
                                       {"set", dict_set},
                                       {"has", dict_has},
                                       {"pop", dict_pop},
                                       {"popitem", dict_popitem},
                                       {"setdefault", dict_setdefault},
                                       {"keys", lmpe_dict_keys},
                                       {"values", lmpe_dict_values},
                                       {"items", lmpe_dict_items},
                                       {"update", lmpe_dict_update},
                                       {"clear", dict_clear},
                                       {"copy", lmpe_dict_copy},
                                       {"incr", dict_incr},
                                       {"modify", lmpe_dict_modify},
                                       {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__len", dict_len},
                                    {"__pairs", lmpe_dict_pairs},
                                    {"__tostring", dict_tostring},
                                    {NULL, NULL}};
    static const luaL_Reg makers[] = {{"Dict", new_dict}, {NULL, NULL}};
    lmpe_new_type(L, S, &(lmpe_type){.kind = MPE_KIND_DICT, .methods = methods, .meta = meta});
    lmpe_store_accessors(L, S, "Dict", dict_index, dict_newindex);
    lmpe_set_makers(L, S, makers);
}

const lmpe_module lmpe_dict_module = {.open = on_open};
