/* SPDX-License-Identifier: MIT
 *
 * ldict_all.c - operations on all entries of a dict. Reading works on a snapshot. An update
 * encodes all entries, and passes them to the engine in the form of a snapshot.
 */
#include "codec/lmessage.h"
#include "shared/ldict.h"

#include <stdio.h>
#include <string.h>

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
        lmpe_dict_push_key(L, r->key.data, r->key.size);
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

/* Pushes a table with the requested parts of a snapshot. */
static int
push_all(lua_State *L, int what, const char *call)
{
    lmpe_store s;
    lmpe_store_open(&s, lmpe_check_self(L, 1), call);
    lua_pushinteger(L, what);
    return lmpe_store_call(L, &s, build, 1, 1);
}

int
lmpe_dict_keys(lua_State *L)
{
    return push_all(L, KEYS, "Dict:keys");
}

int
lmpe_dict_values(lua_State *L)
{
    return push_all(L, VALUES, "Dict:values");
}

int
lmpe_dict_items(lua_State *L)
{
    return push_all(L, ITEMS, "Dict:items");
}

int
lmpe_dict_copy(lua_State *L)
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
int
lmpe_dict_pairs(lua_State *L)
{
    lua_pushcfunction(L, next_entry);
    push_all(L, COPY, "Dict");
    lua_pushnil(L);
    return 3;
}

/* ---- update ---- */

/* The name of the value at idx in an error; its key is below it: d["key"]. */
static const char *
name_entry(lua_State *L, int idx, char *name, size_t size)
{
    if (lua_type(L, idx) < LUA_TTABLE)
        return "value"; /* can be sent */
    if (lua_type(L, idx - 1) == LUA_TSTRING)
        snprintf(name, size, "d[\"%.40s\"]", lua_tostring(L, idx - 1));
    else if (lua_type(L, idx - 1) == LUA_TNUMBER)
        snprintf(name, size, "d[%.14g]", (double)lua_tonumber(L, idx - 1));
    else
        snprintf(name, size, "d[%s]", lua_toboolean(L, idx - 1) ? "true" : "false");
    return name;
}

/* Appends the entry whose key and value are on top to the buffer, as a record. */
static void
append_record(lua_State *L, lmpe_store *s)
{
    static const uint8_t zeros[8];
    lmpe_dict_key k;
    char name[64];
    int top = lua_gettop(L);
    size_t start = s->buf.len;
    uint32_t sizes[2] = {0, 0};
    if (!lmpe_dict_to_key(L, top - 1, &k))
        lmpe_store_error(L, LMPE_KEY_MUST, s->call, lmpe_dict_bad_key(L, top - 1));
    if (k.bytes.size > INT32_MAX)
        lmpe_store_error(L, "%s: a key is longer than 2 GiB", s->call);
    sizes[0] = (uint32_t)k.bytes.size;
    if (mpe_buf_append(&s->buf, sizes, sizeof sizes) != MPE_OK ||
        mpe_buf_append(&s->buf, k.bytes.data, k.bytes.size) != MPE_OK)
        lmpe_store_check(L, s, MPE_ENOMEM);
    size_t size = lmpe_store_encode(L, s, top, name_entry(L, top, name, sizeof name));
    if (size > INT32_MAX)
        lmpe_store_error(L, "%s: a value is longer than 2 GiB", s->call);
    sizes[1] = (uint32_t)size;
    memcpy(s->buf.data + start, sizes, sizeof sizes);
    lmpe_store_check(L, s, mpe_buf_append(&s->buf, zeros, (start - s->buf.len) & 7));
    lua_settop(L, top);
}

/* Puts count records, all or none. */
static void
put_records(lua_State *L, lmpe_store *s, uint64_t count)
{
    int rc, tries = 0;
    do
        rc = mpe_dict_update(s->S->e, s->o, s->buf.data, count, s->handles);
    while (lmpe_try_again(L, s->S, rc, &tries));
    lmpe_sent(L, s->S);
    lmpe_store_check(L, s, rc);
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
void
lmpe_dict_update_from(lua_State *L, lmpe_box *b, int idx, const char *call)
{
    lmpe_store s;
    lmpe_box *from = lmpe_test_any(L, idx);
    int is_dict = from && from->o && mpe_handle_kind(from->h) == MPE_KIND_DICT;
    if (!is_dict && !lua_istable(L, idx))
        luaL_error(L, "%s: expected a table or a Dict, got %s", call, lmpe_type_name(L, idx));
    lua_pushvalue(L, idx);
    lmpe_store_open(&s, b, call);
    lmpe_store_call(L, &s, is_dict ? update_from_dict : update_from_table, 1, 0);
}

/* d:update(table | dict) */
int
lmpe_dict_update(lua_State *L)
{
    lmpe_dict_update_from(L, lmpe_check_self(L, 1), 2, "Dict:update");
    return 0;
}
