/* SPDX-License-Identifier: MIT
 *
 * lmodules.c - where the library's Lua modules come from: their bytecode is in the program, so that
 * loading one needs no file and no parser. A Lua that does not take this bytecode gets the files,
 * found by package.path. Either way the chunks are named "=mpengine/co/tasks.lua": by this beginning,
 * which no script's chunk has, the library knows its own code.
 */
#include "lmodules.h"

#include "lmpe.h"

#include <stdio.h>
#include <string.h>

int
lmpe_is_library(const char *source)
{
    return strncmp(source, LMPE_LIBRARY, sizeof LMPE_LIBRARY - 1) == 0;
}

/* Pushes the chunk of a file, or what is wrong. */
static int
load_file(lua_State *L, const char *path, const char *chunk)
{
    luaL_Buffer b;
    size_t n;
    FILE *f = fopen(path, "rb");
    if (!f) {
        lua_pushfstring(L, "cannot open %s", path);
        return LUA_ERRFILE;
    }
    luaL_buffinit(L, &b);
    do {
        n = fread(luaL_prepbuffer(&b), 1, LUAL_BUFFERSIZE, f);
        luaL_addsize(&b, n);
    } while (n > 0);
    fclose(f);
    luaL_pushresult(&b);
    const char *text = lua_tolstring(L, -1, &n);
    return luaL_loadbufferx(L, text, n, chunk, "t");
}

/* Pushes the chunk of a module that is read from its file, or what is wrong. */
static int
find_file(lua_State *L, const char *name)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "searchpath");
    lua_pushstring(L, name);
    lua_getfield(L, -3, "path");
    lua_call(L, 2, 2);
    if (lua_isnil(L, -2))
        return LUA_ERRFILE;
    const char *path = lua_tostring(L, -2);
    int is_first = strcmp(name, "mpengine") == 0;
    const char *file = is_first ? "mpengine/init" : luaL_gsub(L, name, ".", "/");
    const char *chunk = lua_pushfstring(L, "=%s.lua", file);
    return load_file(L, path, chunk);
}

/* A searcher of package.searchers: the loader of a module of the library, nothing for others. */
static int
search(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    const struct lmpe_module *m = lmpe_modules;
    while (m->name[0] && strcmp(m->name, name) != 0)
        m++;
    if (!m->name[0])
        return 0;
    const char *code = (const char *)lmpe_modules_code + m->from;
    if (luaL_loadbufferx(L, code, m->size, name, "b") != LUA_OK && find_file(L, name) != LUA_OK)
        return lua_error(L);
    lua_pushliteral(L, ":mpengine:");
    return 2;
}

void
lmpe_add_searcher(lua_State *L, lua_CFunction f)
{
    int top = lua_gettop(L);
    if (lua_getglobal(L, "package") == LUA_TTABLE &&
        lua_getfield(L, -1, "searchers") == LUA_TTABLE) {
        for (lua_Integer i = (lua_Integer)lua_rawlen(L, -1); i >= 2; i--) {
            lua_rawgeti(L, -1, i);
            lua_rawseti(L, -2, i + 1);
        }
        lua_pushcfunction(L, f);
        lua_rawseti(L, -2, 2);
    }
    lua_settop(L, top);
}

void
lmpe_add_modules(lua_State *L)
{
    static const char key;
    int is_there = lua_rawgetp(L, LUA_REGISTRYINDEX, &key) != LUA_TNIL;
    lua_pop(L, 1);
    if (is_there)
        return;
    lua_pushboolean(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &key);
    lmpe_add_searcher(L, search);
}

void
lmpe_preload(lua_State *L)
{
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_pushcfunction(L, luaopen_mpengine_core);
    lua_setfield(L, -2, "mpengine.core");
    lua_pop(L, 1);
    lmpe_add_modules(L);
}
