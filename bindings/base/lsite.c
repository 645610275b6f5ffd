/* SPDX-License-Identifier: MIT
 *
 * lsite.c - places in the script. The place where a task was spawned: the lines of the innermost
 * callers. A program spawns at few places, many times: each place is kept once, and a task has
 * its number. The place of a mistake: the innermost line outside the library.
 */
#include "base/lmpe.h"
#include "base/lmodules.h"
#include "base/lsite.h"

#include <stdarg.h>
#include <string.h>

#define LEVELS 4
#define SITES_MAX 4096u
#define BUCKETS 1024u /* chains, so that places need not move */

static const char texts_key; /* number of a site -> its lines */

struct frame {
    const char *source; /* the chunk's, by address */
    int line;
};

struct site {
    struct frame frames[LEVELS];
    uint32_t next; /* in its bucket */
};

struct lmpe_sites {
    uint32_t count;
    uint32_t buckets[BUCKETS];
    struct site at[SITES_MAX]; /* touched as far as it is used */
};

static uint32_t
hash_frames(const struct frame *f)
{
    uint64_t h = 0;
    for (int i = 0; i < LEVELS; i++)
        h = (h ^ ((uintptr_t)f[i].source >> 4) ^ (uint32_t)f[i].line) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(h >> 40) % BUCKETS;
}

/* The lines of level 1 and its callers, as a traceback has them, without those of the library. */
static void
push_lines(lua_State *L)
{
    lua_Debug ar;
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (int level = 1; level <= LEVELS && lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "Sln", &ar);
        if (ar.currentline < 0 || lmpe_is_library(ar.source))
            continue;
        lua_pushfstring(L, "\n\t%s:%d:", ar.short_src, ar.currentline);
        luaL_addvalue(&b);
        if (*ar.namewhat)
            lua_pushfstring(L, " in %s '%s'", ar.namewhat, ar.name);
        else if (*ar.what == 'm')
            lua_pushliteral(L, " in main chunk");
        else
            lua_pushfstring(L, " in function <%s:%d>", ar.short_src, ar.linedefined);
        luaL_addvalue(&b);
    }
    luaL_pushresult(&b);
}

static uint32_t
add_site(lua_State *L, lmpe *S, const struct frame *f, uint32_t bucket)
{
    struct lmpe_sites *s = S->sites;
    if (s->count + 1 >= SITES_MAX)
        return 0;
    uint32_t n = s->count + 1;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &texts_key);
    push_lines(L);
    lua_rawseti(L, -2, n);
    lua_pop(L, 1);
    s->count = n;
    memcpy(s->at[n].frames, f, sizeof s->at[n].frames);
    s->at[n].next = s->buckets[bucket];
    s->buckets[bucket] = n;
    return n;
}

/* Made when the first task is spawned: many programs spawn none. */
static void
make_sites(lua_State *L, lmpe *S)
{
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &texts_key);
    struct lmpe_sites *s = lua_newuserdatauv(L, sizeof *s, 0);
    s->count = 0;
    memset(s->buckets, 0, sizeof s->buckets);
    lua_rawsetp(L, LUA_REGISTRYINDEX, s);
    S->sites = s;
}

uint32_t
lmpe_site_here(lua_State *L, lmpe *S)
{
    struct frame f[LEVELS];
    lua_Debug ar;
    if (!S->sites)
        make_sites(L, S);
    memset(f, 0, sizeof f);
    for (int level = 1; level <= LEVELS && lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "Sl", &ar);
        f[level - 1] = (struct frame){ar.source, ar.currentline};
    }
    struct lmpe_sites *s = S->sites;
    uint32_t bucket = hash_frames(f);
    for (uint32_t n = s->buckets[bucket]; n; n = s->at[n].next)
        if (memcmp(s->at[n].frames, f, sizeof f) == 0)
            return n;
    return add_site(L, S, f, bucket);
}

int
lmpe_script_error(lua_State *L, lmpe *S, const char *format, ...)
{
    lua_Debug ar;
    va_list args;
    (void)S;
    int level = 1;
    while (lua_getstack(L, level, &ar) && lua_getinfo(L, "Sl", &ar) && lmpe_is_library(ar.source))
        level++;
    luaL_where(L, level);
    va_start(args, format);
    lua_pushvfstring(L, format, args);
    va_end(args);
    lua_concat(L, 2);
    return lua_error(L);
}

int
lmpe_push_site(lua_State *L, lmpe *S, uint32_t site)
{
    (void)S;
    if (site == 0) {
        lua_pushnil(L);
        return 1;
    }
    lua_rawgetp(L, LUA_REGISTRYINDEX, &texts_key);
    lua_rawgeti(L, -1, site);
    return 1;
}
