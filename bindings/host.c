/* SPDX-License-Identifier: MIT
 *
 * host.c - the mpengine command. Options, arg, errors and exit codes as in lua; what follows a
 * script (waiting for its children, say) is the library's business: mpengine/main.lua.
 */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include <libgen.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lmpe.h"

/* Where the Lua modules lie: beside the built command, or in the tree it was installed to. */
static void
push_module_path(lua_State *L)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0) {
        lua_pushliteral(L, "");
        return;
    }
    self[n] = '\0';
    const char *dir = dirname(self);
    lua_pushfstring(L,
                    "%s/lua/?.lua;%s/lua/?/init.lua;%s/../share/lua/5.4/?.lua;"
                    "%s/../share/lua/5.4/?/init.lua;",
                    dir, dir, dir, dir);
}

/* Lua code that makes package.path begin with the argument, and runs the code of a child. */
static const char boot_child[] = "local path, argv = ...\n"
                                 "package.path = path .. package.path\n"
                                 "return load(argv[3], '=mpengine')()\n";

/* Started by the engine itself, as -E -e CODE? Then that code sees to everything, and the command line
 * and what belongs to it need not be loaded. */
static int
is_child(int argc, char **argv)
{
    return argc == 4 && strcmp(argv[1], "-E") == 0 && strcmp(argv[2], "-e") == 0 &&
           getenv("MPENGINE_CHILD");
}

/* Lua code that makes package.path begin with the argument, and runs the main module. */
static const char boot[] = "local path, argv = ...\n"
                           "package.path = path .. package.path\n"
                           "return require('mpengine.main')(argv)\n";

static int
run(lua_State *L)
{
    int argc = (int)lua_tointeger(L, 1);
    char **argv = lua_touserdata(L, 2);
    luaL_openlibs(L);
    lua_pushboolean(L, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, "mpengine.command");
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_pushcfunction(L, luaopen_mpengine_core);
    lua_setfield(L, -2, "mpengine.core");
    lua_pop(L, 1);
    if (luaL_loadstring(L, is_child(argc, argv) ? boot_child : boot) != LUA_OK)
        return lua_error(L);
    push_module_path(L);
    lua_createtable(L, argc, 1);
    for (int i = 0; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i);
    }
    lua_call(L, 2, 1);
    return 1;
}

/* Freed memory is kept for the next string instead of going back to the system and being faulted in
 * again, and small frees are not put off: putting them together later, in a forked child, would
 * copy the pages they lie on. */
static void
tune_malloc(void)
{
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, 128 << 20);
    mallopt(M_TOP_PAD, 1 << 20);
    mallopt(M_MXFAST, 0);
}

int
main(int argc, char **argv)
{
    tune_malloc();
    lua_State *L = luaL_newstate();
    if (!L) {
        fprintf(stderr, "mpengine: not enough memory\n");
        return EXIT_FAILURE;
    }
    lua_gc(L, LUA_GCGEN, 0, 0);
    lua_pushcfunction(L, run);
    lua_pushinteger(L, argc);
    lua_pushlightuserdata(L, argv);
    int status = lua_pcall(L, 2, 1, 0);
    int code = EXIT_FAILURE;
    if (status == LUA_OK) {
        code = (int)lua_tointeger(L, -1);
    } else {
        const char *message = lua_tostring(L, -1);
        fprintf(stderr, "mpengine: %s\n", message ? message : "error object is not a string");
    }
    lua_close(L);
    return code;
}
