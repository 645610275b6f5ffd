/* SPDX-License-Identifier: MIT
 *
 * lopen.h - what the files beside the rooms share.
 */
#ifndef LOPEN_H
#define LOPEN_H

#include "base/lmpe.h"

/* Closes the library in a state that goes on: its calls raise. Nothing when it is closed. */
void lmpe_close_state(lua_State *L, lmpe *S);
/* The engine that a host gave to this state, or NULL; raises when it is closed: lembed.c. */
mpe_engine *lmpe_host_engine(lua_State *L);
/* The module, for hosts: leaves the core table on the stack. */
MPE_API int luaopen_mpengine_core(lua_State *L);

#endif
