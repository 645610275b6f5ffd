/* SPDX-License-Identifier: MIT
 *
 * ldict.h - shared by the files of dicts: ldict.c has the type and single entries, ldict_key.c
 * the keys, ldict_modify.c modify, ldict_all.c operations on all entries.
 */
#ifndef LMPE_DICT_H
#define LMPE_DICT_H

#include "shared/lbytes.h"

/* ---- keys ---- */

#define LMPE_KEY_INLINE 96
#define LMPE_KEY_MUST "%s: key must be a string, a number or a boolean, got %s"

typedef struct lmpe_dict_key {
    mpe_bytes bytes;
    uint8_t small[LMPE_KEY_INLINE];
} lmpe_dict_key;

/* The bytes of the key at idx; 0 when it cannot be one. Those of a long string are pushed, so
 * that the stack owns them. */
int lmpe_dict_to_key(lua_State *L, int idx, lmpe_dict_key *k);
/* The same, raising; call is how the message begins. */
void lmpe_dict_check_key(lua_State *L, int idx, lmpe_dict_key *k, const char *call);
/* The text about a value that cannot be a key, for a message. */
const char *lmpe_dict_bad_key(lua_State *L, int idx);
/* Pushes the key of these bytes; raises when they are none. */
void lmpe_dict_push_key(lua_State *L, const uint8_t *p, size_t n);

/* ---- methods ---- */

int lmpe_dict_modify(lua_State *L);
int lmpe_dict_keys(lua_State *L);
int lmpe_dict_values(lua_State *L);
int lmpe_dict_items(lua_State *L);
int lmpe_dict_copy(lua_State *L);
int lmpe_dict_pairs(lua_State *L);
int lmpe_dict_update(lua_State *L);
/* Puts the entries of the table or dict at idx. */
void lmpe_dict_update_from(lua_State *L, lmpe_box *b, int idx, const char *call);

#endif
