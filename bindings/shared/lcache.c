/* SPDX-License-Identifier: MIT
 *
 * lcache.c - mp.Cache: the type, and operations on single keys. Keys and values are those of dicts.
 * No lock of the engine is held while Lua runs.
 */
#include "base/llabel.h"
#include "codec/lmessage.h"
#include "shared/lcache.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- arguments ---- */

uint64_t
lmpe_cache_ttl(lua_State *L, int idx, const char *call)
{
    if (lua_isnoneornil(L, idx))
        return 0;
    lua_Number s = lua_type(L, idx) == LUA_TNUMBER ? lua_tonumber(L, idx) : -1;
    if (!(s > 0))
        luaL_error(L, "%s: ttl must be a number of seconds, more than 0, got %s", call,
                   lua_type(L, idx) == LUA_TNUMBER ? lua_tostring(L, idx) : luaL_typename(L, idx));
    if (s >= 1e9)
        return MPE_FOREVER;
    lua_Number ns = ceil(s * (lua_Number)MPE_NS_PER_S);
    return ns < 1 ? 1 : (uint64_t)ns;
}

int
lmpe_cache_raise(lua_State *L, lmpe_box *b, int status, const char *call)
{
    mpe_cache_stats stats;
    if (status != MPE_ERANGE)
        return lmpe_raise(L, status, call);
    mpe_cache_stats_get(b->S->e, b->o, &stats);
    return luaL_error(L, "%s: the value is larger than the cache: at most %I bytes fit", call,
                      (lua_Integer)stats.max_bytes);
}

/* ---- one key ---- */

/* c:get(k) -> the value | nil */
static int
cache_get(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    lmpe_dict_key k;
    lmpe_store s;
    lmpe_dict_check_key(L, 2, &k, "Cache:get");
    lmpe_store_open(&s, b, "Cache:get");
    int rc = mpe_cache_get(b->S->e, b->o, k.bytes, &s.buf);
    if (rc == MPE_OK)
        return lmpe_store_value(L, &s);
    lmpe_store_close(&s);
    if (rc != MPE_ENOENT)
        return lmpe_raise(L, rc, "Cache:get");
    lua_pushnil(L);
    return 1;
}

/* c:set(k, v [, ttl]) -> true; add and replace: or false */
static int
put(lua_State *L, enum mpe_cache_put how, const char *call)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    lmpe *S = b->S;
    lmpe_dict_key k;
    lua_settop(L, 4);
    lmpe_dict_check_key(L, 2, &k, call);
    if (lua_isnil(L, 3))
        return luaL_error(L, "%s: a nil cannot be stored", call);
    uint64_t ttl = lmpe_cache_ttl(L, 4, call);
    int handles = lmpe_encode_value(L, S, 3, "value", call);
    mpe_bytes value = {S->scratch->data, S->scratch->len};
    int rc = mpe_cache_put(S->e, b->o, k.bytes, value, handles, ttl, how);
    if (rc != MPE_OK && rc != MPE_EEXIST && rc != MPE_ENOENT)
        return lmpe_cache_raise(L, b, rc, call);
    lua_pushboolean(L, rc == MPE_OK);
    return 1;
}

static int
cache_set(lua_State *L)
{
    return put(L, MPE_CACHE_SET, "Cache:set");
}

static int
cache_add(lua_State *L)
{
    return put(L, MPE_CACHE_ADD, "Cache:add");
}

static int
cache_replace(lua_State *L)
{
    return put(L, MPE_CACHE_REPLACE, "Cache:replace");
}

/* Pushes whether a key was there. */
static int
push_was_there(lua_State *L, int status, const char *call)
{
    if (status != MPE_OK && status != MPE_ENOENT)
        return lmpe_raise(L, status, call);
    lua_pushboolean(L, status == MPE_OK);
    return 1;
}

/* c:delete(k) -> whether it was there */
static int
cache_delete(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    lmpe_dict_key k;
    lmpe_dict_check_key(L, 2, &k, "Cache:delete");
    return push_was_there(L, mpe_cache_remove(b->S->e, b->o, k.bytes), "Cache:delete");
}

/* c:touch(k [, ttl]) -> whether it is there */
static int
cache_touch(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    lmpe_dict_key k;
    lua_settop(L, 3);
    lmpe_dict_check_key(L, 2, &k, "Cache:touch");
    uint64_t ttl = lmpe_cache_ttl(L, 3, "Cache:touch");
    return push_was_there(L, mpe_cache_touch(b->S->e, b->o, k.bytes, ttl), "Cache:touch");
}

