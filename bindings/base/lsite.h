/* SPDX-License-Identifier: MIT
 *
 * lsite.h - places in the script: where tasks were spawned, and errors at the script's line.
 */
#ifndef LMPE_SITE_H
#define LMPE_SITE_H

#include "base/lmpe.h"

/* Where spawn was called, as a number; pushes it as lines "\n\tscript.lua:2: in function 'f'". */
uint32_t lmpe_site_here(lua_State *L, lmpe *S);
int lmpe_push_site(lua_State *L, lmpe *S, uint32_t site);
/* luaL_error with the innermost line of the script, for functions that Lua code of ours calls. */
int lmpe_script_error(lua_State *L, lmpe *S, const char *format, ...);

#endif
