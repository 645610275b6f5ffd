/* SPDX-License-Identifier: MIT
 *
 * counter_module.c - a C module for scripts, which works on the objects of the script.
 *
 *     cc -shared -fPIC counter_module.c -o counter.so $(pkg-config --cflags --libs mpengine-lua)
 *
 *     local mp, counter = require "mpengine", require "counter"
 *     local q = mp.Queue()
 *     counter.fill(q, 3)        -- puts 1, 2 and 3
 */
#include "mpengine_lua.h"

#include <lauxlib.h>

static int
fill(lua_State *L)
{
    mpe_engine *e = mpe_lua_engine(L);
    mpe_object *q = mpe_lua_to(L, 1);
    lua_Integer n = luaL_checkinteger(L, 2);
    if (!e || !q)
        return luaL_error(L, "fill: a queue of mpengine expected");
    for (lua_Integer i = 1; i <= n; i++) {
        mpe_buf b;
        mpe_buf_init(&b);
        int rc = mpe_pack(e, &b, "i", (int64_t)i);
        if (rc == MPE_OK)
            rc = mpe_put(e, q, b.data, b.len, MPE_NOW);
        mpe_buf_free(&b);
        if (rc != MPE_OK)
            return luaL_error(L, "fill: %s", mpe_strerror(rc));
    }
    return 0;
}

static int
new_queue(lua_State *L)
{
    mpe_object *q;
    int rc = mpe_queue_create(mpe_lua_engine(L), 0, 0, &q);
    if (rc != MPE_OK)
        return luaL_error(L, "new_queue: %s", mpe_strerror(rc));
    mpe_lua_push(L, q);
    mpe_drop(mpe_lua_engine(L), q);
    return 1;
}

static const luaL_Reg functions[] = {{"fill", fill}, {"new_queue", new_queue}, {NULL, NULL}};

MPE_API int luaopen_counter(lua_State *L);

int
luaopen_counter(lua_State *L)
{
    luaL_newlib(L, functions);
    return 1;
}