/* c:ttl(k) -> seconds | math.huge | nil */
static int
cache_ttl(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    lmpe_dict_key k;
    uint64_t ns;
    lmpe_dict_check_key(L, 2, &k, "Cache:ttl");
    int rc = mpe_cache_ttl(b->S->e, b->o, k.bytes, &ns);
    if (rc == MPE_ENOENT)
        lua_pushnil(L);
    else if (rc != MPE_OK)
        return lmpe_raise(L, rc, "Cache:ttl");
    else
        lua_pushnumber(L, ns == MPE_FOREVER ? HUGE_VAL : (lua_Number)ns / (lua_Number)MPE_NS_PER_S);
    return 1;
}

/* c:incr(k [, n [, init [, ttl]]]) -> the new value */
static int
cache_incr(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    lmpe_increment n = {.is_integer = 1, .i = 1}, init = {.is_integer = 1};
    lmpe_dict_key k;
    lua_settop(L, 5);
    lmpe_dict_check_key(L, 2, &k, "Cache:incr");
    lmpe_increment_by(L, 3, &n, "Cache:incr: n");
    lmpe_increment_by(L, 4, &init, "Cache:incr: init");
    n.begins = !lua_isnil(L, 4);
    n.init_is_float = !init.is_integer;
    n.init_i = init.i;
    n.init_f = init.f;
    uint64_t ttl = lmpe_cache_ttl(L, 5, "Cache:incr");
    int rc = mpe_cache_edit(b->S->e, b->o, k.bytes, ttl, lmpe_increment_edit, &n);
    if (rc == MPE_ENOENT)
        return luaL_error(L, "Cache:incr: key %s is absent: init expected",
                          luaL_tolstring(L, 2, NULL));
    return rc == MPE_ERANGE ? lmpe_cache_raise(L, b, rc, "Cache:incr")
                            : lmpe_increment_push(L, rc, &n, "Cache:incr");
}

/* ---- all keys ---- */

static int
cache_clear(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    mpe_cache_clear(b->S->e, b->o);
    return 0;
}

static int
push_keys(lua_State *L)
{
    lmpe_store *s = lmpe_store_of(L);
    mpe_bytes key;
    size_t at = 0;
    lua_newtable(L);
    for (lua_Integer i = 1; mpe_next(&s->buf, &at, &key, NULL) == MPE_OK; i++) {
        lmpe_dict_push_key(L, key.data, key.size);
        lua_rawseti(L, -2, i);
    }
    return 1;
}

/* c:keys([n]) -> a list of at most n keys */
static int
cache_keys(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    lmpe_store s;
    uint64_t count, max = UINT64_MAX;
    if (!lua_isnoneornil(L, 2))
        max = (uint64_t)lmpe_check_count(L, 2, 0, LUA_MAXINTEGER, "number of keys");
    lmpe_store_open(&s, b, "Cache:keys");
    int rc = mpe_cache_keys(b->S->e, b->o, max, &s.buf, &count);
    if (rc == MPE_OK)
        return lmpe_store_call(L, &s, push_keys, 0, 1);
    lmpe_store_close(&s);
    return lmpe_raise(L, rc, "Cache:keys");
}

static void
set_count(lua_State *L, const char *name, uint64_t n)
{
    lua_pushinteger(L, (lua_Integer)n);
    lua_setfield(L, -2, name);
}

static int
push_stats(lua_State *L, lmpe *S, mpe_object *o)
{
    mpe_cache_stats s;
    mpe_cache_stats_get(S->e, o, &s);
    lua_createtable(L, 0, 9);
    set_count(L, "size", s.max_bytes);
    set_count(L, "entries", s.entries);
    set_count(L, "bytes", s.bytes);
    set_count(L, "hits", s.hits);
    set_count(L, "misses", s.misses);
    set_count(L, "evictions", s.evictions);
    set_count(L, "expired", s.expired);
    set_count(L, "computed", s.computed);
    set_count(L, "waited", s.waited);
    return 1;
}

/* c:stats() -> a table of counts */
static int
cache_stats(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    return push_stats(L, b->S, b->o);
}

