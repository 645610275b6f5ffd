/* SPDX-License-Identifier: MIT
 *
 * lmodules.c - the source of the library's Lua modules. Their bytecode is in the program, so
 * that loading one needs no file and no parser. A Lua that does not accept this bytecode gets
 * the files, found by package.path. In both cases the chunks are named "=mpengine/co/tasks.lua":
 * by this prefix, which no script's chunk has, the library recognizes its own code.
 *
 * One Lua state has one library. Scripts may remove its modules from package.loaded, or restore
 * what was there before them, also for globals, as a test runner does before each file. require
 * then returns the existing modules, and restores everything else the library had put there.
 */
#include "base/lmodules.h"

#include "base/lmpe.h"

#include <stdio.h>
#include <string.h>

int
lmpe_is_library(const char *source)
{
    return strncmp(source, LMPE_LIBRARY, sizeof LMPE_LIBRARY - 1) == 0;
}

struct reader {
    FILE *f;
    char piece[BUFSIZ];
};

static const char *
read_piece(lua_State *L, void *ud, size_t *n)
{
    struct reader *r = ud;
    (void)L;
    *n = fread(r->piece, 1, sizeof r->piece, r->f);
    return *n > 0 ? r->piece : NULL;
}

/* Pushes the chunk of a file, or an error message. */
static int
load_file(lua_State *L, const char *path, const char *chunk)
{
    struct reader r = {.f = fopen(path, "rb")};
    if (!r.f) {
        lua_pushfstring(L, "cannot open %s", path);
        return LUA_ERRFILE;
    }
    int status = lua_load(L, read_piece, &r, chunk, "t"); /* raises nothing */
    fclose(r.f);
    return status;
}

/* Pushes the chunk of a module that is read from its file, or an error message. */
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

/* ---- one library ---- */

/* Names of tables in the registry. */
#define MODULES "mpengine.modules" /* module -> its value, once it is loaded */
#define LOADED "mpengine.loaded"   /* what else the library has in package.loaded */
#define GLOBALS "mpengine.globals" /* name -> {the library's function, the one it has replaced} */

void
lmpe_set_loaded(lua_State *L, const char *name)
{
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LOADED);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, name);
    lua_pushvalue(L, -3);
    lua_setfield(L, -3, name);
    lua_pop(L, 3);
}

void
lmpe_set_global(lua_State *L, const char *name)
{
    luaL_getsubtable(L, LUA_REGISTRYINDEX, GLOBALS);
    lua_createtable(L, 2, 0);
    lua_pushvalue(L, -3);
    lua_rawseti(L, -2, 1);
    lua_getglobal(L, name);
    lua_rawseti(L, -2, 2);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
    lua_setglobal(L, name);
}

void
lmpe_push_modules(lua_State *L)
{
    luaL_getsubtable(L, LUA_REGISTRYINDEX, MODULES);
}

void
lmpe_push_hooks(lua_State *L)
{
    static const char key;
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &key) != LUA_TTABLE) {
        lua_pop(L, 1);
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &key);
    }
}

int
lmpe_push_hook(lua_State *L, const char *name)
{
    lmpe_push_hooks(L);
    lua_pushstring(L, name);
    int type = lua_rawget(L, -2);
    lua_remove(L, -2);
    return type == LUA_TFUNCTION;
}

/* Puts every name of a table in the registry back that is absent from package.loaded. The modules are
 * among them: functions of a module that is not there would be sent by value. */
static void
put_back_loaded(lua_State *L, const char *table)
{
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, table);
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        lua_pushvalue(L, -2);
        if (lua_rawget(L, -5) == LUA_TNIL) {
            lua_pushvalue(L, -3);
            lua_pushvalue(L, -3);
            lua_rawset(L, -7);
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 2);
}

/* Restores every global that is Lua's own again. */
static void
put_back_globals(lua_State *L)
{
    lua_pushglobaltable(L);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, GLOBALS);
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        lua_pushvalue(L, -2);
        lua_rawget(L, -5);
        lua_rawgeti(L, -2, 2);
        if (lua_rawequal(L, -1, -2)) {
            lua_pushvalue(L, -4);
            lua_rawgeti(L, -4, 1);
            lua_rawset(L, -8);
        }
        lua_pop(L, 2);
    }
    lua_pop(L, 2);
}

int
lmpe_push_known(lua_State *L, const char *name)
{
    lmpe_push_modules(L);
    lua_getfield(L, -1, name);
    lua_remove(L, -2);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        return 0;
    }
    put_back_loaded(L, MODULES);
    put_back_loaded(L, LOADED);
    put_back_globals(L);
    return 1;
}

/* The loader of an existing module: upvalue 1. */
static int
known(lua_State *L)
{
    lua_pushvalue(L, lua_upvalueindex(1));
    return 1;
}

/* The loader of another: calls its chunk, upvalue 1, and keeps what it returns. */
static int
load(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    lmpe_push_modules(L);
    lua_pushvalue(L, -2);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
    return 1;
}

/* A searcher of package.searchers: the loader of a module of the library, nothing for others. */
static int
search(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    const struct lmpe_embedded *m = lmpe_modules;
    while (m->name[0] && strcmp(m->name, name) != 0)
        m++;
    if (!m->name[0])
        return 0;
    const char *code = (const char *)lmpe_modules_code + m->from;
    if (lmpe_push_globals(L)) /* the first module */
        lmpe_copy_globals(L);
    lua_pop(L, 1);
    if (lmpe_push_known(L, name)) {
        lua_pushcclosure(L, known, 1);
        lua_pushliteral(L, ":mpengine:");
        return 2;
    }
    int status = luaL_loadbufferx(L, code, m->size, name, "b");
    if (status == LUA_ERRSYNTAX) /* bytecode of another Lua */
        status = find_file(L, name);
    if (status != LUA_OK)
        return lua_error(L);
    lmpe_push_globals(L);
    lua_setupvalue(L, -2, 1);
    lua_pushcclosure(L, load, 1);
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
lmpe_preload(lua_State *L, lua_CFunction open_core)
{
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_pushcfunction(L, open_core);
    lua_setfield(L, -2, "mpengine.core");
    lua_pop(L, 1);
    lmpe_add_modules(L);
}
