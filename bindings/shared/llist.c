/* SPDX-License-Identifier: MIT
 *
 * llist.c - mp.List. An item's bytes are one message of the codec. Methods that read all items
 * (index, remove, sort) work on a snapshot, with no lock held while Lua runs, and start again
 * when the list has changed before they could change it. Sorting and reversing are in
 * llist_order.c.
 */
#include "base/llabel.h"
#include "codec/lmessage.h"
#include "shared/llist.h"

#include <stdio.h>
#include <string.h>

/* ---- indexes ---- */

/* The integer at idx, which counts from 1, as an index from 0; 0 when it is not valid. */
static int
to_index(lua_State *L, int idx, uint64_t *index)
{
    int whole = lua_type(L, idx) == LUA_TNUMBER;
    lua_Integer i = whole ? lua_tointegerx(L, idx, &whole) : 0;
    *index = (uint64_t)i - 1;
    return whole && i >= 1;
}

/* The place at idx for methods that also accept negative ones, which count from the end. */
static int
to_place(lua_State *L, int idx, lua_Integer *i)
{
    int whole = lua_type(L, idx) == LUA_TNUMBER;
    *i = whole ? lua_tointegerx(L, idx, &whole) : 0;
    return whole && *i != 0;
}

static int
refuse_index(lua_State *L, int idx, lua_Integer last, const char *call)
{
    if (lua_type(L, idx) == LUA_TSTRING)
        lua_pushfstring(L, "\"%s\"", lua_tostring(L, idx));
    else if (lua_type(L, idx) == LUA_TNUMBER)
        luaL_tolstring(L, idx, NULL);
    else
        lua_pushstring(L, luaL_typename(L, idx));
    return luaL_error(L, "%s: index %s is out of range, it must be an integer from 1 to %I", call,
                      lua_tostring(L, -1), last);
}

static lua_Integer
count_of(lmpe_box *b)
{
    return (lua_Integer)mpe_list_count(b->S->e, b->o);
}

/* ---- one item ---- */

/* Encodes the item at idx into the scratch buffer. */
static int
encode_item(lua_State *L, lmpe *S, int idx, const char *call, mpe_bytes *bytes)
{
    if (lua_isnoneornil(L, idx))
        luaL_error(L, "%s: an item cannot be nil; pop(i) removes one", call);
    int handles = lmpe_encode_value(L, S, idx, "item", call);
    *bytes = (mpe_bytes){S->scratch->data, S->scratch->len};
    return handles;
}

/* l[i] */
static int
list_index(lua_State *L)
{
    lmpe_box *b = lmpe_receiver(L, MPE_KIND_LIST);
    lmpe_store s;
    uint64_t i;
    if (lua_type(L, 2) != LUA_TNUMBER) {
        lua_settop(L, 2);
        lua_rawget(L, LMPE_METHODS);
        return 1;
    }
    if (!to_index(L, 2, &i))
        return 0;
    lmpe_store_open(&s, b, "List");
    int rc = mpe_list_get(b->S->e, b->o, i, &s.buf);
    if (rc == MPE_OK)
        return lmpe_store_value(L, &s);
    lmpe_store_close(&s);
    return rc == MPE_ERANGE ? 0 : lmpe_raise(L, rc, "List");
}

/* l[i] = v */
static int
list_newindex(lua_State *L)
{
    lmpe_box *b = lmpe_receiver(L, MPE_KIND_LIST);
    uint64_t i;
    mpe_bytes item;
    if (!to_index(L, 2, &i))
        return refuse_index(L, 2, count_of(b) + 1, "List");
    int handles = encode_item(L, b->S, 3, "List", &item);
    int rc, tries = 0;
    do
        rc = mpe_list_set(b->S->e, b->o, i, item, handles);
    while (lmpe_try_again(L, b->S, rc, &tries));
    lmpe_sent(L, b->S);
    if (rc == MPE_ERANGE)
        return refuse_index(L, 2, count_of(b) + 1, "List");
    return rc == MPE_OK ? 0 : lmpe_raise(L, rc, "List");
}

static int
list_len(lua_State *L)
{
    lua_pushinteger(L, count_of(lmpe_receiver(L, MPE_KIND_LIST)));
    return 1;
}

static int
insert(lua_State *L, lmpe_box *b, uint64_t index, int idx, const char *call)
{
    mpe_bytes item;
    int handles = encode_item(L, b->S, idx, call, &item);
    int rc, tries = 0;
    do
        rc = mpe_list_insert(b->S->e, b->o, index, item, handles);
    while (lmpe_try_again(L, b->S, rc, &tries));
    lmpe_sent(L, b->S);
    return rc == MPE_OK ? 0 : lmpe_raise(L, rc, call);
}

/* l:append(v) */
static int
list_append(lua_State *L)
{
    return insert(L, lmpe_check_self(L, 1), UINT64_MAX, 2, "List:append");
}

