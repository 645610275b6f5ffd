/* SPDX-License-Identifier: MIT
 *
 * lenvelope.c - what goes between submitters and workers of remote tasks, as bytes: a message is a mark,
 * the signature when there is a key, and the content. The signature covers the place of the message,
 * a text and the name of the task, so that none passes for another. It is verified before the content
 * is looked at. Nothing here waits.
 *
 * The results of several tasks are one string: for each the number of the task (8 bytes, little-endian
 * like all), the size of the message (4 bytes), the message.
 */
#include "codec/lmessage.h"
#include "io/lhmac.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PLAIN '0'
#define SIGNED '1'
#define MARK_MAX (1 + LMPE_DIGEST_SIZE)
#define HEAD_SIZE 12 /* of a message among several */

static mpe_bytes
bytes_at(lua_State *L, int idx)
{
    mpe_bytes b;
    b.data = luaL_checklstring(L, idx, &b.size);
    return b;
}

/* The signature of content whose place is in the strings, or numbers, at place and place + 1. */
static void
sign(lua_State *L, lmpe_mac *mac, int place, mpe_bytes content,
     unsigned char digest[LMPE_DIGEST_SIZE])
{
    mpe_bytes parts[4] = {bytes_at(L, place), bytes_at(L, place + 1), {"", 1}, content};
    lmpe_mac_sign(L, mac, parts, 4, digest);
}

/* envelope_seal(key | nil, place, name, head, where, what, value) -> a message with the head and the
 * value. Raises for a value that another program cannot have. */
static int
envelope_seal(lua_State *L)
{
    static const char room[MARK_MAX];
    lmpe *S = lmpe_self(L);
    lmpe_mac *mac = lmpe_opt_mac(L, 1);
    lua_settop(L, 7);
    mpe_bytes before[2] = {{room, sizeof room}, bytes_at(L, 4)};
    const char *where = luaL_checkstring(L, 5), *what = luaL_checkstring(L, 6);
    if (mac) { /* numbers become strings now: nothing is allocated once there is a message */
        bytes_at(L, 2);
        bytes_at(L, 3);
    }
    lmpe_encode_outside(L, S, 7, what, where, before, 2);
    uint8_t *bytes = S->scratch->data;
    size_t size = S->scratch->len;
    if (!mac) {
        bytes[MARK_MAX - 1] = PLAIN;
        lua_pushlstring(L, (char *)bytes + MARK_MAX - 1, size - (MARK_MAX - 1));
        return 1;
    }
    bytes[0] = SIGNED;
    sign(L, mac, 2, (mpe_bytes){bytes + MARK_MAX, size - MARK_MAX}, bytes + 1);
    lua_pushlstring(L, (char *)bytes, size);
    return 1;
}

/* envelope_open(key | nil, place, name, bytes [, first [, last]]) -> where the content of the message
 * begins | nil, why it is not accepted */
static int
envelope_open(lua_State *L)
{
    lmpe_mac *mac = lmpe_opt_mac(L, 1);
    mpe_bytes all = bytes_at(L, 4);
    size_t first = (size_t)luaL_optinteger(L, 5, 1);
    size_t last = (size_t)luaL_optinteger(L, 6, (lua_Integer)all.size);
    luaL_argcheck(L, first >= 1 && first <= all.size + 1, 5, "beyond the bytes");
    luaL_argcheck(L, last <= all.size && last + 1 >= first, 6, "beyond the bytes");
    const char *bytes = (const char *)all.data + first - 1, *why = NULL;
    size_t size = last + 1 - first;
    if (size > 0 && bytes[0] == PLAIN) {
        if (!mac) {
            lua_pushinteger(L, (lua_Integer)first + 1);
            return 1;
        }
        why = "it is not signed";
    } else if (size < MARK_MAX || bytes[0] != SIGNED) {
        why = "it is damaged";
    } else if (!mac) {
        why = "it is signed, and there is no key";
    } else {
        unsigned char digest[LMPE_DIGEST_SIZE];
        sign(L, mac, 2, (mpe_bytes){bytes + MARK_MAX, size - MARK_MAX}, digest);
        if (lmpe_mac_same(bytes + 1, digest)) {
            lua_pushinteger(L, (lua_Integer)(first + MARK_MAX));
            return 1;
        }
        why = "its signature is wrong";
    }
    luaL_pushfail(L);
    lua_pushstring(L, why);
    return 2;
}

static void
put_number(char *to, uint64_t n, int size)
{
    for (int i = 0; i < size; i++)
        to[i] = (char)(n >> 8 * i);
}

/* Adds one message; the name of its task is "client number". */
static void
add_message(lua_State *L, luaL_Buffer *b, lmpe_mac *mac, mpe_bytes place, mpe_bytes name,
            mpe_bytes content)
{
    const char *number = memchr(name.data, ' ', name.size);
    size_t mark = mac ? MARK_MAX : 1;
    char *to = luaL_prepbuffsize(b, HEAD_SIZE + mark);
    put_number(to, number ? strtoull(number + 1, NULL, 10) : 0, 8);
    put_number(to + 8, mark + content.size, 4);
    to[HEAD_SIZE] = mac ? SIGNED : PLAIN;
    if (mac) {
        mpe_bytes parts[4] = {place, name, {"", 1}, content};
        lmpe_mac_sign(L, mac, parts, 4, (unsigned char *)to + HEAD_SIZE + 1);
    }
    luaL_addsize(b, HEAD_SIZE + mark);
    luaL_addlstring(b, content.data, content.size);
}

/* envelope_several(key | nil, place, list, first, count) -> messages as one string. The list has the
 * name of a task and a content in turn. */
static int
envelope_several(lua_State *L)
{
    lmpe_mac *mac = lmpe_opt_mac(L, 1);
    mpe_bytes place = bytes_at(L, 2);
    luaL_checktype(L, 3, LUA_TTABLE);
    lua_Integer first = luaL_checkinteger(L, 4), count = luaL_checkinteger(L, 5);
    luaL_Buffer b;
    lua_settop(L, 3);
    lua_pushnil(L);
    lua_pushnil(L);
    luaL_buffinit(L, &b);
    for (lua_Integer i = 0; i < count; i++) {
        for (int k = 0; k < 2; k++) { /* below the buffer's place on the stack */
            lua_rawgeti(L, 3, first + 2 * i + k);
            lua_replace(L, 4 + k);
        }
        add_message(L, &b, mac, place, bytes_at(L, 4), bytes_at(L, 5));
    }
    luaL_pushresult(&b);
    return 1;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"envelope_seal", envelope_seal},
                                         {"envelope_open", envelope_open},
                                         {"envelope_several", envelope_several},
                                         {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
}

const lmpe_module lmpe_envelope_module = {.open = on_open};
