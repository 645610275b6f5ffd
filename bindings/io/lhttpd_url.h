/* SPDX-License-Identifier: MIT
 *
 * lhttpd_url.h - the parts of the target of a request.
 */
#ifndef LMPE_LHTTPD_URL_H
#define LMPE_LHTTPD_URL_H

#include <lua.h>

/* Pushes its path, decoded: "/a%20b?c" -> "/a b". */
void lmpe_push_path(lua_State *L, const char *target);
/* Adds a field to a table: the name and the value are on top of it, and popped. A further value of a
 * name makes a list of them. */
void lmpe_add_field(lua_State *L);
/* query(target) -> its fields, decoded, by name; several of one name are a list */
int lmpe_query(lua_State *L);

#endif
