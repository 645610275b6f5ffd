/* SPDX-License-Identifier: MIT
 *
 * larray.h - shared by the files of arrays: larray.c has the types, larray_bulk.c the methods
 * that take many elements, larray_view.c views and rows, larray_math.c the calculations,
 * larray_new.c the constructors.
 */
#ifndef LMPE_ARRAY_H
#define LMPE_ARRAY_H

#include "shared/larray_element.h"
#include "shared/lbytes.h"
#include "shared/lstruct.h"

#define LMPE_ARRAY_KINDS                                                                           \
    (1u << MPE_KIND_ARRAY | 1u << MPE_KIND_VALUE | 1u << MPE_KIND_RAW_ARRAY |                      \
     1u << MPE_KIND_RAW_VALUE)

/* The data of an array or a view. */
typedef struct lmpe_array {
    const lmpe_element *type;
    uint8_t *data;
    uint64_t length;
    int64_t stride; /* bytes from an element to the next */
} lmpe_array;

/* Of an array that is no view. */
static inline lmpe_array
lmpe_array_of(const lmpe_box *b)
{
    const lmpe_element *t = lmpe_element_of_box(b);
    return (lmpe_array){t, b->data, b->length, t->size};
}

/* Of a view. */
lmpe_array lmpe_array_of_view(const lmpe_box *b);

/* Of both. */
static inline lmpe_array
lmpe_array_look(const lmpe_box *b)
{
    return mpe_handle_kind(b->h) == MPE_KIND_ARRAY_VIEW ? lmpe_array_of_view(b) : lmpe_array_of(b);
}

static inline int
lmpe_array_is_dense(const lmpe_array *a)
{
    return a->stride == a->type->size;
}

static inline uint8_t *
lmpe_array_at(const lmpe_array *a, uint64_t index)
{
    return a->data + (int64_t)(index - 1) * a->stride;
}

/* Pushes an element of the array at idx: a number, a text, or a reference. */
static inline void
lmpe_array_push(lua_State *L, int idx, const lmpe_array *a, void *element)
{
    if (a->type->kind == LMPE_STRUCT)
        lmpe_struct_push_ref(L, idx, lmpe_struct_of(a->type), element);
    else
        lmpe_element_push(L, a->type, element);
}

/* An integer argument; one that is absent, when that is allowed. */
lua_Integer lmpe_array_integer(lua_State *L, int idx, const char *call, const char *name);
lua_Integer lmpe_array_opt_integer(lua_State *L, int idx, lua_Integer absent, const char *call,
                                   const char *name);

/* Raises for the value at idx, which does not fit element i. */
int lmpe_array_refuse(lua_State *L, int idx, const lmpe_array *a, const char *call, lua_Integer i);

/* Stores the value at idx in element i of the array at 1; a tail call. */
static inline int
lmpe_array_put(lua_State *L, int idx, const lmpe_array *a, uint64_t i, const char *call)
{
    uint64_t bits;
    if (a->type->kind == LMPE_STRUCT)
        return lmpe_struct_write(
            L, &(lmpe_struct_place){.box = 1, .index = i - 1, .t = lmpe_struct_of(a->type)}, idx,
            &(lmpe_where){.call = call, .element = (lua_Integer)i});
    if (!lmpe_element_from(L, idx, a->type, &bits))
        return lmpe_array_refuse(L, idx, a, call, (lua_Integer)i);
    lmpe_element_store(a->type, lmpe_array_at(a, i), bits);
    return 0;
}

/* Converts elements 1 to n of the list at idx to private memory; raises for one that does not fit. */
void lmpe_array_convert(lua_State *L, int idx, const lmpe_array *a, void *to, size_t n,
                        const char *call);
/* Pushes the type for a message: 'd', or the fields of a struct. */
const char *lmpe_element_text(lua_State *L, const lmpe_element *t);
/* Raises when elements of that type are no numbers. */
void lmpe_array_check_numbers(lua_State *L, const lmpe_element *t, const char *call);

/* Methods. */
int lmpe_array_totable(lua_State *L);
int lmpe_array_string(lua_State *L);
int lmpe_array_set(lua_State *L);
int lmpe_array_set_string(lua_State *L);
int lmpe_array_fill(lua_State *L);
int lmpe_array_view(lua_State *L);
int lmpe_array_field(lua_State *L);
int lmpe_array_reshape(lua_State *L);
int lmpe_array_shape(lua_State *L);
int lmpe_array_row(lua_State *L);
int lmpe_array_column(lua_State *L);
int lmpe_array_get(lua_State *L);
int lmpe_array_set_cell(lua_State *L); /* a:set(i, j, v) */
int lmpe_array_sum(lua_State *L);
int lmpe_array_min(lua_State *L);
int lmpe_array_max(lua_State *L);
int lmpe_array_dot(lua_State *L);
int lmpe_array_scale(lua_State *L);
int lmpe_array_axpy(lua_State *L);

/* Constructors. */
int lmpe_new_array(lua_State *L);
int lmpe_new_raw_array(lua_State *L);
int lmpe_new_value(lua_State *L);
int lmpe_new_raw_value(lua_State *L);

#endif
