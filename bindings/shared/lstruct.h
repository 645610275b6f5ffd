/* SPDX-License-Identifier: MIT
 *
 * lstruct.h - structs as elements of arrays: lstruct.c has the types, lstruct_value.c tables of fields
 * as elements and back, lstruct_whole.c whole elements under the lock of their array, lstruct_ref.c
 * references to elements, which a[i] of such an array is.
 */
#ifndef LMPE_STRUCT_H
#define LMPE_STRUCT_H

#include "base/lobject.h"
#include "shared/larray_element.h"

typedef struct lmpe_field {
    const char *name; /* kept by the type; the text of a Lua string */
    size_t name_size;
    uint32_t offset;
    uint32_t count;           /* elements of an array; 0: it is none */
    const lmpe_element *type; /* that of a struct: it is in this one */
} lmpe_field;

/* A type of structs. There is one for each layout, and it lives as long as the state. */
typedef struct lmpe_struct {
    lmpe_element as; /* its class is LMPE_STRUCT; first, so that it is known by a pointer to this */
    uint32_t number; /* of this type in this state */
    uint32_t align;  /* bytes */
    uint32_t fields_count;
    const char *layout, *text; /* for the engine; for people: "{x: d, name: c[16]}" */
    lmpe_field fields[];
} lmpe_struct;

/* The types of a state, by number. */
struct lmpe_structs {
    uint32_t count, room;
    const lmpe_struct *at[];
};

/* The element type of the box of an array: extra is a type code, or this one with a number. */
static inline const lmpe_element *
lmpe_element_of_box(const lmpe_box *b)
{
    return b->extra < 128 ? lmpe_element_of((char)b->extra)
                          : &b->S->structs->at[(b->extra >> 8) - 1]->as;
}

static inline const lmpe_struct *
lmpe_struct_of(const lmpe_element *t)
{
    return t->kind == LMPE_STRUCT ? (const lmpe_struct *)t : NULL;
}

/* The type of a layout; raises when it is none. */
const lmpe_struct *lmpe_struct_of_layout(lua_State *L, lmpe *S, const char *layout);
/* The type that a Struct or a list of fields at idx is; NULL for other values, also for a list that
 * is empty. A list that does not fit raises for that call. */
const lmpe_struct *lmpe_struct_from(lua_State *L, lmpe *S, int idx, const char *call);
/* Pushes a Struct of that type. */
void lmpe_struct_push_type(lua_State *L, const lmpe_struct *t);
/* What extra of a box is for a type. */
uint32_t lmpe_struct_extra(const lmpe_struct *t);

/* A text field: bytes, without the zeros at the end. */
static inline int
lmpe_field_is_text(const lmpe_field *f)
{
    return f->count > 0 && f->type->kind == LMPE_CHAR;
}

/* The field whose name is the string at idx, NULL: none. */
const lmpe_field *lmpe_field_of(lua_State *L, int idx, const lmpe_struct *t);
/* The same of a path, "x" or "at.x". */
const lmpe_field *lmpe_field_at(lua_State *L, int idx, const lmpe_struct *t);
/* The struct that the field is, NULL: it is a number, a text or an array. */
static inline const lmpe_struct *
lmpe_field_struct(const lmpe_field *f)
{
    return lmpe_struct_of(f->type);
}

static inline size_t
lmpe_field_bytes(const lmpe_field *f)
{
    return (size_t)(f->count ? f->count : 1) * f->type->size;
}

/* Where a value goes, for a message: "Array:set: element 3: field 'at'". */
typedef struct lmpe_where {
    const char *call;
    lua_Integer element;            /* 0: it is said by the call */
    const struct lmpe_where *outer; /* and the field that is the struct: instead of these */
    const lmpe_field *field;
} lmpe_where;
/* Pushes it. */
const char *lmpe_push_where(lua_State *L, const lmpe_where *where);
/* Raises for the key at idx, which no field has. */
int lmpe_field_unknown(lua_State *L, int idx, const lmpe_struct *t, const lmpe_where *where);

/* ---- values: lstruct_value.c. Each raises for a value that does not fit ---- */

/* The table, list or reference at idx to private memory. */
void lmpe_struct_convert(lua_State *L, int idx, const lmpe_struct *t, void *to,
                         const lmpe_where *where);
/* The same for the elements of the list at idx, from 1 to n. */
void lmpe_structs_convert(lua_State *L, int idx, const lmpe_struct *t, void *to, size_t n,
                          const char *call);
/* Of the table at idx the fields that it has: chosen is set for each byte of them. */
void lmpe_struct_convert_some(lua_State *L, int idx, const lmpe_struct *t, void *to,
                              uint8_t *chosen, const lmpe_where *where);
/* Copies n elements to others, with bytes from one to the next; no number is torn. */
void lmpe_structs_copy(const lmpe_struct *t, void *to, int64_t to_stride, const void *from,
                       int64_t from_stride, size_t n);
/* The value at idx to one field of an element in shared memory. */
void lmpe_field_assign(lua_State *L, int idx, const lmpe_field *f, void *element,
                       const lmpe_where *where);
/* Pushes an element as a table, one field, the elements of a field that is an array. */
void lmpe_struct_push(lua_State *L, const lmpe_struct *t, const void *element);
void lmpe_field_push(lua_State *L, const lmpe_field *f, const void *element);

/* ---- whole elements: lstruct_whole.c. Each suspends the task until it has the lock of the array or
 * value at box, and is a tail call ---- */

/* An element of what is at box, or a struct in it. */
typedef struct lmpe_struct_place {
    int box;
    uint64_t index;       /* from 0 on */
    const lmpe_struct *t; /* its type */
    uint32_t offset;      /* in the element */
} lmpe_struct_place;

/* Pushes a table. */
int lmpe_struct_read(lua_State *L, const lmpe_struct_place *from);
/* Writes the value at idx, or the fields that the table at idx has. */
int lmpe_struct_write(lua_State *L, const lmpe_struct_place *to, int idx, const lmpe_where *where);
int lmpe_struct_update(lua_State *L, const lmpe_struct_place *to, int idx, const lmpe_where *where);

/* ---- references: lstruct_ref.c ---- */

/* Pushes a reference to an element of the array whose box is at idx. */
int lmpe_struct_push_ref(lua_State *L, int idx, const lmpe_struct *t, void *element);
/* The struct that the reference at idx is of, when it is one of that type; NULL otherwise. */
const void *lmpe_struct_referred(lua_State *L, int idx, const lmpe_struct *t);

#endif
