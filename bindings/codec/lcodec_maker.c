/* SPDX-License-Identifier: MIT */
/*
** lcodec_maker.c - functions that make closures of code that was read once.
**
** lua_load returns one closure and reads all of the code for it. Lua makes further closures of a
** prototype only where a function is nested in a running one, so this file builds the bytecode
** of
**
**     local a1, a2 return function() return a1, a2 end
**
** compiled by the running Lua, with as many locals as the code has upvalues, and with the code
** in place of the inner function. Each call gives a closure with upvalues of its own, all nil.
**
** This file depends on how bytecode is serialised (ldump.c of Lua 5.4), not on what it does. So it
** is left out where lcodec_plain.c is (PLAIN of the Makefile). The
** first closure of each maker is dumped again; unless its bytes are those of the code there is
** no maker, and the code is loaded each time.
*/
#include <stdio.h>
#include <string.h>

#include "codec/lcodec_int.h"

#define HEAD 31          /* bytes of the header, up to the count of upvalues */
#define MAX_UPVALUES 100 /* a function has 200 locals */

/* Where the parts of a function lie in its bytecode. */
typedef struct parts {
    size_t start;
    size_t upvalues; /* 3 bytes each */
    size_t nested;   /* the first function in it */
    size_t end;
} parts;

typedef struct cursor {
    const uint8_t *at, *base, *end;
    int failed;
} cursor;

/* ------------------------------------------------------------------------ walking bytecode */

static void
skip(cursor *c, size_t n)
{
    if (n > (size_t)(c->end - c->at)) {
        c->failed = 1;
        n = (size_t)(c->end - c->at);
    }
    c->at += n;
}

static unsigned
get_byte(cursor *c)
{
    const uint8_t *at = c->at;

    skip(c, 1);
    return c->failed ? 0 : *at;
}

/* Seven bits a byte, the highest first; the last one has bit 7 set.  No more than there are bytes. */
static size_t
get_count(cursor *c)
{
    size_t n = 0;
    unsigned byte;

    do {
        byte = get_byte(c);
        n = n << 7 | (byte & 0x7f);
        if (n > (size_t)(c->end - c->base))
            c->failed = 1;
    } while (!(byte & 0x80) && !c->failed);
    return c->failed ? 0 : n;
}

static void
skip_string(cursor *c)
{
    size_t n = get_count(c);

    skip(c, n > 0 ? n - 1 : 0);
}

static void
skip_constants(cursor *c)
{
    size_t n = get_count(c);

    while (n-- > 0 && !c->failed)
        switch (get_byte(c)) {
        case 0x00: /* nil, false, true */
        case 0x01:
        case 0x11:
            break;
        case 0x03: /* integer, float */
        case 0x13:
            skip(c, 8);
            break;
        case 0x04: /* short and long strings */
        case 0x14:
            skip_string(c);
            break;
        default:
            c->failed = 1;
        }
}

static void
skip_debug(cursor *c)
{
    size_t n;

    skip(c, get_count(c)); /* lines, each a byte */
    for (n = get_count(c); n > 0 && !c->failed; n--) {
        get_count(c);
        get_count(c);
    }
    for (n = get_count(c); n > 0 && !c->failed; n--) {
        skip_string(c);
        get_count(c);
        get_count(c);
    }
    for (n = get_count(c); n > 0 && !c->failed; n--)
        skip_string(c);
}

/* A function with all that is nested in it, which is bounded as the parser of Lua bounds it. */
static void
walk(cursor *c, parts *p, int depth)
{
    size_t n;
    parts inner;

    p->start = (size_t)(c->at - c->base);
    skip_string(c); /* source */
    get_count(c);   /* first and last line */
    get_count(c);
    skip(c, 3); /* parameters, vararg, stack */
    skip(c, 4 * get_count(c));
    skip_constants(c);
    n = get_count(c);
    p->upvalues = (size_t)(c->at - c->base);
    skip(c, 3 * n);
    n = get_count(c);
    p->nested = (size_t)(c->at - c->base);
    if (depth > 200)
        c->failed = 1;
    for (; n > 0 && !c->failed; n--)
        walk(c, &inner, depth + 1);
    skip_debug(c);
    p->end = (size_t)(c->at - c->base);
}

/* Finds the parts of the function after the header; returns whether all of the bytes were
 * understood. */
static int
find_parts(const void *code, size_t n, parts *p)
{
    cursor c = {code, code, NULL, 0};

    c.end = c.at + n;
    skip(&c, HEAD + 1);
    walk(&c, p, 0);
    return !c.failed && c.at == c.end;
}

/* ------------------------------------------------------------------------------- building */

typedef struct dump {
    int begun;
    luaL_Buffer b;
} dump;

