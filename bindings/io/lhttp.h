/* SPDX-License-Identifier: MIT
 *
 * lhttp.h - shared by lhttp.c, lhttp_session.c, lhttp_transfer.c and lconnect.c.
 */
#ifndef LMPE_LHTTP_H
#define LMPE_LHTTP_H

#include "io/lcurl.h"

#define LMPE_COOKIES "mpengine.cookies"
#define LMPE_CONNECTIONS "mpengine.connections"

/* The functions of libcurl; raises when there are none. */
const lmpe_curl_api *lmpe_check_curl(lua_State *L);
/* The string field of the table at index 1, or NULL; it lives as long as the table. */
const char *lmpe_text_field(lua_State *L, const char *name);

/* A userdata for the arguments (connections, options) of a call that starts a transfer: it is pushed, zeroed but
 * for the transfer that it begins with, and has so many user values, of which the last is taken. The options
 * are at 1 then, and the connections at 2. */
void *lmpe_transfer_new(lua_State *L, const char *kind, size_t size, int values);
/* Starts it, with the stack of lmpe_transfer_new; returns 1, or raises. */
int lmpe_transfer_run(lua_State *L, lmpe_transfer *t);
/* The userdata at 1; raises for another kind, and when the engine is closed. */
void *lmpe_transfer_check(lua_State *L, const char *kind);
/* Pushes nil and the reason why a transfer that is done has failed; returns 2. */
int lmpe_transfer_failure(lua_State *L, const lmpe_transfer *t);
/* The metatable of a kind of that size, with its methods and close. */
void lmpe_transfer_kind(lua_State *L, const char *name, size_t size, const luaL_Reg *methods);
/* The metatable of a userdata that is closed by its scope and when it is collected. */
void lmpe_http_kind(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction close,
                    lua_CFunction gc);
void lmpe_open_http_session(lua_State *L, lmpe *S);

#endif
