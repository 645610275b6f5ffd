/* SPDX-License-Identifier: MIT
 *
 * lsite.h - places in the script: where tasks were spawned, and errors at the script's line.
 */
#ifndef LMPE_SITE_H
#define LMPE_SITE_H

#include "base/lmpe.h"

/* Where spawn was called, with the function at index 1 and its arguments behind it, as a number, 0:
 * there is no room; pushes it as lines "\n\tscript.lua:2: in function 'f'". */
uint32_t lmpe_site_here(lua_State *L, lmpe *S);
int lmpe_push_site(lua_State *L, lmpe *S, uint32_t site);
/* Pushes the name of the function, or nil. */
void lmpe_push_site_name(lua_State *L, uint32_t site);
/* lname.c: pushes the name of the function at an index, as its caller knows it at that level: of a
 * global, a field, a local variable: 1; else "script:line": 0. */
int lmpe_push_function_name(lua_State *L, int f, int level);
/* luaL_error with the innermost line of the script, for functions that Lua code of ours calls. */
int lmpe_script_error(lua_State *L, lmpe *S, const char *format, ...);

#endif