/* The buffer may need a stack slot, so it is begun when the function need not be at the top. */
static int
append(lua_State *L, const void *bytes, size_t n, void *ud)
{
    dump *d = ud;

    if (!d->begun)
        luaL_buffinit(L, &d->b);
    d->begun = 1;
    luaL_addlstring(&d->b, bytes, n);
    return 0;
}

/* Replaces the function at the top by its bytecode. */
static const char *
replace_by_dump(lua_State *L, int strip, size_t *n)
{
    dump d;
    int function = lua_gettop(L);

    d.begun = 0;
    lua_dump(L, append, &d, strip);
    luaL_pushresult(&d.b);
    lua_replace(L, function);
    lua_settop(L, function);
    return lua_tolstring(L, function, n);
}

static void
add_names(luaL_Buffer *b, int n)
{
    char name[16];
    int i;

    for (i = 0; i < n; i++) {
        snprintf(name, sizeof name, "%sa%d", i > 0 ? "," : "", i);
        luaL_addstring(b, name);
    }
}

/* Pushes a function around one that has n upvalues. */
static void
push_template(lua_State *L, int n)
{
    luaL_Buffer b;
    const char *source;
    size_t len;

    luaL_buffinit(L, &b);
    if (n > 0) {
        luaL_addstring(&b, "local ");
        add_names(&b, n);
    }
    luaL_addstring(&b, " return function() return ");
    add_names(&b, n);
    luaL_addstring(&b, " end");
    luaL_pushresult(&b);
    source = lua_tolstring(L, -1, &len);
    if (luaL_loadbufferx(L, source, len, "=maker", "t") != LUA_OK)
        lua_error(L);
    lua_remove(L, -2);
}

/* Pushes the maker for code of n bytes, or returns 0. */
static int
push_maker(lua_State *L, const char *code, size_t n, const parts *f, int nups)
{
    const char *around;
    size_t len;
    parts outer, inner;
    cursor c;
    luaL_Buffer b;

    push_template(L, nups);
    around = replace_by_dump(L, 1, &len);
    if (!find_parts(around, len, &outer) || memcmp(code, around, HEAD) != 0)
        return 0;
    c = (cursor){(const uint8_t *)around + outer.nested, (const uint8_t *)around,
                 (const uint8_t *)around + len, 0};
    walk(&c, &inner, 0);
    luaL_buffinit(L, &b);
    luaL_addlstring(&b, around, inner.start);
    luaL_addlstring(&b, code + f->start, f->upvalues - f->start);
    luaL_addlstring(&b, around + inner.upvalues, 3 * (size_t)nups);
    luaL_addlstring(&b, code + f->upvalues + 3 * nups, n - f->upvalues - 3 * (size_t)nups);
    luaL_addlstring(&b, around + inner.end, len - inner.end);
    luaL_pushresult(&b);
    around = lua_tolstring(L, -1, &len);
    return luaL_loadbufferx(L, around, len, "=maker", "b") == LUA_OK;
}

/* Whether the function at the top, which is popped, is the code except for the sources of its
 * upvalues. */
static int
is_code(lua_State *L, const char *code, size_t n, const parts *f, int nups)
{
    size_t len, rest = f->upvalues + 3 * (size_t)nups;
    const char *again = replace_by_dump(L, 0, &len);

    return len == n && memcmp(again, code, f->upvalues) == 0 &&
           memcmp(again + rest, code + rest, n - rest) == 0;
}

/* code, length -> maker or nothing */
static int
make(lua_State *L)
{
    const char *code = lua_touserdata(L, 1);
    size_t n = (size_t)lua_tointeger(L, 2);
    int nups = n > HEAD ? (unsigned char)code[HEAD] : 255;
    parts f;

    if (nups > MAX_UPVALUES || !find_parts(code, n, &f) || !push_maker(L, code, n, &f, nups))
        return 0;
    lua_pushvalue(L, -1);
    lua_call(L, 0, 1);
    if (!lua_isfunction(L, -1) || lua_iscfunction(L, -1) || !is_code(L, code, n, &f, nups))
        return 0;
    lua_pop(L, 1); /* its dump */
    return 1;
}

void
lmpe_code_maker(lua_State *L, const char *code, size_t n)
{
    if (!lmpe_plain_is_usable()) {
        lua_pushboolean(L, 0);
        return;
    }
    lua_pushcfunction(L, make);
    lua_pushlightuserdata(L, (void *)(uintptr_t)code);
    lua_pushinteger(L, (lua_Integer)n);
    if (lua_pcall(L, 2, 1, 0) == LUA_OK && lua_isfunction(L, -1))
        return;
    lua_pop(L, 1);
    lua_pushboolean(L, 0);
}
