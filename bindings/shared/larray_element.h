/* SPDX-License-Identifier: MIT
 *
 * larray_element.h - the element types of arrays: how a Lua value becomes the bits of an element,
 * and back. An element is handled as its bits in a uint64_t, so that one load, store or
 * compare-and-swap of its width is all that touches shared memory: never torn.
 */
#ifndef LMPE_ARRAY_ELEMENT_H
#define LMPE_ARRAY_ELEMENT_H

#include <lauxlib.h>
#include <lua.h>

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* Integers come first, then numbers, then text. */
enum lmpe_element_class {
    LMPE_INT8,
    LMPE_UINT8,
    LMPE_INT16,
    LMPE_UINT16,
    LMPE_INT32,
    LMPE_UINT32,
    LMPE_INT64,
    LMPE_UINT64,
    LMPE_FLOAT,
    LMPE_DOUBLE,
    LMPE_CHAR,
    LMPE_WIDE,
    LMPE_STRUCT /* of several elements; none of the functions below takes it */
};

typedef struct lmpe_element {
    char code;     /* 0: no such type */
    uint8_t kind;  /* enum lmpe_element_class */
    uint8_t shift; /* integers: that extends the sign */
    uint32_t size;
    int64_t min; /* of the Lua integers it takes */
    uint64_t max;
    const char *must; /* what a value of it must be */
} lmpe_element;

#define LMPE_ELEMENT_CODES "c u b B h H i I l L q Q f d"

extern const lmpe_element lmpe_elements[128];

/* The type of a valid code. */
static inline const lmpe_element *
lmpe_element_of(char code)
{
    return &lmpe_elements[(unsigned char)code & 127];
}

/* ---- shared memory ---- */

static inline uint64_t
lmpe_element_load(const lmpe_element *t, const void *p)
{
    switch (t->size) {
    case 1:
        return atomic_load_explicit((const _Atomic uint8_t *)p, memory_order_acquire);
    case 2:
        return atomic_load_explicit((const _Atomic uint16_t *)p, memory_order_acquire);
    case 4:
        return atomic_load_explicit((const _Atomic uint32_t *)p, memory_order_acquire);
    default:
        return atomic_load_explicit((const _Atomic uint64_t *)p, memory_order_acquire);
    }
}

static inline void
lmpe_element_store(const lmpe_element *t, void *p, uint64_t bits)
{
    switch (t->size) {
    case 1:
        atomic_store_explicit((_Atomic uint8_t *)p, (uint8_t)bits, memory_order_release);
        return;
    case 2:
        atomic_store_explicit((_Atomic uint16_t *)p, (uint16_t)bits, memory_order_release);
        return;
    case 4:
        atomic_store_explicit((_Atomic uint32_t *)p, (uint32_t)bits, memory_order_release);
        return;
    default:
        atomic_store_explicit((_Atomic uint64_t *)p, bits, memory_order_release);
    }
}

/* Stores bits if the element is *seen; else *seen becomes what it is. */
int lmpe_element_exchange(const lmpe_element *t, void *p, uint64_t *seen, uint64_t bits);

/* ---- Lua values ---- */

/* The code point at p, of an array of type u. */
void lmpe_push_wide(lua_State *L, const void *p);

#define LMPE_LOAD(type, p) atomic_load_explicit((const _Atomic type *)(p), memory_order_acquire)

/* Pushes the value of the element at p. */
static inline void
lmpe_element_push(lua_State *L, const lmpe_element *t, const void *p)
{
    switch ((enum lmpe_element_class)t->kind) {
    case LMPE_INT8:
        lua_pushinteger(L, LMPE_LOAD(int8_t, p));
        return;
    case LMPE_UINT8:
        lua_pushinteger(L, LMPE_LOAD(uint8_t, p));
        return;
    case LMPE_INT16:
        lua_pushinteger(L, LMPE_LOAD(int16_t, p));
        return;
    case LMPE_UINT16:
        lua_pushinteger(L, LMPE_LOAD(uint16_t, p));
        return;
    case LMPE_INT32:
        lua_pushinteger(L, LMPE_LOAD(int32_t, p));
        return;
    case LMPE_UINT32:
        lua_pushinteger(L, LMPE_LOAD(uint32_t, p));
        return;
    case LMPE_INT64:
    case LMPE_UINT64:
        lua_pushinteger(L, LMPE_LOAD(int64_t, p));
        return;
    case LMPE_FLOAT:
        lua_pushnumber(L, (lua_Number)LMPE_LOAD(float, p));
        return;
    case LMPE_DOUBLE:
        lua_pushnumber(L, LMPE_LOAD(double, p));
        return;
    case LMPE_CHAR:
        lua_pushlstring(L, &(char){LMPE_LOAD(char, p)}, 1);
        return;
    case LMPE_WIDE:
        lmpe_push_wide(L, p);
        return;
    case LMPE_STRUCT:
        return;
    }
}

/* Pushes the value of bits. */
void lmpe_element_push_bits(lua_State *L, const lmpe_element *t, uint64_t bits);
/* The bits of the value at idx; 0 when it does not fit. */
int lmpe_element_from(lua_State *L, int idx, const lmpe_element *t, uint64_t *bits);
/* Raises for the value at idx, which does not fit; what names the call and the place. */
int lmpe_element_refuse(lua_State *L, int idx, const lmpe_element *t, const char *what);

/* The bits of the sum; 0 when it does not fit. delta fits lmpe_element_delta. */
int lmpe_element_sum(const lmpe_element *t, uint64_t bits, lua_Integer i, lua_Number f,
                     uint64_t *sum);
/* Are two elements the same value? 0.0 is -0.0, NaN is NaN. */
int lmpe_element_same(const lmpe_element *t, uint64_t a, uint64_t b);

/* ---- many of them ---- */

/* Pushes a list of n elements that are stride bytes apart. */
void lmpe_elements_push(lua_State *L, const lmpe_element *t, const void *p, int64_t stride,
                        size_t n);
/* Copies n elements to others, both with bytes from one to the next. */
void lmpe_elements_copy(const lmpe_element *t, void *to, int64_t to_stride, const void *from,
                        int64_t from_stride, size_t n);
/* Elements 1..n of the list at idx to memory that is private. 0, or the index of the first that
 * does not fit, whose value is pushed. May run metamethods. */
lua_Integer lmpe_elements_from(lua_State *L, int idx, const lmpe_element *t, void *p, size_t n);
void lmpe_elements_fill(const lmpe_element *t, void *p, size_t n, uint64_t bits);

/* The code point at s, of at most n bytes: how many bytes it has, 0 when it is no UTF-8. */
size_t lmpe_utf8_decode(const char *s, size_t n, uint32_t *code);

#endif
