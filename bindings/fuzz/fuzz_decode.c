/* SPDX-License-Identifier: MIT */
/*
** fuzz_decode.c - any bytes as a message, for libFuzzer.
**
** Each input is decoded in a Lua state that is made anew every STATE_RUNS inputs, under a memory
** limit.  What can be decoded must encode again, and that must decode; and the reader without Lua must
** agree that the bytes are whole.
**
** The first byte of an input says how: with functions or without, encoded for this program or to leave
** it.  Bytecode is trusted by design and not what is tested, so lua_load is replaced (--wrap): whatever the
** code, it loads one of a few functions: the one that has that code, or else one by its length.  `make fuzz` has the command.
*/
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/lcodec_int.h"

#define STATE_RUNS 2000
#define MEMORY_LIMIT (64u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static size_t memory_used;

static void *
limited_alloc(void *ud, void *block, size_t old_size, size_t new_size)
{
    void *p;

    (void)ud;
    if (block == NULL)
        old_size = 0;
    if (new_size == 0) {
        free(block);
        memory_used -= old_size;
        return NULL;
    }
    if (memory_used - old_size + new_size > MEMORY_LIMIT)
        return NULL;
    p = realloc(block, new_size);
    if (p != NULL)
        memory_used += new_size - old_size;
    return p;
}

/* -------------------------------------------------------------------------------- functions */

#define SORTS 5

/* All upvalues are locals around them, as when a maker has made them: so their dumps are the same. */
static const char *const sources[SORTS] = {
    "return function() end",
    "local a return function(x) a = x return a end",
    "local a, b return function(...) a, b = b, ... return function() return a end end",
    "local a, b, c, d, e, _ENV = _ENV return function() return a, b, c, d, e, _ENV end",
    "local _ENV = _ENV return function() return x, 1.5, 'string', nil end",
};
static struct {
    char bytes[600];
    size_t n;
} codes[SORTS];

static int
append_code(lua_State *L, const void *bytes, size_t n, void *ud)
{
    size_t *to = ud;

    (void)L;
    if (codes[*to].n + n > sizeof codes[*to].bytes)
        abort();
    memcpy(codes[*to].bytes + codes[*to].n, bytes, n);
    codes[*to].n += n;
    return 0;
}

static void
make_codes(lua_State *L)
{
    size_t i;

    for (i = 0; i < SORTS; i++) {
        codes[i].n = 0;
        if (luaL_dostring(L, sources[i]) != LUA_OK || lua_dump(L, append_code, &i, 0) != 0)
            abort();
        lua_settop(L, 0);
    }
}

int __real_lua_load(lua_State *L, lua_Reader reader, void *ud, const char *name, const char *mode);
int __wrap_lua_load(lua_State *L, lua_Reader reader, void *ud, const char *name, const char *mode);

int
__wrap_lua_load(lua_State *L, lua_Reader reader, void *ud, const char *name, const char *mode)
{
    size_t n, i;
    lmpe_piece piece;
    const char *bytes = reader(L, ud, &n);

    if (bytes == NULL)
        n = 0;
    for (i = 0; i < SORTS; i++)
        if (codes[i].n == n && memcmp(codes[i].bytes, bytes, n) == 0)
            break;
    i = i < SORTS ? i : n % SORTS;
    piece = (lmpe_piece){codes[i].bytes, codes[i].n};
    return __real_lua_load(L, lmpe_next_piece, &piece, name, mode);
}

/* ---------------------------------------------------------------------------------- objects */

/* Any handle is that of an object; the index of a blob's says which code it has. */
static int
to_handle(lua_State *L, int idx, uint64_t *h)
{
    *h = *(uint64_t *)lua_touserdata(L, idx);
    return 1;
}

static int
from_handle(lua_State *L, uint64_t h)
{
    if (mpe_handle_kind(h) == MPE_KIND_NONE)
        return MPE_ESTALE;
    *(uint64_t *)lua_newuserdatauv(L, sizeof h, 1) = h;
    return MPE_OK;
}

