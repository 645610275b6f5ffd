/* SPDX-License-Identifier: MIT
 *
 * ldict.c - mp.Dict. A key's bytes are a letter and what it says: s and the string, i and an
 * integer, d and a float that is no integer, t, f. A value's bytes are one message of the codec.
 * No lock of the engine is held while Lua runs.
 */
#include "lcodec.h"
#include "lstore.h"

#include <string.h>

/* ---- keys ---- */

#define KEY_INLINE 96

typedef struct dict_key {
    mpe_bytes bytes;
    uint8_t small[KEY_INLINE];
} dict_key;

#define KEY_MUST "%s: key must be a string, a number or a boolean, got %s"

static const char *
bad_key_name(lua_State *L, int idx)
{
    return lua_type(L, idx) == LUA_TNUMBER ? "nan" : luaL_typename(L, idx);
}

static int
number_key(lua_State *L, int idx, dict_key *k)
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

/* The bytes of the key at idx; 0 when it cannot be one. Those of a long string are pushed, to belong
 * to the stack. */
static int
to_key(lua_State *L, int idx, dict_key *k)
{
    const char *s;
    size_t n;
    uint8_t *p = k->small;
    k->bytes.data = p;
    switch (lua_type(L, idx)) {
    case LUA_TSTRING:
        s = lua_tolstring(L, idx, &n);
        if (n >= KEY_INLINE)
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

static void
check_key(lua_State *L, int idx, dict_key *k, const char *call)
{
    if (!to_key(L, idx, k))
        luaL_error(L, KEY_MUST, call, bad_key_name(L, idx));
}

static void
push_key(lua_State *L, const uint8_t *p, size_t n)
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

/* ---- one entry ---- */

/* Pushes the value of the key at idx and returns 1, or 0. */
static int
push_value(lua_State *L, lmpe_box *b, int idx, const char *call)
{
    dict_key k;
    lmpe_store s;
    check_key(L, idx, &k, call);
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
    dict_key k;
    lmpe *S = b->S;
    check_key(L, 2, &k, call);
    if (lua_isnil(L, 3)) {
        int rc = mpe_dict_remove(S->e, b->o, k.bytes, NULL);
        return rc == MPE_OK || rc == MPE_ENOENT ? 0 : lmpe_raise(L, rc, call);
    }
    int handles = lmpe_encode_value(L, S, 3, "value", call);
    mpe_bytes value = {S->scratch.data, S->scratch.len};
    int rc = mpe_dict_put(S->e, b->o, k.bytes, value, handles);
    return rc == MPE_OK ? 0 : lmpe_raise(L, rc, call);
}

/* d[k] */
static int
dict_index(lua_State *L)
{
    lmpe_box *b = lmpe_receiver(L, MPE_KIND_DICT);
    if (lua_type(L, 2) == LUA_TSTRING) {
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
    if (lua_type(L, 2) == LUA_TSTRING) {
        lua_pushvalue(L, 2);
        if (lua_rawget(L, LMPE_METHODS) != LUA_TNIL) {
            const char *name = lua_tostring(L, 2);
            return luaL_error(L, "Dict: '%s' is a method, it cannot be assigned: use "
                                 "d:set(\"%s\", value)", name, name);
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
    dict_key k;
    check_key(L, 2, &k, "Dict:has");
    lua_pushboolean(L, mpe_dict_has(b->S->e, b->o, k.bytes));
    return 1;
}

/* d:setdefault(k, v) -> the value that is there now */
static int
dict_setdefault(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    lmpe *S = b->S;
    dict_key k;
    int rc = MPE_EEXIST;
    lua_settop(L, 3);
    check_key(L, 2, &k, "Dict:setdefault");
    while (rc == MPE_EEXIST) { /* removed between the two looks: once more */
        if (push_value(L, b, 2, "Dict:setdefault"))
            return 1;
        if (lua_isnil(L, 3))
            break;
        int handles = lmpe_encode_value(L, S, 3, "value", "Dict:setdefault");
        mpe_bytes value = {S->scratch.data, S->scratch.len};
        rc = mpe_dict_put_new(S->e, b->o, k.bytes, value, handles);
        if (rc != MPE_OK && rc != MPE_EEXIST)
            return lmpe_raise(L, rc, "Dict:setdefault");
    }
    lua_pushvalue(L, 3);
    return 1;
}

/* d:pop(k [, default]) */
static int
dict_pop(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    dict_key k;
    lmpe_store s;
    lua_settop(L, 3);
    check_key(L, 2, &k, "Dict:pop");
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
    push_key(L, s->key.data, s->key.len);
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

typedef struct increment {
    int is_integer, has; /* of n; of the sum: the same two fields after the edit */
    lua_Integer i;
    lua_Number f;
    int found; /* kind of a present value that is no number */
} increment;

/* Under the key's lock: no Lua, no engine. */
static int
add_to_value(const uint8_t *value, size_t size, uint8_t out[16], size_t *out_size, void *ud)
{
    increment *n = ud;
    mpe_wire_reader r;
    mpe_wire_item item = {.kind = MPE_WIRE_INT};
    mpe_wire_open(&r, value, size);
    if (value && mpe_wire_read(&r, &item) != 1)
        return MPE_ECORRUPT;
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

/* d:incr(k [, n]) -> the new value */
static int
dict_incr(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    increment n = {.is_integer = 1, .i = 1};
    dict_key k;
    check_key(L, 2, &k, "Dict:incr");
    if (lua_type(L, 3) == LUA_TNUMBER) {
        n.is_integer = lua_isinteger(L, 3);
        n.i = n.is_integer ? lua_tointeger(L, 3) : 0;
        n.f = lua_tonumber(L, 3);
    } else if (!lua_isnoneornil(L, 3)) {
        return luaL_error(L, "Dict:incr: n must be a number, got %s", luaL_typename(L, 3));
    }
    int rc = mpe_dict_edit(b->S->e, b->o, k.bytes, add_to_value, &n);
    if (rc == MPE_ETYPE)
        return luaL_error(L, "Dict:incr: the value of key %s must be a number, got %s",
                          luaL_tolstring(L, 2, NULL), kind_name(n.found));
    if (rc != MPE_OK)
        return lmpe_raise(L, rc, "Dict:incr");
    if (n.is_integer)
        lua_pushinteger(L, n.i);
    else
        lua_pushnumber(L, n.f);
    return 1;
}

/* ---- modify ---- */

/* The stack of a modify: the dict, the key, f, the version of the key's stripe, the bytes that f was
 * given (nil: absent), and what f returned. */
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
    dict_key k;
    lmpe_store s;
    uint64_t version;
    lua_settop(L, MODIFY_F);
    check_key(L, MODIFY_KEY, &k, "Dict:modify");
    lmpe_store_open(&s, b, "Dict:modify");
    int rc = mpe_dict_get(b->S->e, b->o, k.bytes, &s.buf, &version);
    lua_settop(L, MODIFY_F);
    lua_pushinteger(L, (lua_Integer)version);
    if (rc == MPE_OK) {
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

/* Has the key still the bytes that f was given? Then version is the present one: the change was to
 * a neighbour, by f itself perhaps. */
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

/* Stores what f returned: 1, or 0 when the key was changed meanwhile. */
static int
modify_store(lua_State *L, lmpe_box *b)
{
    lmpe *S = b->S;
    dict_key k;
    int handles = 0, rc, removes = lua_isnil(L, MODIFY_RESULT);
    uint64_t version = (uint64_t)lua_tointeger(L, MODIFY_VERSION);
    check_key(L, MODIFY_KEY, &k, "Dict:modify");
    if (!removes)
        handles = lmpe_encode_value(L, S, MODIFY_RESULT, "value", "Dict:modify");
    do {
        mpe_bytes value = {S->scratch.data, S->scratch.len};
        rc = removes ? mpe_dict_remove_if(S->e, b->o, k.bytes, version)
                     : mpe_dict_put_if(S->e, b->o, k.bytes, version, value, handles);
    } while (rc == MPE_EAGAIN && is_unchanged(L, b, k.bytes, &version));
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
static int
dict_modify(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    if (lua_type(L, MODIFY_F) != LUA_TFUNCTION && !luaL_getmetafield(L, MODIFY_F, "__call"))
        return luaL_error(L, "Dict:modify: f must be a function, got %s",
                          luaL_typename(L, MODIFY_F));
    modify_load(L, b);
    lua_callk(L, 1, 1, 0, modify_k);
    return modify_k(L, LUA_OK, 0);
}

/* ---- all entries ---- */

enum { COPY, KEYS, VALUES, ITEMS };

/* A record of a snapshot, or of an update about to happen. */
typedef struct record {
    mpe_bytes key, value;
} record;

/* The record at *p, which is moved to the next one. */
static record
next_record(const uint8_t **p)
{
    uint32_t sizes[2];
    memcpy(sizes, *p, sizeof sizes);
    const uint8_t *key = *p + sizeof sizes, *value = key + sizes[0];
    *p += sizeof sizes + (((size_t)sizes[0] + sizes[1] + 7) & ~(size_t)7);
    return (record){{key, sizes[0]}, {value, sizes[1]}};
}

/* Adds an entry to the table on top. */
static void
add_entry(lua_State *L, const record *r, int what, lua_Integer n)
{
    if (what == ITEMS)
        lua_createtable(L, 2, 0);
    if (what != VALUES)
        push_key(L, r->key.data, r->key.size);
    if (what == ITEMS)
        lua_rawseti(L, -2, 1);
    if (what != KEYS)
        lmpe_store_decode(L, r->value.data, r->value.size);
    if (what == ITEMS)
        lua_rawseti(L, -2, 2);
    if (what == COPY)
        lua_rawset(L, -3);
    else
        lua_rawseti(L, -2, n);
}

static int
build(lua_State *L)
{
    lmpe_store *s = lmpe_store_of(L);
    int what = (int)lua_tointeger(L, 2);
    uint64_t count;
    lmpe_store_check(L, s, mpe_dict_snapshot(s->S->e, s->o, &s->buf, &count));
    int room = count < INT32_MAX ? (int)count : INT32_MAX;
    lua_createtable(L, what == COPY ? 0 : room, what == COPY ? room : 0);
    const uint8_t *p = s->buf.data;
    for (uint64_t i = 1; i <= count; i++) {
        record r = next_record(&p);
        add_entry(L, &r, what, (lua_Integer)i);
    }
    return 1;
}

/* Pushes a table with what is asked for of a snapshot. */
static int
push_all(lua_State *L, int what, const char *call)
{
    lmpe_store s;
    lmpe_store_open(&s, lmpe_check_self(L, 1), call);
    lua_pushinteger(L, what);
    return lmpe_store_call(L, &s, build, 1, 1);
}

static int
dict_keys(lua_State *L)
{
    return push_all(L, KEYS, "Dict:keys");
}

static int
dict_values(lua_State *L)
{
    return push_all(L, VALUES, "Dict:values");
}

static int
dict_items(lua_State *L)
{
    return push_all(L, ITEMS, "Dict:items");
}

static int
dict_copy(lua_State *L)
{
    return push_all(L, COPY, "Dict:copy");
}

static int
next_entry(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);
    if (lua_next(L, 1))
        return 2;
    lua_pushnil(L);
    return 1;
}

/* pairs(d) walks a plain copy. */
static int
dict_pairs(lua_State *L)
{
    lua_pushcfunction(L, next_entry);
    push_all(L, COPY, "Dict");
    lua_pushnil(L);
    return 3;
}

/* ---- update ---- */

/* Appends the entry whose key and value are on top to the buffer, as a record. */
static void
append_record(lua_State *L, lmpe_store *s)
{
    static const uint8_t zeros[8];
    dict_key k;
    int top = lua_gettop(L);
    size_t start = s->buf.len;
    uint32_t sizes[2] = {0, 0};
    if (!to_key(L, top - 1, &k))
        lmpe_store_error(L, KEY_MUST, s->call, bad_key_name(L, top - 1));
    if (k.bytes.size > UINT32_MAX)
        lmpe_store_error(L, "%s: a key is too long", s->call);
    sizes[0] = (uint32_t)k.bytes.size;
    if (mpe_buf_append(&s->buf, sizes, sizeof sizes) != MPE_OK ||
        mpe_buf_append(&s->buf, k.bytes.data, k.bytes.size) != MPE_OK)
        lmpe_store_check(L, s, MPE_ENOMEM);
    sizes[1] = (uint32_t)lmpe_store_encode(L, s, top, "value");
    memcpy(s->buf.data + start, sizes, sizeof sizes);
    lmpe_store_check(L, s, mpe_buf_append(&s->buf, zeros, (start - s->buf.len) & 7));
    lua_settop(L, top);
}

static int
is_handle(void *ud, uint64_t h)
{
    (void)ud, (void)h;
    return 1;
}

/* Puts count records. */
static void
put_records(lua_State *L, lmpe_store *s, uint64_t count)
{
    const uint8_t *p = s->buf.data;
    while (count-- > 0) {
        record r = next_record(&p);
        int handles = s->handles &&
                      mpe_wire_scan_handles(r.value.data, r.value.size, is_handle, NULL) > 0;
        lmpe_store_check(L, s, mpe_dict_put(s->S->e, s->o, r.key, r.value, handles));
    }
}

/* All entries of the table at 2 are encoded before the first is put. */
static int
update_from_table(lua_State *L)
{
    lmpe_store *s = lmpe_store_of(L);
    uint64_t count = 0;
    for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1), count++)
        append_record(L, s);
    put_records(L, s, count);
    return 0;
}

/* The dict at 2: its bytes as they are. */
static int
update_from_dict(lua_State *L)
{
    lmpe_store *s = lmpe_store_of(L);
    lmpe_box *from = lua_touserdata(L, 2);
    uint64_t count;
    lmpe_store_check(L, s, mpe_dict_snapshot(s->S->e, from->o, &s->buf, &count));
    s->handles = 1;
    put_records(L, s, count);
    return 0;
}

/* Entries of the table or dict at idx. */
static void
update(lua_State *L, lmpe_box *b, int idx, const char *call)
{
    lmpe_store s;
    lmpe_box *from = lmpe_test_any(L, idx);
    int is_dict = from && from->o && mpe_handle_kind(from->h) == MPE_KIND_DICT;
    if (!is_dict && !lua_istable(L, idx))
        luaL_error(L, "%s: expected a table or a Dict, got %s", call, luaL_typename(L, idx));
    lua_pushvalue(L, idx);
    lmpe_store_open(&s, b, call);
    lmpe_store_call(L, &s, is_dict ? update_from_dict : update_from_table, 1, 0);
}

/* d:update(table | dict) */
static int
dict_update(lua_State *L)
{
    update(L, lmpe_check_self(L, 1), 2, "Dict:update");
    return 0;
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
    lmpe_push_identity(L, b, "Dict");
    lua_pushfstring(L, n == 1 ? " (%I entry)" : " (%I entries)", n);
    lua_concat(L, 2);
    return 1;
}

/* Dict([table | dict]) */
static int
new_dict(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    mpe_object *o = NULL;
    int has_entries = !lua_isnoneornil(L, 1);
    lmpe_created(L, S, mpe_dict_create(S->e, &o), &o, "Dict");
    if (has_entries)
        update(L, lua_touserdata(L, -1), 1, "Dict");
    return 1;
}

void
lmpe_open_dict(lua_State *L, lmpe *S)
{
    static const luaL_Reg methods[] = {
        {"get", dict_get},       {"set", dict_set},         {"has", dict_has},
        {"pop", dict_pop},       {"popitem", dict_popitem}, {"setdefault", dict_setdefault},
        {"keys", dict_keys},     {"values", dict_values},   {"items", dict_items},
        {"update", dict_update}, {"clear", dict_clear},     {"copy", dict_copy},
        {"incr", dict_incr},     {"modify", dict_modify},   {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__len", dict_len},
                                    {"__pairs", dict_pairs},
                                    {"__tostring", dict_tostring},
                                    {NULL, NULL}};
    static const luaL_Reg functions[] = {{"new_dict", new_dict}, {NULL, NULL}};
    lmpe_new_type(L, S, MPE_KIND_DICT, "Dict", methods, meta);
    lmpe_store_accessors(L, S, "Dict", dict_index, dict_newindex);
    lmpe_setfuncs(L, S, functions);
}
