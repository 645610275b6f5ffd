/* SPDX-License-Identifier: MIT
 *
 * lmodules.h - the library's own Lua modules, compiled: what tools/embed.c writes.
 */
#ifndef LMODULES_H
#define LMODULES_H

#include <lua.h>
#include <stddef.h>

/* One of them: where its code lies. Numbers and no pointers, which would have to be relocated. */
struct lmpe_embedded {
    char name[48]; /* "mpengine.co.tasks" */
    unsigned from, size;
};

extern const struct lmpe_embedded lmpe_modules[]; /* the last one has no name */
extern const unsigned char lmpe_modules_code[];

/* The globals of the modules: a copy of what there is now. */
void lmpe_copy_globals(lua_State *L);
void lmpe_push_globals(lua_State *L);
int lmpe_is_library_env(lua_State *L, int idx);

#endif
