/* SPDX-License-Identifier: MIT
 *
 * ldict.h - shared by the files of dicts and caches: ldict.c has the type and single entries of dicts,
 * ldict_key.c the keys, lincrement.c incr, ldict_modify.c modify, ldict_all.c operations on all entries.
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

/* ---- adding to a number: lincrement.c ---- */

typedef struct lmpe_increment {
    int is_integer; /* n; after the edit the sum */
    lua_Integer i;
    lua_Number f;
    int begins; /* an absent key has the value init; else it is ENOENT */
    int init_is_float;
    lua_Integer init_i;
    lua_Number init_f;
    int found; /* kind of an existing value that is not a number */
} lmpe_increment;

/* Reads n at idx, when it is not nil; what names it in a message. */
void lmpe_increment_by(lua_State *L, int idx, lmpe_increment *n, const char *what);
/* A mpe_edit_fn, whose ud is the increment. Under the key's lock: no Lua, no engine. */
int lmpe_increment_edit(const uint8_t *value, size_t size, uint8_t out[16], size_t *out_size,
                        void *ud);
/* Pushes the sum, or raises for the status; the key is at index 2. */
int lmpe_increment_push(lua_State *L, int status, const lmpe_increment *n, const char *call);

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