static const void *
shared(lua_State *L, int idx, size_t *n)
{
    uint64_t h = *(uint64_t *)lua_touserdata(L, idx);

    if (mpe_handle_kind(h) != MPE_KIND_BLOB)
        return NULL;
    *n = codes[(uint32_t)h % SORTS].n;
    return codes[(uint32_t)h % SORTS].bytes;
}

static int
share(lua_State *L, const void *bytes, size_t n)
{
    uint64_t h;

    for (h = 0; h < SORTS; h++)
        if (codes[h].n == n && memcmp(codes[h].bytes, bytes, n) == 0)
            return from_handle(L, (uint64_t)MPE_KIND_BLOB << 56 | h);
    return MPE_EARENA;
}

/* ------------------------------------------------------------------------------------- runs */

static int
no_handle(void *arg, uint64_t h)
{
    (void)arg;
    (void)h;
    return 0;
}

static void
check(lua_State *L, int holds, int line)
{
    if (holds)
        return;
    fprintf(stderr, "line %d: %s\n", line, lua_isstring(L, -1) ? lua_tostring(L, -1) : "");
    abort();
}

/* Called with the bytes as a light userdata and their number. */
static int
round_trip(lua_State *L)
{
    const uint8_t *data = lua_touserdata(L, 1);
    size_t len = (size_t)lua_tointeger(L, 2) - 1;
    unsigned flags = *data & 1 ? LMPE_DECODE_FUNCTIONS : 0;
    lmpe_encode_opts opts = {.in_program = *data >> 1 & 1};
    mpe_buf *out = lua_newuserdatauv(L, sizeof *out, 0);
    int n, again, rc, top = lua_gettop(L);

    data++;
    mpe_buf_init(out);
    luaL_setmetatable(L, "buf");
    rc = lmpe_decode(L, data, len, &n, flags);
    check(L, lua_gettop(L) == top + (rc == MPE_OK ? n : 1), __LINE__);
    if (rc != MPE_OK)
        return 0;
    check(L, mpe_wire_scan_handles(data, len, no_handle, NULL) == 0, __LINE__);
    rc = lmpe_encode(L, top + 1, n, out, &opts);
    if (rc == MPE_ENOMEM || rc == MPE_ERANGE)
        return 0;
    check(L, rc == MPE_OK, __LINE__);
    lua_settop(L, top);
    /* Functions may have come in by a class that an earlier input registered. */
    rc = lmpe_decode(L, out->data, out->len, &again, LMPE_DECODE_FUNCTIONS);
    check(L, rc == MPE_OK && again == n, __LINE__);
    return 0;
}

static int
free_buf(lua_State *L)
{
    mpe_buf_free(lua_touserdata(L, 1));
    return 0;
}

static lua_State *
new_state(void)
{
    lua_State *L = lua_newstate(limited_alloc, NULL);

    if (L == NULL)
        abort();
    luaL_openlibs(L);
    luaL_requiref(L, "mpengine.codec", luaopen_mpengine_codec, 0);
    luaL_newmetatable(L, "buf");
    lua_pushcfunction(L, free_buf);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, lmpe_codec_register);
    lua_pushliteral(L, "P");
    lua_newtable(L);
    lua_call(L, 2, 0);
    if (luaL_dostring(L, "package.path, package.cpath = '', ''") != LUA_OK)
        abort();
    lua_settop(L, 0);
    make_codes(L);
    return L;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const lmpe_codec_hooks hooks = {
        .to_handle = to_handle, .from_handle = from_handle, .share = share, .shared = shared};
    static lua_State *L;
    static int runs;

    if (len == 0)
        return 0;
    lmpe_codec_set_hooks(&hooks);
    if (L == NULL)
        L = new_state();
    lua_pushcfunction(L, round_trip);
    lua_pushlightuserdata(L, (void *)(uintptr_t)data);
    lua_pushinteger(L, (lua_Integer)len);
    lua_pcall(L, 2, 0, 0);
    lua_settop(L, 0);
    if (++runs % STATE_RUNS == 0) {
        lua_close(L);
        L = NULL;
    }
    return 0;
}
