/* SPDX-License-Identifier: MIT
 *
 * lhttp.h - shared by lhttp.c, lhttp_session.c and lconnect.c.
 */
#ifndef LMPE_LHTTP_H
#define LMPE_LHTTP_H

#include "io/lcurl.h"

#define LMPE_COOKIES "mpengine.cookies"
#define LMPE_CONNECTIONS "mpengine.connections"

/* The functions of libcurl; raises when there are none. */
const lmpe_curl_api *lmpe_check_curl(lua_State *L);
/* The arguments (connections, options) of a call that starts a transfer: moves the options to 1 and the
 * connections to 2, and gives these, and the deadline that the timeout of the options makes. */
lmpe_connections *lmpe_transfer_arguments(lua_State *L, uint64_t *deadline);
/* Pushes nil and the reason why a transfer that is done has failed; returns 2. */
int lmpe_transfer_failure(lua_State *L, const lmpe_curl_api *curl, const lmpe_transfer *t);
/* The metatable of a userdata that is closed by its scope and when it is collected. */
void lmpe_http_kind(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction close,
                    lua_CFunction gc);
void lmpe_open_http_session(lua_State *L, lmpe *S);

#endif
