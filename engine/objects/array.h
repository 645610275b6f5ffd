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

struct mpe__array_view {
    mpe__a64 array;     /* handle of the array, which the view keeps */
    uint64_t first_off; /* arena offset of the view's first element */
    uint64_t length;
    int64_t step; /* elements of the array from one of the view to the next */
    uint32_t type;
    uint32_t columns; /* 0: one dimension */
};

#endif
