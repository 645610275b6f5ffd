/* SPDX-License-Identifier: MIT
 *
 * lmodules.h - the library's own Lua modules: their code, as tools/embed.c writes it, how
 * require finds them, their entries in package.loaded and the globals, and which of their
 * functions C calls.
 */
#ifndef LMODULES_H
#define LMODULES_H

#include <lua.h>
#include <stddef.h>

/* One of them: the place of its code. Numbers and no pointers, which would have to be relocated. */
struct lmpe_embedded {
    char name[48]; /* "mpengine.co.tasks" */
    unsigned from, size;
};

extern const struct lmpe_embedded lmpe_modules[]; /* the last one has no name */
extern const unsigned char lmpe_modules_code[];

/* The globals of the modules: a copy of the present ones. */
void lmpe_copy_globals(lua_State *L);
/* Pushes them; returns whether they are new, and still empty. */
int lmpe_push_globals(lua_State *L);
int lmpe_is_library_env(lua_State *L, int idx);

#define LMPE_LIBRARY "=mpengine/" /* the prefix of the sources of our own Lua code */
/* Is this the source of our own Lua code? */
int lmpe_is_library(const char *source);
/* Lets require find the modules in this state; a second call does nothing. */
void lmpe_add_modules(lua_State *L);
/* Pops a value and stores it as package.loaded[name]; the same for a function that replaces a
 * global one. If a script removes it, it is restored when the script requires the library again. */
void lmpe_set_loaded(lua_State *L, const char *name);
void lmpe_set_global(lua_State *L, const char *name);
/* Pushes the table of the modules that are loaded, by their names. */
void lmpe_push_modules(lua_State *L);
/* Pushes the table of the functions that C calls in Lua; mpengine/hooks.lua describes each. */
void lmpe_push_hooks(lua_State *L);
/* Pushes one of them: 1; or nil, as long as its module is not loaded: 0. */
int lmpe_push_hook(lua_State *L, const char *name);
/* Pushes the module of that name if it is loaded: it is required again. */
int lmpe_push_known(lua_State *L, const char *name);
/* The same, with mpengine.core, which open_core opens. */
void lmpe_preload(lua_State *L, lua_CFunction open_core);
/* Inserts a searcher after that of package.preload. */
void lmpe_add_searcher(lua_State *L, lua_CFunction f);

#endif