/* cache_stats(handle) -> the same of any cache of the arena; nil: it is gone */
static int
stats_of_handle(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    mpe_handle h = (mpe_handle)luaL_checkinteger(L, 1);
    mpe_object *o;
    if (mpe_handle_kind(h) != MPE_KIND_CACHE || mpe_hold(S->e, h, &o) != MPE_OK)
        return 0;
    push_stats(L, S, o);
    mpe_drop(S->e, o);
    return 1;
}

/* ---- making ---- */

static int
cache_tostring(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    mpe_cache_stats s;
    mpe_cache_stats_get(b->S->e, b->o, &s);
    lmpe_push_identity(L, b);
    lua_pushfstring(
        L, s.entries == 1 ? " (%I entry, %I of %I bytes)" : " (%I entries, %I of %I bytes)",
        (lua_Integer)s.entries, (lua_Integer)s.bytes, (lua_Integer)s.max_bytes);
    lua_concat(L, 2);
    return 1;
}

/* A number of bytes, or a text as "64M". 0: it is none. */
static uint64_t
to_bytes(lua_State *L, int idx)
{
    static const char units[] = "KMGT";
    if (lua_type(L, idx) == LUA_TNUMBER) {
        int is_whole;
        lua_Integer n = lua_tointegerx(L, idx, &is_whole);
        return is_whole && n > 0 ? (uint64_t)n : 0;
    }
    if (lua_type(L, idx) != LUA_TSTRING)
        return 0;
    const char *text = lua_tostring(L, idx);
    char *end;
    if (*text < '0' || *text > '9')
        return 0;
    uint64_t n = strtoull(text, &end, 10);
    const char *unit = *end ? strchr(units, *end & ~0x20) : NULL;
    for (const char *u = units; unit && u <= unit; u++)
        n = n < 1ull << 50 ? n * 1024 : 0;
    end += unit != NULL;
    if (unit && *end == 'i')
        end++;
    if (*end == 'B')
        end++;
    return *end ? 0 : n;
}

#define DEFAULT_BYTES (64u << 20)

/* Cache(size [, ttl]), or Cache{ size =, ttl =, name = } */
static int
new_cache(lua_State *L)
{
    static const char *const fields[] = {"size", "ttl", NULL};
    lmpe *S = lmpe_self(L);
    mpe_object *o;
    lmpe_take_fields(L, "Cache", fields);
    uint64_t bytes = lua_isnil(L, 1) ? DEFAULT_BYTES : to_bytes(L, 1);
    uint64_t ttl = lmpe_cache_ttl(L, 2, "Cache");
    if (bytes < MPE_CACHE_MIN_BYTES)
        return luaL_error(
            L,
            "Cache: size must be a number of bytes, or a text as \"64M\", of 4K at least, got %s",
            luaL_tolstring(L, 1, NULL));
    int rc, tries = 0;
    do
        rc = mpe_cache_create(S->e, bytes, ttl ? ttl : MPE_FOREVER, &o);
    while (lmpe_try_again(L, S, rc, &tries));
    if (rc == MPE_EARENA)
        return luaL_error(L, "Cache: shared memory exhausted: %I bytes do not fit",
                          (lua_Integer)bytes);
    return lmpe_created(L, S, rc, &o, "Cache", 3);
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg methods[] = {{"get", cache_get},
                                       {"set", cache_set},
                                       {"add", cache_add},
                                       {"replace", cache_replace},
                                       {"delete", cache_delete},
                                       {"touch", cache_touch},
                                       {"ttl", cache_ttl},
                                       {"incr", cache_incr},
                                       {"fetch", lmpe_cache_fetch},
                                       {"clear", cache_clear},
                                       {"keys", cache_keys},
                                       {"stats", cache_stats},
                                       {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__tostring", cache_tostring}, {NULL, NULL}};
    static const luaL_Reg makers[] = {{"Cache", new_cache}, {NULL, NULL}};
    static const luaL_Reg functions[] = {{"cache_stats", stats_of_handle}, {NULL, NULL}};
    lmpe_new_type(L, S, &(lmpe_type){.kind = MPE_KIND_CACHE, .methods = methods, .meta = meta});
    lmpe_set_makers(L, S, makers);
    lmpe_setfuncs(L, S, functions);
    lmpe_cache_open_flights(L, S);
}

const lmpe_module lmpe_cache_module = {.open = on_open};
