/* SPDX-License-Identifier: MIT */
/* The bodies of arrays and of views of them. All fields are written before the object is live, and
 * never change. */
#ifndef MPE_OBJECTS_ARRAY_H
#define MPE_OBJECTS_ARRAY_H

#include "core/engine.h"

struct mpe__array {
    uint64_t length;
    uint32_t type;
    uint32_t columns; /* 0: one dimension */
};
_Static_assert(sizeof(struct mpe__array) == 16, "elements start aligned");

/* Of structs; the elements follow it, their layout the elements, and in an array that has a lock
 * one spare element the layout, on 16 bytes. */
struct mpe__struct_array {
    struct mpe__array head;
    uint32_t size;         /* bytes of an element */
    uint32_t layout_bytes; /* with the zero */
    mpe__a64 pending;      /* arena offset of the element that is to be what the spare one is; 0:
                            * none. Of the owner of the lock, or of its reaper. */
};
_Static_assert(sizeof(struct mpe__struct_array) == 32, "elements start aligned");

struct mpe__array_view {
    mpe__a64 array;     /* handle of the array, which the view keeps */
    uint64_t first_off; /* arena offset of the view's first element */
    uint64_t length;
    int64_t step; /* elements of the array from one of the view to the next */
    uint32_t type;
    uint32_t columns; /* 0: one dimension */
    uint32_t size;    /* bytes of an element */
    uint32_t unused;
    uint64_t layout_off; /* arena offset of the layout, of structs */
};

/* The moves for measuring, of arrays and views, and for the death of a slot. */
void mpe__array_measure(mpe_engine *e, mpe_object *o, uint64_t *depth, uint64_t *bytes);
void mpe__array_death(mpe_engine *e, mpe_object *o, uint32_t slot);
/* Begins an array or value of so many bytes behind its head. Errors: those of mpe__object_begin,
 * and what mpe__refusal says. */
int mpe__array_begin(mpe_engine *e, unsigned flags, uint64_t bytes, mpe_object **out);
/* Makes a view of elements of an array or a view. Errors: EARENA, ENOMEM. */
int mpe__array_view_create(mpe_engine *e, mpe_object *o, const mpe_elements *s, mpe_object **out);

#endif
