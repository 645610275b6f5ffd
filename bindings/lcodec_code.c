/* SPDX-License-Identifier: MIT */
/*
** lcodec_code.c - Lua functions as bytecode, and the code that is known by its hash.
**
** A function's code (lua_dump, debug information kept) never changes, so it is dumped once and
** remembered with its 128-bit hash for as long as the function lives.  A receiver asked to
** (LMPE_DECODE_REMEMBER) keeps the last MAX_CODE pieces of code that came whole; a sender that
** counts on that sends 16 bytes instead, and must be ready to be told that they are unknown.
** The hash is not cryptographic: it names code between processes that trust each other.
*/
#include <string.h>

#include "lcodec_int.h"

#define MAX_CODE 1024

/* ------------------------------------------------------------------------------- hashing */

static uint64_t
rotl(uint64_t x, int n)
{
    return (x << n) | (x >> (64 - n));
}

static uint64_t
mix(uint64_t x)
{
    x = (x ^ (x >> 33)) * UINT64_C(0xff51afd7ed558ccd);
    x = (x ^ (x >> 33)) * UINT64_C(0xc4ceb9fe1a85ec53);
    return x ^ (x >> 33);
}

/* MurmurHash3, x64, 128 bits, by Austin Appleby (public domain); the tail is padded with zeros. */
static void
hash128(const uint8_t *p, size_t n, uint8_t out[16])
{
    const uint64_t c1 = UINT64_C(0x87c37b91114253d5), c2 = UINT64_C(0x4cf5ad432745937f);
    uint64_t h[2] = {0, 0}, k[2];
    size_t i;

    for (i = 0; i < n; i += 16) {
        k[0] = k[1] = 0;
        memcpy(k, p + i, n - i < 16 ? n - i : 16);
        h[0] = rotl(h[0] ^ (rotl(k[0] * c1, 31) * c2), 27) + h[1];
        h[0] = h[0] * 5 + 0x52dce729;
        h[1] = rotl(h[1] ^ (rotl(k[1] * c2, 33) * c1), 31) + h[0];
        h[1] = h[1] * 5 + 0x38495ab5;
    }
    h[0] ^= n;
    h[1] ^= n;
    h[0] += h[1];
    h[1] += h[0];
    h[0] = mix(h[0]);
    h[1] = mix(h[1]);
    h[0] += h[1];
    h[1] += h[0];
    memcpy(out, h, 16);
}

/* ------------------------------------------------------------------------------- dumping */

static int
append(lua_State *L, const void *bytes, size_t n, void *buf)
{
    (void)L;
    return mpe_buf_append(buf, bytes, n);
}

int
lmpe_code_of(lmpe_encoder *e)
{
    lua_State *L = e->L;
    mpe_buf *b = &e->code;

    lua_rawgeti(L, e->keep, LMPE_KEEP_DUMPS);
    lua_pushvalue(L, -2);
    if (lua_rawget(L, -2) == LUA_TSTRING) {
        lua_remove(L, -2);
        return MPE_OK;
    }
    lua_pop(L, 1);
    lua_pushvalue(L, -2);
    b->len = 0;
    if (mpe_buf_append(b, "0123456789abcdef", 16) != MPE_OK || lua_dump(L, append, b, 0) != 0) {
        lua_pop(L, 2);
        return MPE_ENOMEM;
    }
    hash128(b->data + 16, b->len - 16, b->data);
    lua_pushlstring(L, (const char *)b->data, b->len);
    lua_pushvalue(L, -1);
    lua_insert(L, -4); /* function, result, dumps, function, result */
    lua_rawset(L, -3);
    lua_pop(L, 1);
    return MPE_OK;
}

/* ------------------------------------------------------------------------------- loading */

struct piece {
    const char *bytes;
    size_t n;
};

static const char *
next_piece(lua_State *L, void *ud, size_t *n)
{
    struct piece *piece = ud;

    (void)L;
    *n = piece->n;
    piece->n = 0;
    return *n > 0 ? piece->bytes : NULL;
}

/* Keeps the code under its hash, in the place of the oldest when there are too many. */
static void
remember(lmpe_decoder *d, const char *code, size_t n)
{
    lua_State *L = d->L;
    uint8_t hash[16];
    lua_Integer count;

    hash128((const uint8_t *)code, n, hash);
    lua_rawgeti(L, d->keep, LMPE_KEEP_CODE);
    lua_pushlstring(L, (const char *)hash, 16);
    lua_pushvalue(L, -1);
    if (lua_rawget(L, -3) != LUA_TNIL) {
        lua_pop(L, 3);
        return;
    }
    lua_pop(L, 1);
    lua_rawgeti(L, d->keep, LMPE_KEEP_CODE_NEXT);
    lua_rawgeti(L, -1, 0);
    count = lua_tointeger(L, -1);
    lua_pop(L, 1);
    if (lua_rawgeti(L, -1, count % MAX_CODE + 1) != LUA_TNIL) {
        lua_pushnil(L);
        lua_rawset(L, -5);
    } else {
        lua_pop(L, 1);
    }
    lua_pushvalue(L, -2);
    lua_rawseti(L, -2, count % MAX_CODE + 1);
    lua_pushinteger(L, count + 1);
    lua_rawseti(L, -2, 0);
    lua_pop(L, 1);
    lua_pushlstring(L, code, n);
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

static int
load(lua_State *L, const char *code, size_t n)
{
    struct piece piece = {code, n};

    switch (lua_load(L, next_piece, &piece, "=function", "b")) {
    case LUA_OK:
        return MPE_OK;
    case LUA_ERRMEM:
        lua_pop(L, 1);
        return lmpe_decode_fail(L, MPE_ENOMEM, "not enough memory");
    default:
        lua_pop(L, 1);
        return lmpe_decode_fail(L, MPE_ECORRUPT,
                                "the code of a function is damaged, or of "
                                "another version of Lua");
    }
}

int
lmpe_code_load(lmpe_decoder *d, const char *code, size_t n)
{
    if (!(d->flags & LMPE_DECODE_FUNCTIONS))
        return lmpe_decode_fail(d->L, MPE_EPERM,
                                "the message has a function, and functions were "
                                "not asked for");
    if (d->flags & LMPE_DECODE_REMEMBER)
        remember(d, code, n);
    return load(d->L, code, n);
}

int
lmpe_code_load_known(lmpe_decoder *d, const uint8_t hash[16])
{
    lua_State *L = d->L;
    const char *code;
    size_t n;
    int rc;

    if (!(d->flags & LMPE_DECODE_FUNCTIONS))
        return lmpe_code_load(d, NULL, 0);
    lua_rawgeti(L, d->keep, LMPE_KEEP_CODE);
    lua_pushlstring(L, (const char *)hash, 16);
    lua_rawget(L, -2);
    code = lua_tolstring(L, -1, &n);
    if (code == NULL) {
        lua_pop(L, 2);
        return lmpe_decode_fail(L, MPE_ENOENT, "the code of a function is not known here");
    }
    rc = load(L, code, n);
    lua_replace(L, -3);
    lua_pop(L, 1);
    return rc;
}
