/* SPDX-License-Identifier: MIT
 *
 * lreadline.c - line editing for the interactive mode, by readline or libedit, whichever is
 * installed. The library is opened when it is first needed, so nothing depends on it. Its
 * callback interface takes the available input and returns, so the loop can run between keys.
 */
#include "base/lmpe.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static struct {
    void *library;
    void (*install)(const char *prompt, void (*on_line)(char *line));
    void (*read_char)(void);
    void (*remove)(void);
    void (*add_history)(const char *line);
    char *line;
    int done;
} rl;

static const char *const libraries[] = {"libreadline.so.8", "libreadline.so.7", "libedit.so.2",
                                        "libedit.so.0"};

static void
on_line(char *line)
{
    rl.line = line;
    rl.done = 1;
    rl.remove();
}

static int
find_functions(void)
{
    *(void **)&rl.install = dlsym(rl.library, "rl_callback_handler_install");
    *(void **)&rl.read_char = dlsym(rl.library, "rl_callback_read_char");
    *(void **)&rl.remove = dlsym(rl.library, "rl_callback_handler_remove");
    *(void **)&rl.add_history = dlsym(rl.library, "add_history");
    return rl.install && rl.read_char && rl.remove && rl.add_history;
}

/* readline_open() -> is there line editing? */
static int
readline_open(lua_State *L)
{
    for (size_t i = 0; !rl.library && i < sizeof libraries / sizeof libraries[0]; i++)
        rl.library = dlopen(libraries[i], RTLD_NOW | RTLD_LOCAL);
    int found = rl.library && find_functions();
    if (!found)
        rl.add_history = NULL;
    lua_pushboolean(L, found);
    return 1;
}

/* readline_begin(prompt) */
static int
readline_begin(lua_State *L)
{
    rl.line = NULL;
    rl.done = 0;
    rl.install(luaL_checkstring(L, 1), on_line);
    return 0;
}

/* readline_feed() -> done, line: takes a key; line nil at the end of the input */
static int
readline_feed(lua_State *L)
{
    rl.read_char();
    lua_pushboolean(L, rl.done);
    if (!rl.done || !rl.line)
        return 1;
    lua_pushstring(L, rl.line);
    free(rl.line);
    rl.line = NULL;
    return 2;
}

/* readline_cancel() */
static int
readline_cancel(lua_State *L)
{
    (void)L;
    rl.remove();
    return 0;
}

static int
add_history(lua_State *L)
{
    const char *line = luaL_checkstring(L, 1);
    if (rl.add_history && *line)
        rl.add_history(line);
    return 0;
}

/* is_terminal(fd) */
static int
is_terminal(lua_State *L)
{
    lua_pushboolean(L, isatty((int)luaL_checkinteger(L, 1)));
    return 1;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {
        {"readline_open", readline_open},
        {"readline_begin", readline_begin},
        {"readline_feed", readline_feed},
        {"readline_cancel", readline_cancel},
        {"add_history", add_history},
        {"is_terminal", is_terminal},
        {NULL, NULL},
    };
    lmpe_setfuncs(L, S, functions);
}

const lmpe_module lmpe_readline_module = {.open = on_open};
