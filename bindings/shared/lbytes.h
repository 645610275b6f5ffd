/* SPDX-License-Identifier: MIT
 *
 * lbytes.h - shared by dicts and lists: values between Lua and the bytes that the engine stores.
 */
#ifndef LMPE_STORE_H
#define LMPE_STORE_H

#include "base/lobject.h"

/* A C program may store any bytes. */
#define LMPE_NOT_ONE_VALUE "damaged data: the bytes stored there are not one value"

/* The upvalue with the methods, in an __index or __newindex set by lmpe_store_accessors. */
#define LMPE_METHODS lua_upvalueindex(3)

/* One access to an object, on the C stack: bytes copied out of it or about to be stored, and the
 * mark from which their objects are pinned. Opened, then closed by lmpe_store_value, _call or
 * _close. */
typedef struct lmpe_store {
    lmpe *S;
    mpe_object *o;
    const char *call; /* for messages */
    uint32_t pins;
    int handles; /* the bytes encoded so far hold some */
    mpe_buf buf;
    mpe_buf key;
} lmpe_store;

void lmpe_store_open(lmpe_store *s, lmpe_box *b, const char *call);
void lmpe_store_close(lmpe_store *s);
/* Has it nothing to free? Then a call may raise. */
static inline int
lmpe_store_is_small(lmpe_store *s)
{
    return s->buf.data == s->buf.small && mpe_pin_mark(s->S->e) == s->pins;
}
/* Pushes the one value in buf, and closes. */
int lmpe_store_value(lua_State *L, lmpe_store *s);
/* Calls f with the store and the n values on top, protected; closes in any case; leaves the
 * results. */
int lmpe_store_call(lua_State *L, lmpe_store *s, lua_CFunction f, int n, int nresults);

/* Inside such a call: the store; an error with the position of the script; a status that is one. */
lmpe_store *lmpe_store_of(lua_State *L);
int lmpe_store_error(lua_State *L, const char *format, ...);
void lmpe_store_check(lua_State *L, lmpe_store *s, int status);
/* Inside such a call: appends the value at idx, called root in an error; gives its size. */
size_t lmpe_store_encode(lua_State *L, lmpe_store *s, int idx, const char *root);
/* Inside such a call: pushes the value in bytes. */
void lmpe_store_decode(lua_State *L, const void *bytes, size_t size);

/* Sets __index and __newindex of a type of this core table. */
void lmpe_store_accessors(lua_State *L, lmpe *S, const char *name, lua_CFunction index,
                          lua_CFunction newindex);
/* The type of the value at idx as messages name it: mp.List. May push. */
const char *lmpe_type_name(lua_State *L, int idx);
/* True for a value with elements 1..n: a table, or a shared array or list. */
int lmpe_is_list(lua_State *L, int idx);

/* The receiver of a metamethod, without looking at its metatable: a box of this state is
 * recognized by its size and the state it names. */
static inline lmpe_box *
lmpe_receiver(lua_State *L, int kind)
{
    lmpe_box *b = lua_touserdata(L, 1);
    if (b && lua_rawlen(L, 1) == sizeof *b && b->S == lmpe_self(L) && b->o &&
        mpe_handle_kind(b->h) == kind)
        return b;
    return lmpe_check_self(L, 1);
}

#endif
