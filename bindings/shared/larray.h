/* SPDX-License-Identifier: MIT
 *
 * larray.h - shared by the files of arrays: larray.c has the types, larray_bulk.c the methods
 * that take many elements, larray_new.c the constructors.
 */
#ifndef LMPE_ARRAY_H
#define LMPE_ARRAY_H

#include "shared/larray_element.h"
#include "shared/lbytes.h"

#define LMPE_ARRAY_KINDS                                                                           \
    (1u << MPE_KIND_ARRAY | 1u << MPE_KIND_VALUE | 1u << MPE_KIND_RAW_ARRAY |                      \
     1u << MPE_KIND_RAW_VALUE)

/* The data of an array. */
typedef struct lmpe_array {
    const lmpe_element *type;
    uint8_t *data;
    uint64_t length;
} lmpe_array;

static inline lmpe_array
lmpe_array_of(const lmpe_box *b)
{
    return (lmpe_array){lmpe_element_of((char)b->extra), b->data, b->length};
}

static inline uint8_t *
lmpe_array_at(const lmpe_array *a, uint64_t index)
{
    return a->data + (index - 1) * a->type->size;
}

/* Raises for the value at idx, which does not fit element i. */
int lmpe_array_refuse(lua_State *L, int idx, const lmpe_array *a, const char *call, lua_Integer i);

/* Methods. */
int lmpe_array_totable(lua_State *L);
int lmpe_array_string(lua_State *L);
int lmpe_array_set(lua_State *L);
int lmpe_array_set_string(lua_State *L);
int lmpe_array_fill(lua_State *L);

/* Constructors. */
int lmpe_new_array(lua_State *L);
int lmpe_new_raw_array(lua_State *L);
int lmpe_new_value(lua_State *L);
int lmpe_new_raw_value(lua_State *L);

#endif
