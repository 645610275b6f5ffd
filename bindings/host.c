/* SPDX-License-Identifier: MIT
 *
 * host.c - the mpengine command. Options, arg, errors and exit codes as in lua; what follows a
 * script (waiting for its children, say) is the library's business: mpengine/main.lua.
 */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/lmodules.h"
#include "process/lprocess.h"
#include "lopen.h"

#define PREFIX "mpengine: "

/* Started by the engine itself, as -E -e CODE? Then that code sees to everything, and the command line
 * and what belongs to it need not be loaded. */
static int
is_child(int argc, char **argv)
{
    return argc == 4 && strcmp(argv[1], "-E") == 0 && strcmp(argv[2], "-e") == 0 &&
           getenv("MPENGINE_CHILD");
}

/* Is there an option -E? Lua reads the variables when its libraries are opened. */
static int
ignores_environment(int argc, char **argv)
{
    for (int i = 1; i < argc && argv[i][0] == '-' && argv[i][1] && strcmp(argv[i], "--") != 0;
         i++) {
        if (strcmp(argv[i], "-E") == 0)
            return 1;
        if (strcmp(argv[i], "-e") == 0 || strcmp(argv[i], "-l") == 0)
            i++; /* and its argument */
    }
    return 0;
}

/* Is it a command that looks into other programs? */
static int
is_reader(int argc, char **argv)
{
    static const char *const readers[] = {"ps", "dump", "top", "trace", "profile"};
    for (size_t i = 0; argc > 1 && i < sizeof readers / sizeof *readers; i++)
        if (strcmp(argv[1], readers[i]) == 0)
            return 1;
    return argc > 1 && strncmp(argv[1], "--trace=", 8) == 0;
}

/* Runs the code of a child. */
static void
run_child(lua_State *L, const char *code)
{
    if (luaL_loadbuffer(L, code, strlen(code), LMPE_LIBRARY "boot") != LUA_OK)
        lua_error(L);
    lua_call(L, 0, 1);
}

/* Runs the main module with the command line: the exit code. */
static void
run_command(lua_State *L, int argc, char **argv)
{
    lua_getglobal(L, "require");
    lua_pushliteral(L, "mpengine.main");
    lua_call(L, 1, 1);
    lmpe_put_off_collection(L);
    lua_createtable(L, argc, 1);
    for (int i = 0; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i);
    }
    lua_call(L, 1, 1);
}

static int
run(lua_State *L)
{
    int argc = (int)lua_tointeger(L, 1);
    char **argv = lua_touserdata(L, 2);
    lua_pushboolean(L, ignores_environment(argc, argv));
    lua_setfield(L, LUA_REGISTRYINDEX, "LUA_NOENV");
    luaL_openlibs(L);
    lua_pushboolean(L, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, "mpengine.command");
    if (is_reader(argc, argv)) {
        lua_pushboolean(L, 1);
        lua_setfield(L, LUA_REGISTRYINDEX, "mpengine.reader");
    }
    lmpe_preload(L, luaopen_mpengine_core);
    if (is_child(argc, argv))
        run_child(L, argv[3]);
    else
        run_command(L, argc, argv);
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

/* What reads and writes standard files that are closed finds nothing, and no file that a script opens
 * gets in their place. Without a /dev/null they stay closed. */
static void
open_standard_files(void)
{
    int fd;
    while ((fd = open("/dev/null", O_RDWR)) >= 0 && fd <= STDERR_FILENO)
        ;
    if (fd >= 0)
        close(fd);
}

int
main(int argc, char **argv)
{
    open_standard_files();
    tune_malloc();
    lua_State *L = luaL_newstate();
    if (!L) {
        fprintf(stderr, "mpengine: not enough memory\n");
        return EXIT_FAILURE;
    }
    lua_gc(L, LUA_GCGEN, 0, 0);
    lua_gc(L, LUA_GCSTOP); /* until the library is there */
    lua_pushcfunction(L, run);
    lua_pushinteger(L, argc);
    lua_pushlightuserdata(L, argv);
    int status = lua_pcall(L, 2, 1, 0);
    int code = EXIT_FAILURE;
    if (status == LUA_OK) {
        code = (int)lua_tointeger(L, -1);
    } else {
        const char *message = lua_tostring(L, -1);
        if (!message)
            message = "error object is not a string";
        fprintf(stderr, "%s%s\n", strncmp(message, PREFIX, strlen(PREFIX)) == 0 ? "" : PREFIX,
                message);
    }
    lua_close(L);
    return code;
}
