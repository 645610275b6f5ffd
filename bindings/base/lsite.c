/* SPDX-License-Identifier: MIT
 *
 * lsite.c - places in the script. The place where a task was spawned: the lines of the innermost
 * callers, and which function was spawned. A program spawns at few places, many times: each place
 * is kept once, with the name of the function, and a task has its number. The place of a mistake:
 * the innermost line outside the library.
 */
#include "base/lrelease.h"
#include "base/lmpe.h"
#include "base/lmodules.h"
#include "base/lsite.h"

#include <stdarg.h>
#include <string.h>

#define LEVELS 4
#define SITES_MAX 4096u
#define BUCKETS 1024u /* chains, so that places need not move */

static const char texts_key; /* number of a site -> its lines; the negative one -> the name */

struct frame {
    const char *source; /* the chunk's, by address */
    int line;
};

struct site {
    struct frame frames[LEVELS + 1]; /* the last is the function's: where it is defined */
    uint32_t next;                   /* in its bucket */
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
    for (int i = 0; i <= LEVELS; i++)
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
    for (int level = 1; level <= LEVELS && lmpe_getstack(L, level, &ar); level++) {
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

/* The function that was given to spawn, not one of the library that calls it: its index, and where
 * it is defined. */
static int
spawned_function(lua_State *L, struct frame *where)
{
    lua_Debug ar;
    int top = lua_gettop(L);
    for (int i = 1; i <= top; i++) {
        if (lua_type(L, i) != LUA_TFUNCTION)
            continue;
        if (lua_iscfunction(L, i)) {
            where->source = (const char *)(uintptr_t)lua_tocfunction(L, i);
            where->line = -1;
            return i;
        }
        lua_pushvalue(L, i);
        lua_getinfo(L, ">S", &ar);
        where->source = ar.source;
        where->line = ar.linedefined;
        if (!lmpe_is_library(ar.source))
            return i;
    }
    return 1;
}

/* Pushes the name of a function. Code of the library that spawns a function for the script does not
 * know its name: that of an earlier place may be known. The table of texts is on top. */
static void
push_name(lua_State *L, const struct lmpe_sites *s, const struct frame *where, int function)
{
    if (lmpe_push_function_name(L, function, 1))
        return;
    for (uint32_t n = 1; n <= s->count; n++) {
        if (memcmp(&s->at[n].frames[LEVELS], where, sizeof *where) != 0)
            continue;
        lua_pop(L, 1);
        lua_rawgeti(L, -1, -(lua_Integer)n);
        return;
    }
}

static uint32_t
add_site(lua_State *L, lmpe *S, const struct frame *f, uint32_t bucket, int function)
{
    struct lmpe_sites *s = S->sites;
    if (s->count + 1 >= SITES_MAX)
        return 0;
    uint32_t n = s->count + 1;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &texts_key);
    push_lines(L);
    lua_rawseti(L, -2, n);
    push_name(L, s, &f[LEVELS], function);
    lua_rawseti(L, -2, -(lua_Integer)n);
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
    struct frame f[LEVELS + 1];
    lua_Debug ar;
    if (!S->sites)
        make_sites(L, S);
    memset(f, 0, sizeof f);
    for (int level = 1; level <= LEVELS && lmpe_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "Sl", &ar);
        f[level - 1] = (struct frame){ar.source, ar.currentline};
    }
    int function = spawned_function(L, &f[LEVELS]);
    struct lmpe_sites *s = S->sites;
    uint32_t bucket = hash_frames(f);
    for (uint32_t n = s->buckets[bucket]; n; n = s->at[n].next)
        if (memcmp(s->at[n].frames, f, sizeof f) == 0)
            return n;
    return add_site(L, S, f, bucket, function);
}

int
lmpe_script_error(lua_State *L, lmpe *S, const char *format, ...)
{
    lua_Debug ar;
    va_list args;
    (void)S;
    int level = 1;
    while (lmpe_getstack(L, level, &ar) && lua_getinfo(L, "Sl", &ar) && lmpe_is_library(ar.source))
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

void
lmpe_push_site_name(lua_State *L, uint32_t site)
{
    lua_pushnil(L);
    if (site == 0)
        return;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &texts_key);
    lua_rawgeti(L, -1, -(lua_Integer)site);
    lua_replace(L, -3);
    lua_pop(L, 1);
}
