/* SPDX-License-Identifier: MIT
 *
 * lobject.h - the userdata of shared objects, and shared memory from the collector's point of
 * view.
 */
#ifndef LMPE_OBJECT_H
#define LMPE_OBJECT_H

#include "base/lmpe.h"

/* The userdata of every shared object. */
typedef struct lmpe_box {
    const void *tag; /* &lmpe_box_tag: no other userdata begins with it */
    mpe_object *o;   /* held; NULL when never acquired */
    mpe_handle h;
    lmpe *S;
    uint32_t extra;  /* the type's own; of an array its type code, or what lstruct.h says */
    void *data;      /* the elements of an array, where they stay as long as it is held;
                      * of a condition the box of its lock, once known */
    uint64_t length; /* how many there are; 0 when it is not held */
} lmpe_box;

/* Pushes the userdata for an object this call holds; takes the hold, also on an error. */
int lmpe_push_object(lua_State *L, lmpe *S, mpe_object *o, mpe_handle h);
/* Pushes the userdata for a handle, holding it. Errors: ESTALE. */
int lmpe_push_handle(lua_State *L, lmpe *S, mpe_handle h);
/* The result of a create call: pushes *o, labelled with the name at an index, nil: none; or raises
 * for its status. A pointer, so that both may be arguments of one call. */
int lmpe_created(lua_State *L, lmpe *S, int status, mpe_object *const *o, const char *function,
                 int name);
/* Functions of a kind for events of its boxes; each may be NULL. */
typedef struct lmpe_box_calls {
    void (*held)(lua_State *L, lmpe_box *b); /* it holds its object from now on */
    void (*arrived)(lmpe_box *b);            /* it has arrived with a message */
    void (*collected)(lmpe_box *b);          /* it is collected, and still holds its object */
} lmpe_box_calls;
typedef struct lmpe_type {
    int kind;
    const luaL_Reg *methods, *meta;
    const lmpe_box_calls *calls; /* NULL: none */
    const char *suffix;          /* after the name, of a second kind of that name; NULL: none */
} lmpe_type;
/* Makes the metatable of a kind, and stores it under the kind's name in the table on top. */
void lmpe_new_type(lua_State *L, lmpe *S, const lmpe_type *type);
/* Registers functions that create objects, under their public names, into the table `makers` of the
 * core module on top. */
void lmpe_set_makers(lua_State *L, lmpe *S, const luaL_Reg *makers);
/* The box on top has arrived with a message. */
void lmpe_box_arrived(lmpe_box *b);
/* The object at idx, of the type whose metatable is upvalue 2. */
lmpe_box *lmpe_check_self(lua_State *L, int idx);
extern const char lmpe_box_tag;
/* Recently checked boxes, by address; they are removed when they are collected. The tag may be
 * read only in a userdata that is large enough, and asking Lua for its size each time would take
 * longer than the rest of the check. */
#define LMPE_CHECKED 8
extern _Thread_local const void *lmpe_checked[LMPE_CHECKED];
static inline const void **
lmpe_checked_at(const void *box)
{
    return &lmpe_checked[(uintptr_t)box / 64 % LMPE_CHECKED];
}
/* Is the userdata b at idx a box? Then lmpe_checked has it from now on. */
int lmpe_remember_checked(lua_State *L, int idx, const lmpe_box *b);
/* The same for methods that are called often: kinds is a set of 1 << kind. */
static inline lmpe_box *
lmpe_check_kinds(lua_State *L, int idx, uint32_t kinds)
{
    lmpe_box *b = lua_touserdata(L, idx);
    if (b && (*lmpe_checked_at(b) == b || lmpe_remember_checked(L, idx, b)) &&
        b->tag == &lmpe_box_tag && b->o && kinds >> mpe_handle_kind(b->h) & 1)
        return b;
    return lmpe_check_self(L, idx); /* raises */
}
/* A shared object of any kind at idx, or NULL. */
lmpe_box *lmpe_test_any(lua_State *L, int idx);
lmpe_box *lmpe_check_kind(lua_State *L, int idx, int kind);
/* "mp.Lock: 0x2a40 'name'", the first part of its description, for __tostring. */
void lmpe_push_identity(lua_State *L, lmpe_box *b);

/* ---- shared memory and the collector: lmemory.c ---- */

/* Tells the collector by how much the arena has grown since the last time. */
void lmpe_weigh_growth(lua_State *L, lmpe *S);
/* Frees the memory of objects that nothing refers to. 0 when it cannot be done here. */
int lmpe_collect(lua_State *L, lmpe *S);
/* The status of a call that takes shared memory: 1 when the call must be made once more, since
 * there may be more memory now. tries is 0 before the first. */
static inline int
lmpe_try_again(lua_State *L, lmpe *S, int status, int *tries)
{
    return status == MPE_EARENA && (*tries)++ == 0 && lmpe_collect(L, S);
}

#endif
