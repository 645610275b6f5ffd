/* SPDX-License-Identifier: MIT
 *
 * lhost.c - what a host hands to its Lua state, and takes from it: objects and values.
 */
#include "base/lobject.h"
#include "codec/lcodec.h"
#include "mpengine_lua.h"

void
mpe_lua_push(lua_State *L, mpe_object *o)
{
    luaL_checkstack(L, 8, NULL);
    lmpe *S = lmpe_load(L);
    int rc = lmpe_push_handle(L, S, mpe_handle_of(S->e, o));
    if (rc != MPE_OK)
        lmpe_raise(L, rc, "mpe_lua_push");
}

mpe_object *
mpe_lua_to(lua_State *L, int index)
{
    if (!L || !lmpe_of(L))
        return NULL;
    lmpe_box *b = lmpe_test_any(L, index);
    return b ? b->o : NULL;
}

struct bytes {
    mpe_buf *out;
    const void *data;
    size_t size;
    int rc, n;
};

static int
encode(lua_State *L)
{
    struct bytes *b = lua_touserdata(L, 1);
    lmpe_encode_opts opts = {.root = "values", .in_program = 1};
    lmpe_load(L);
    b->rc = lmpe_encode(L, 2, lua_gettop(L) - 1, b->out, &opts);
    return b->rc < 0 ? 1 : 0;
}

static int
decode(lua_State *L)
{
    struct bytes *b = lua_touserdata(L, 1);
    lmpe_load(L);
    b->rc = lmpe_decode(L, b->data, b->size, &b->n, LMPE_DECODE_FUNCTIONS);
    return b->rc < 0 ? 1 : b->n;
}

/* The function and the arguments are on top, the first of them b. Its status; then a text is on
 * top. */
static int
guarded(lua_State *L, struct bytes *b, int nargs)
{
    if (lua_pcall(L, nargs, LUA_MULTRET, 0) == LUA_OK)
        return b->rc;
    luaL_tolstring(L, -1, NULL);
    lua_remove(L, -2);
    return MPE_ENOMEM;
}

int
mpe_lua_encode(lua_State *L, int n, mpe_buf *out)
{
    if (!L || !out || n < 0)
        return MPE_EINVAL;
    struct bytes b = {.out = out};
    size_t before = out->len;
    luaL_checkstack(L, 4, NULL);
    lua_pushcfunction(L, encode);
    lua_insert(L, -(n + 1));
    lua_pushlightuserdata(L, &b);
    lua_insert(L, -(n + 1));
    int rc = guarded(L, &b, n + 1);
    if (rc < 0)
        out->len = before;
    return rc;
}

int
mpe_lua_decode(lua_State *L, const void *data, size_t size)
{
    if (!L || (!data && size > 0))
        return MPE_EINVAL;
    struct bytes b = {.data = data, .size = size};
    luaL_checkstack(L, 4, NULL);
    lua_pushcfunction(L, decode);
    lua_pushlightuserdata(L, &b);
    int rc = guarded(L, &b, 1);
    return rc < 0 ? rc : b.n;
}
