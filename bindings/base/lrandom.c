/* SPDX-License-Identifier: MIT
 *
 * lrandom.c - the seed of math.random, different in every state and process.
 */
#include "base/lmpe.h"
#include "base/lsystem.h"

#include <sys/random.h>
#include <unistd.h>

static const char randomseed_key; /* math.randomseed as it was when the library was opened */

static void
push_randomseed(lua_State *L)
{
    if (lua_getglobal(L, "math") == LUA_TTABLE)
        lua_getfield(L, -1, "randomseed");
    else
        lua_pushnil(L);
    lua_remove(L, -2);
}

/* Lua seeds it from the time in seconds and an address, which are the same in forked children,
 * and in successive states of a thread. */
void
lmpe_seed_random(lua_State *L)
{
    uint64_t seed[2];
    if (getrandom(seed, sizeof seed, GRND_NONBLOCK) != sizeof seed) {
        seed[0] = mpe_now();
        seed[1] = (uint64_t)gettid();
    }
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &randomseed_key) != LUA_TFUNCTION) {
        lua_pop(L, 1);
        push_randomseed(L);
    }
    lua_pushinteger(L, (lua_Integer)seed[0]);
    lua_pushinteger(L, (lua_Integer)seed[1]);
    if (!lua_isfunction(L, -3))
        lua_pop(L, 3);
    else if (lua_pcall(L, 2, 0, 0) != LUA_OK)
        lua_pop(L, 1);
}

static void
on_open(lua_State *L, lmpe *S)
{
    (void)S;
    push_randomseed(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &randomseed_key);
}

const lmpe_module lmpe_random_module = {.open = on_open};