/* l:insert(i, v): beyond the end it appends, as in Python */
static int
list_insert(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    lua_Integer i;
    if (!to_place(L, 2, &i))
        return refuse_index(L, 2, count_of(b) + 1, "List:insert");
    return insert(L, b, (uint64_t)i - 1, 3, "List:insert"); /* -1 is for append, -2 the last */
}

/* l:pop([i]) -> the item | nil when there is none */
static int
list_pop(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    lmpe_store s;
    lua_Integer i = -1;
    if (!lua_isnoneornil(L, 2) && !to_place(L, 2, &i))
        return refuse_index(L, 2, count_of(b), "List:pop");
    lmpe_store_open(&s, b, "List:pop");
    int rc = mpe_list_remove(b->S->e, b->o, (uint64_t)(i > 0 ? i - 1 : i), &s.buf);
    if (rc == MPE_OK)
        return lmpe_store_value(L, &s);
    lmpe_store_close(&s);
    if (rc != MPE_ERANGE)
        return lmpe_raise(L, rc, "List:pop");
    lua_pushnil(L);
    return 1;
}

/* ---- all items ---- */

/* A record of a snapshot: its bytes; *p is moved to the next one. */
static mpe_bytes
next_item(const uint8_t **p)
{
    uint32_t size;
    memcpy(&size, *p + sizeof size, sizeof size);
    mpe_bytes item = {*p + 8, size};
    *p += 8 + (((size_t)size + 7) & ~(size_t)7);
    return item;
}

uint64_t
lmpe_list_snapshot(lua_State *L, lmpe_store *s, uint64_t *version)
{
    uint64_t count;
    mpe_unpin(s->S->e, s->pins);
    s->buf.len = 0;
    lmpe_store_check(L, s, mpe_list_snapshot(s->S->e, s->o, &s->buf, &count, version));
    return count;
}

void
lmpe_list_push_items(lua_State *L, lmpe_store *s, uint64_t count)
{
    const uint8_t *p = s->buf.data;
    lua_createtable(L, count < INT32_MAX ? (int)count : INT32_MAX, 0);
    for (uint64_t i = 1; i <= count; i++) {
        mpe_bytes item = next_item(&p);
        lmpe_store_decode(L, item.data, item.size);
        lua_rawseti(L, -2, (lua_Integer)i);
    }
}

static int
copy_protected(lua_State *L)
{
    lmpe_store *s = lmpe_store_of(L);
    uint64_t version;
    lmpe_list_push_items(L, s, lmpe_list_snapshot(L, s, &version));
    return 1;
}

static int
push_copy(lua_State *L, lmpe_box *b, const char *call)
{
    lmpe_store s;
    lmpe_store_open(&s, b, call);
    return lmpe_store_call(L, &s, copy_protected, 0, 1);
}

/* l:copy() -> a table */
static int
list_copy(lua_State *L)
{
    return push_copy(L, lmpe_check_self(L, 1), "List:copy");
}

static int
next_item_of(lua_State *L)
{
    lua_Integer i = luaL_checkinteger(L, 2) + 1;
    lua_pushinteger(L, i);
    return lua_rawgeti(L, 1, i) == LUA_TNIL ? 1 : 2;
}

/* pairs(l) walks a plain copy. */
static int
list_pairs(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    lua_pushcfunction(L, next_item_of);
    push_copy(L, b, "List");
    lua_pushinteger(L, 0);
    return 3;
}

/* The place of the value at 2 in a snapshot: 0 is none. */
static uint64_t
find(lua_State *L, lmpe_store *s, uint64_t *version)
{
    uint64_t count = lmpe_list_snapshot(L, s, version);
    const uint8_t *p = s->buf.data;
    for (uint64_t i = 1; i <= count; i++) {
        mpe_bytes item = next_item(&p);
        lmpe_store_decode(L, item.data, item.size);
        if (lua_compare(L, -1, 2, LUA_OPEQ))
            return i;
        lua_pop(L, 1);
    }
    return 0;
}

static int
index_protected(lua_State *L)
{
    uint64_t version, at = find(L, lmpe_store_of(L), &version);
    if (at == 0)
        lua_pushnil(L);
    else
        lua_pushinteger(L, (lua_Integer)at);
    return 1;
}

/* l:index(v) -> the place of the first item that equals v | nil */
static int
list_index_of(lua_State *L)
{
    lmpe_store s;
    lmpe_box *b = lmpe_check_self(L, 1);
    lua_settop(L, 2);
    lmpe_store_open(&s, b, "List:index");
    return lmpe_store_call(L, &s, index_protected, 1, 1);
}

static int
remove_protected(lua_State *L)
{
    lmpe_store *s = lmpe_store_of(L);
    int rc;
    do {
        uint64_t version, at = find(L, s, &version);
        if (at == 0)
            return lmpe_store_error(L, "List:remove: %s is not in the list",
                                    luaL_tolstring(L, 2, NULL));
        rc = mpe_list_remove_if(s->S->e, s->o, at - 1, version);
        lua_settop(L, 2);
    } while (rc == MPE_EAGAIN);
    lmpe_store_check(L, s, rc);
    return 0;
}

