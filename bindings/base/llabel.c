/* SPDX-License-Identifier: MIT
 *
 * llabel.c - see llabel.h. The engine keeps each place once and gives it a number; the last ones of
 * this state are remembered by the address of the chunk's source and the line, so that a
 * constructor need not ask.
 */
#include "base/lrelease.h"
#include "base/llabel.h"
#include "base/lmodules.h"

#include <stdio.h>
#include <string.h>

#define PLACES 64u

struct lmpe_places {
    struct {
        const char *source;
        int line;
        uint32_t number;
    } at[PLACES];
};

/* Made when the first object is. */
static struct lmpe_places *
places_of(lua_State *L, lmpe *S)
{
    if (S->places)
        return S->places;
    struct lmpe_places *p = lua_newuserdatauv(L, sizeof *p, 0);
    memset(p, 0, sizeof *p);
    lua_rawsetp(L, LUA_REGISTRYINDEX, p);
    S->places = p;
    return p;
}

uint32_t
lmpe_place_here(lua_State *L, lmpe *S)
{
    lua_Debug ar;
    char text[LUA_IDSIZE + 16];
    int level = 0;
    do {
        if (!lmpe_getstack(L, level++, &ar))
            return 0;
        lua_getinfo(L, "Sl", &ar);
    } while (ar.currentline <= 0 || lmpe_is_library(ar.source));
    struct lmpe_places *p = places_of(L, S);
    uint32_t i = (uint32_t)(((uintptr_t)ar.source >> 4) + (unsigned)ar.currentline) % PLACES;
    if (p->at[i].source == ar.source && p->at[i].line == ar.currentline)
        return p->at[i].number;
    snprintf(text, sizeof text, "%s:%d", ar.short_src, ar.currentline);
    p->at[i].source = ar.source;
    p->at[i].line = ar.currentline;
    return p->at[i].number = mpe_place_note(S->e, text);
}

int
lmpe_label(lua_State *L, lmpe *S, mpe_object *o, int name)
{
    mpe_bytes bytes = {NULL, 0};
    if (lua_type(L, name) == LUA_TSTRING)
        bytes.data = lua_tolstring(L, name, &bytes.size);
    return mpe_object_label(S->e, o, bytes, lmpe_place_here(L, S));
}

/* ---- fields ---- */

static int
is_field(const char *key, const char *const *fields)
{
    for (; key && *fields; fields++)
        if (strcmp(key, *fields) == 0)
            return 1;
    return key && strcmp(key, "name") == 0;
}

static int
unknown_field(lua_State *L, const char *call, const char *const *fields, int key)
{
    luaL_Buffer b;
    const char *text = luaL_tolstring(L, key, NULL);
    luaL_buffinit(L, &b);
    for (; *fields; fields++) {
        luaL_addstring(&b, *fields);
        luaL_addstring(&b, ", ");
    }
    luaL_addstring(&b, "name");
    luaL_pushresult(&b);
    return luaL_error(L, "%s: unknown field '%s' (%s expected)", call, text, lua_tostring(L, -1));
}

/* Of the table at an index: pushes the name. */
static void
push_name(lua_State *L, const char *call, const char *const *fields, int table)
{
    for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1))
        if (!is_field(lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL, fields))
            unknown_field(L, call, fields, -2);
    int type = lua_getfield(L, table, "name");
    if (type != LUA_TNIL && type != LUA_TSTRING)
        luaL_error(L, "%s: field 'name': a string expected, got %s", call, luaL_typename(L, -1));
}

static int
is_plain_table(lua_State *L, int idx)
{
    if (!lua_istable(L, idx))
        return 0;
    int has = lua_getmetatable(L, idx);
    lua_pop(L, has);
    return !has;
}

void
lmpe_take_fields(lua_State *L, const char *call, const char *const *fields)
{
    int n = 0;
    while (fields[n])
        n++;
    if (!is_plain_table(L, 1)) {
        lua_settop(L, n);
        lua_pushnil(L);
        return;
    }
    lua_settop(L, 1);
    for (int i = 0; i < n; i++)
        lua_getfield(L, 1, fields[i]);
    push_name(L, call, fields, 1);
    lua_remove(L, 1);
}

void
lmpe_take_name(lua_State *L, const char *call)
{
    static const char *const none[] = {NULL};
    lua_settop(L, 2);
    if (lua_isnil(L, 2))
        return;
    luaL_checktype(L, 2, LUA_TTABLE);
    push_name(L, call, none, 2);
    lua_replace(L, 2);
}

/* ---- escaping ---- */

/* The length of the UTF-8 sequence at s that can be printed, 0: none. */
static size_t
printable(const unsigned char *s, size_t size)
{
    if (*s < 0x80)
        return *s >= ' ' && *s != 0x7f && *s != '\\' && *s != '\'';
    size_t n = *s >= 0xf0 && *s < 0xf5   ? 4
               : *s >= 0xe0 && *s < 0xf0 ? 3
               : *s >= 0xc2 && *s < 0xe0 ? 2
                                         : 0;
    if (n == 0 || n > size || (*s == 0xc2 && s[1] < 0xa0) || (*s == 0xe0 && s[1] < 0xa0) ||
        (*s == 0xed && s[1] > 0x9f) || (*s == 0xf0 && s[1] < 0x90) || (*s == 0xf4 && s[1] > 0x8f))
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

void
lmpe_push_escaped(lua_State *L, const char *bytes, size_t size)
{
    static const char named[] = "\a\b\f\n\r\t\v\\'", letters[] = "abfnrtv\\'";
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (size_t i = 0; i < size;) {
        const char *s = bytes + i, *at = *s ? strchr(named, *s) : NULL;
        size_t n = printable((const unsigned char *)s, size - i);
        char hex[5];
        if (n > 0) {
            luaL_addlstring(&b, s, n);
        } else if (at) {
            luaL_addchar(&b, '\\');
            luaL_addchar(&b, letters[at - named]);
        } else {
            snprintf(hex, sizeof hex, "\\x%02x", (unsigned char)*s);
            luaL_addstring(&b, hex);
        }
        i += n ? n : 1;
    }
    luaL_pushresult(&b);
}
