/* SPDX-License-Identifier: MIT */
/*
** fuzz_decode.c - any bytes as a message, for libFuzzer.
**
** Each input is decoded in a Lua state that is made anew every STATE_RUNS inputs, under a memory
** limit, without functions: bytecode is trusted by design and is not what is tested.  What can be
** decoded must encode again, and that must decode; and the reader without Lua must agree that the
** bytes are whole.
**
**     clang -g -O1 -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -Iengine/include -Iengine \
**         -Ibindings $(pkg-config --cflags lua5.4) bindings/fuzz/fuzz_decode.c bindings/lcodec*.c \
**         engine/base/{buf,wire,err}.c $(pkg-config --libs lua5.4) -o fuzz_decode
**     ./fuzz_decode -max_len=4096 bindings/fuzz/corpus
*/
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdlib.h>

#include "lcodec.h"

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

static uint64_t handle_here;

static int
to_handle(lua_State *L, int idx, uint64_t *h)
{
    (void)L;
    (void)idx;
    *h = handle_here;
    return 1;
}

static int
from_handle(lua_State *L, uint64_t h)
{
    handle_here = h;
    lua_newuserdatauv(L, 1, 0);
    return MPE_OK;
}

static int
no_handle(void *arg, uint64_t h)
{
    (void)arg;
    (void)h;
    return 0;
}

static void
check(int holds)
{
    if (!holds)
        abort();
}

/* Called with the bytes as a light userdata and their number. */
static int
round_trip(lua_State *L)
{
    const void *data = lua_touserdata(L, 1);
    size_t len = (size_t)lua_tointeger(L, 2);
    mpe_buf *out = lua_newuserdatauv(L, sizeof *out, 0);
    int n, again, rc, top = lua_gettop(L);

    mpe_buf_init(out);
    luaL_setmetatable(L, "buf");
    rc = lmpe_decode(L, data, len, &n, 0);
    check(lua_gettop(L) == top + (rc == MPE_OK ? n : 1));
    if (rc != MPE_OK)
        return 0;
    check(mpe_wire_scan_handles(data, len, no_handle, NULL) == 0);
    rc = lmpe_encode(L, top + 1, n, out, NULL);
    if (rc == MPE_ENOMEM || rc == MPE_ERANGE)
        return 0;
    check(rc == MPE_OK);
    lua_settop(L, top);
    rc = lmpe_decode(L, out->data, out->len, &again, 0);
    check(rc == MPE_OK && again == n);
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
    lua_settop(L, 0);
    return L;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const lmpe_codec_hooks hooks = {.to_handle = to_handle, .from_handle = from_handle};
    static lua_State *L;
    static int runs;

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
