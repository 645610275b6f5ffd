/* SPDX-License-Identifier: MIT
 *
 * llabel.h - names of shared objects, the places where they were made, and constructors that take
 * a table of fields.
 */
#ifndef LMPE_LABEL_H
#define LMPE_LABEL_H

#include "base/lmpe.h"

/* The arguments of a constructor, which may be one table of fields instead, the name among them:
 * leaves the values of the fields (a NULL ends the list) at 1 to n and the name, or nil, at n + 1. */
void lmpe_take_fields(lua_State *L, const char *call, const char *const *fields);
/* The same for a constructor whose first argument is a table of contents: the second may be a table
 * of fields, of which there is the name only. Leaves the contents at 1 and the name at 2. */
void lmpe_take_name(lua_State *L, const char *call);
/* Labels a new object with the name at that index, nil: none, and the line of the script that runs.
 * Errors: those of mpe_object_label. */
int lmpe_label(lua_State *L, lmpe *S, mpe_object *o, int name);
/* The number of the innermost line of the script, of mpe_place_note; 0: there is none. */
uint32_t lmpe_place_here(lua_State *L, lmpe *S);
/* Pushes bytes as a text for people: printable UTF-8 as it is, all else escaped as in C. */
void lmpe_push_escaped(lua_State *L, const char *bytes, size_t size);

#endif
