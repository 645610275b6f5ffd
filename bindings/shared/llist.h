/* SPDX-License-Identifier: MIT
 *
 * llist.h - shared by the files of mp.List.
 */
#ifndef LLIST_H
#define LLIST_H

#include "shared/lbytes.h"

/* A fresh snapshot of the list in the store's buffer; how many items it has. */
uint64_t lmpe_list_snapshot(lua_State *L, lmpe_store *s, uint64_t *version);
/* Pushes a table with the items of the snapshot. */
void lmpe_list_push_items(lua_State *L, lmpe_store *s, uint64_t count);

/* llist_order.c: methods. */
int lmpe_list_sort(lua_State *L);
int lmpe_list_reverse(lua_State *L);

#endif