/* l:remove(v): the first item that equals v */
static int
list_remove(lua_State *L)
{
    lmpe_store s;
    lmpe_box *b = lmpe_check_self(L, 1);
    lua_settop(L, 2);
    lmpe_store_open(&s, b, "List:remove");
    return lmpe_store_call(L, &s, remove_protected, 1, 0);
}

static int
list_clear(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    mpe_list_clear(b->S->e, b->o);
    return 0;
}

/* ---- extend ---- */

/* Encodes the n items of the list at 2, and records where each is in the buffer. */
static void
encode_items(lua_State *L, lmpe_store *s, mpe_bytes *items, size_t n)
{
    char name[32] = "item";
    for (size_t i = 0; i < n; i++) {
        lua_geti(L, 2, (lua_Integer)i + 1);
        if (lua_isnil(L, -1))
            lmpe_store_error(L, "%s: item %I is nil, an item cannot be", s->call,
                             (lua_Integer)i + 1);
        if (lua_type(L, -1) >= LUA_TTABLE)
            snprintf(name, sizeof name, "list[%zu]", i + 1);
        items[i].size = lmpe_store_encode(L, s, -1, name);
        lua_pop(L, 1);
    }
    const uint8_t *p = s->buf.data;
    for (size_t i = 0; i < n; p += items[i++].size)
        items[i].data = p;
}

static int
extend_protected(lua_State *L)
{
    lmpe_store *s = lmpe_store_of(L);
    lua_Integer n = luaL_len(L, 2);
    if (n <= 0)
        return 0;
    mpe_bytes *items = lua_newuserdatauv(L, (size_t)n * sizeof *items, 0);
    encode_items(L, s, items, (size_t)n);
    int rc, tries = 0;
    do
        rc = mpe_list_extend(s->S->e, s->o, items, (size_t)n, s->handles);
    while (lmpe_try_again(L, s->S, rc, &tries));
    lmpe_sent(L, s->S);
    lmpe_store_check(L, s, rc);
    return 0;
}

/* Items of the table, list or array at idx. */
static void
extend(lua_State *L, lmpe_box *b, int idx, const char *call)
{
    lmpe_store s;
    if (!lmpe_is_list(L, idx))
        luaL_error(L, "%s: expected a table or a List, got %s", call, lmpe_type_name(L, idx));
    lmpe_box *from = lmpe_test_any(L, idx);
    if (from && mpe_handle_kind(from->h) == MPE_KIND_LIST)
        push_copy(L, from, call);
    else
        lua_pushvalue(L, idx);
    lmpe_store_open(&s, b, call);
    lmpe_store_call(L, &s, extend_protected, 1, 0);
}

/* l:extend(list) */
static int
list_extend(lua_State *L)
{
    extend(L, lmpe_check_self(L, 1), 2, "List:extend");
    return 0;
}

/* ---- making ---- */

static int
list_tostring(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    lua_Integer n = count_of(b);
    lmpe_push_identity(L, b);
    lua_pushfstring(L, n == 1 ? " (%I item)" : " (%I items)", n);
    lua_concat(L, 2);
    return 1;
}

/* List([list [, { name = }]]) */
static int
new_list(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    mpe_object *o = NULL;
    lmpe_take_name(L, "List");
    int has_items = !lua_isnil(L, 1);
    int rc, tries = 0;
    do
        rc = mpe_list_create(S->e, &o);
    while (lmpe_try_again(L, S, rc, &tries));
    lmpe_created(L, S, rc, &o, "List", 2);
    if (has_items)
        extend(L, lua_touserdata(L, -1), 1, "List");
    return 1;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg methods[] = {{"append", list_append},
                                       {"insert", list_insert},
                                       {"pop", list_pop},
                                       {"remove", list_remove},
                                       {"extend", list_extend},
                                       {"index", list_index_of},
                                       {"sort", lmpe_list_sort},
                                       {"clear", list_clear},
                                       {"copy", list_copy},
                                       {"reverse", lmpe_list_reverse},
                                       {NULL, NULL}};
    static const luaL_Reg meta[] = {
        {"__len", list_len}, {"__pairs", list_pairs}, {"__tostring", list_tostring}, {NULL, NULL}};
    static const luaL_Reg makers[] = {{"List", new_list}, {NULL, NULL}};
    lmpe_new_type(L, S, &(lmpe_type){.kind = MPE_KIND_LIST, .methods = methods, .meta = meta});
    lmpe_store_accessors(L, S, "List", list_index, list_newindex);
    lmpe_set_makers(L, S, makers);
}

const lmpe_module lmpe_list_module = {.open = on_open};
