/* SPDX-License-Identifier: MIT
 *
 * ldescribe.h - what readers are told of tasks: ldescribe.c has the tasks, ldescribe_wait.c what each waits
 * for.
 */
#ifndef LDESCRIBE_H
#define LDESCRIBE_H

#include "task/ltask_int.h"

#define LMPE_DEPENDS 1000 /* tasks that a wait for several is told of */

typedef struct lmpe_description lmpe_description;

/* The number of a text, which is written when it is new. Raises out of memory. */
uint32_t lmpe_describe_text(lmpe_description *d, const char *bytes, size_t size);

enum { LMPE_NO_HOLDER = -1 }; /* a task: it is none of Lua */

/* What a task waits for. */
typedef struct lmpe_wait_told {
    uint64_t object;    /* a shared object; 0: none */
    uint32_t text;      /* else in words; 0: none */
    uint32_t place;     /* where that was made, by mpe_place_note; 0: unknown */
    uint32_t slot;      /* + 1 of the process that goes on first; 0: unknown */
    lua_Integer holder; /* its task, 0: the main one, or LMPE_NO_HOLDER */
    uint32_t depends;   /* so many tasks of this process must all end first */
    uint32_t *numbers;  /* room for LMPE_DEPENDS of them */
} lmpe_wait_told;

/* ldescribe_wait.c: fills in what applies to a waiting task. Raises out of memory. */
void lmpe_describe_wait(lua_State *L, lmpe_description *d, lmpe_task *t, lmpe_wait_told *w);
/* May one more object be asked for its own words? They are made by Lua code, and so few. */
int lmpe_describe_asks(lmpe_description *d);

#endif
