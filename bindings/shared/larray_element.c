/* SPDX-License-Identifier: MIT
 *
 * larray_element.c - conversions between Lua values and the elements of arrays, by one table.
 *
 * Nothing is ever rounded or cut silently, except to the precision of a float. L and Q take a Lua
 * integer as it is, a negative one as its two's complement.
 */
#include "shared/larray_element.h"

#include <limits.h>
#include <math.h>
#include <string.h>
#include <wchar.h>

/* C types whose width depends on the platform get the row of their width. */
#define WIDTH(type) (8 * sizeof(type))
#define CLASS(type, of_8_bits) ((of_8_bits) + 2 * (__builtin_ctz(sizeof(type))))
#define INTEGER(c, type, text)                                                                     \
    {                                                                                              \
        (c), CLASS(type, LMPE_INT8), 64 - WIDTH(type), sizeof(type),                               \
            (int64_t)(UINT64_MAX << (WIDTH(type) - 1)), UINT64_MAX >> (65 - WIDTH(type)),          \
            "an integer in the range " text                                                        \
    }
#define NATURAL(c, type, text)                                                                     \
    {                                                                                              \
        (c), CLASS(type, LMPE_UINT8), 64 - WIDTH(type), sizeof(type),                              \
            WIDTH(type) == 64 ? INT64_MIN : 0, UINT64_MAX >> (64 - WIDTH(type)),                   \
            "an integer in the range " text                                                        \
    }
#define RANGE_32 "-2147483648 to 2147483647"
#define RANGE_64 "-9223372036854775808 to 9223372036854775807"
#define RANGE_U32 "0 to 4294967295"
#define RANGE_U64 "0 to 18446744073709551615 (from 2^63 on as its two's complement)"

#if LONG_MAX == INT64_MAX
#define RANGE_LONG RANGE_64
#define RANGE_ULONG RANGE_U64
#else
#define RANGE_LONG RANGE_32
#define RANGE_ULONG RANGE_U32
#endif

_Static_assert(sizeof(wchar_t) == 4 && sizeof(int) == 4 && sizeof(long long) == 8, "the ranges");

const lmpe_element lmpe_elements[128] = {
    ['c'] = {'c', LMPE_CHAR, 0, 1, 0, 0, "a string of 1 byte"},
    ['u'] = {'u', LMPE_WIDE, 0, 4, 0, 0, "a string of one UTF-8 code point"},
    ['b'] = INTEGER('b', signed char, "-128 to 127"),
    ['B'] = NATURAL('B', unsigned char, "0 to 255"),
    ['h'] = INTEGER('h', short, "-32768 to 32767"),
    ['H'] = NATURAL('H', unsigned short, "0 to 65535"),
    ['i'] = INTEGER('i', int, RANGE_32),
    ['I'] = NATURAL('I', unsigned, RANGE_U32),
    ['l'] = INTEGER('l', long, RANGE_LONG),
    ['L'] = NATURAL('L', unsigned long, RANGE_ULONG),
    ['q'] = INTEGER('q', long long, RANGE_64),
    ['Q'] = NATURAL('Q', unsigned long long, RANGE_U64),
    ['f'] = {'f', LMPE_FLOAT, 0, 4, 0, 0, "a number in the range -3.4028235e38 to 3.4028235e38"},
    ['d'] = {'d', LMPE_DOUBLE, 0, 8, 0, 0, "a number"},
};

/* ---- bits ---- */

static uint64_t
bits_of_double(double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

static double
double_of(uint64_t bits)
{
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static uint64_t
bits_of_float(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

static float
float_of(uint64_t bits)
{
    uint32_t low = (uint32_t)bits;
    float v;
    memcpy(&v, &low, sizeof v);
    return v;
}

static int
is_signed(const lmpe_element *t)
{
    return t->kind < LMPE_FLOAT && !(t->kind & 1);
}

static int64_t
signed_of(const lmpe_element *t, uint64_t bits)
{
    return (int64_t)(bits << t->shift) >> t->shift;
}

int
lmpe_element_exchange(const lmpe_element *t, void *p, uint64_t *seen, uint64_t bits)
{
    int done;
    switch (t->size) {
    case 1: {
        uint8_t was = (uint8_t)*seen;
        done = atomic_compare_exchange_strong((_Atomic uint8_t *)p, &was, (uint8_t)bits);
        *seen = was;
        return done;
    }
    case 2: {
        uint16_t was = (uint16_t)*seen;
        done = atomic_compare_exchange_strong((_Atomic uint16_t *)p, &was, (uint16_t)bits);
        *seen = was;
        return done;
    }
    case 4: {
        uint32_t was = (uint32_t)*seen;
        done = atomic_compare_exchange_strong((_Atomic uint32_t *)p, &was, (uint32_t)bits);
        *seen = was;
        return done;
    }
    default:
        return atomic_compare_exchange_strong((_Atomic uint64_t *)p, seen, bits);
    }
}

/* ---- UTF-8 ---- */

size_t
lmpe_utf8_decode(const char *s, size_t n, uint32_t *code)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *p = (const unsigned char *)s;
    size_t size = n == 0        ? 0
                  : p[0] < 0x80 ? 1
                  : p[0] < 0xc2 ? 0
                  : p[0] < 0xe0 ? 2
                  : p[0] < 0xf0 ? 3
                  : p[0] < 0xf5 ? 4
                                : 0;
    if (size == 0 || size > n)
        return 0;
    uint32_t c = size == 1 ? p[0] : p[0] & (0x7fu >> size);
    for (size_t i = 1; i < size; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3f);
    }
    if (c < least[size] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return 0;
    *code = c;
    return size;
}

/* ---- Lua values ---- */

void
lmpe_push_wide(lua_State *L, const void *p)
{
    uint32_t code = LMPE_LOAD(uint32_t, p);
    if (code > 0x7fffffff) /* not stored by a script */
        code = 0xfffd;
    if (code == 0)
        lua_pushlstring(L, "", 1);
    else
        lua_pushfstring(L, "%U", (long)code);
}

void
lmpe_element_push_bits(lua_State *L, const lmpe_element *t, uint64_t bits)
{
    uint64_t element;
    lmpe_element_store(t, &element, bits);
    lmpe_element_push(L, t, &element);
}

static int
integer_from(lua_State *L, int idx, const lmpe_element *t, uint64_t *bits)
{
    int whole;
    lua_Integer v = lua_tointegerx(L, idx, &whole);
    if (!whole) { /* a float of 2^63 and more may fit too */
        lua_Number f = lua_tonumber(L, idx);
        if (t->max != UINT64_MAX || !(f >= 0x1p63 && f < 0x1p64))
            return 0;
        *bits = (uint64_t)f;
        return 1;
    }
    if (v < t->min || (v > 0 && (uint64_t)v > t->max))
        return 0;
    *bits = (uint64_t)v;
    return 1;
}

static int
float_from(lua_Number v, uint64_t *bits)
{
    float f = (float)v;
    if (isinf(f) && !isinf(v))
        return 0;
    *bits = bits_of_float(f);
    return 1;
}

static int
text_from(lua_State *L, int idx, const lmpe_element *t, uint64_t *bits)
{
    size_t n;
    uint32_t code;
    const char *s = lua_tolstring(L, idx, &n);
    if (t->kind == LMPE_CHAR) {
        *bits = n == 1 ? (unsigned char)s[0] : 0;
        return n == 1;
    }
    if (n == 0 || lmpe_utf8_decode(s, n, &code) != n)
        return 0;
    *bits = code;
    return 1;
}

/* The value at idx, which is of that Lua type. */
static inline int
value_from(lua_State *L, int idx, int type, const lmpe_element *t, uint64_t *bits)
{
    if (t->kind >= LMPE_CHAR)
        return type == LUA_TSTRING && text_from(L, idx, t, bits);
    if (type != LUA_TNUMBER)
        return 0;
    if (t->kind < LMPE_FLOAT)
        return integer_from(L, idx, t, bits);
    if (t->kind == LMPE_FLOAT)
        return float_from(lua_tonumber(L, idx), bits);
    *bits = bits_of_double(lua_tonumber(L, idx));
    return 1;
}

int
lmpe_element_from(lua_State *L, int idx, const lmpe_element *t, uint64_t *bits)
{
    return value_from(L, idx, lua_type(L, idx), t, bits);
}

int
lmpe_element_refuse(lua_State *L, int idx, const lmpe_element *t, const char *what)
{
    int type = lua_type(L, idx);
    if (type == LUA_TNUMBER)
        luaL_tolstring(L, idx, NULL);
    else if (type == LUA_TSTRING)
        lua_pushfstring(L, "a string of %I bytes", (lua_Integer)lua_rawlen(L, idx));
    else
        lua_pushstring(L, luaL_typename(L, idx));
    return luaL_error(L, "%s of type '%c' must be %s, got %s", what, t->code, t->must,
                      lua_tostring(L, -1));
}

int
lmpe_element_sum(const lmpe_element *t, uint64_t bits, lua_Integer i, lua_Number f, uint64_t *sum)
{
    if (t->kind == LMPE_FLOAT)
        return float_from((lua_Number)float_of(bits) + f, sum);
    if (t->kind == LMPE_DOUBLE) {
        *sum = bits_of_double(double_of(bits) + f);
        return 1;
    }
    __int128 v = i, max = (__int128)t->max;
    v += is_signed(t) ? (__int128)signed_of(t, bits) : (__int128)bits;
    if (v > max || v < (is_signed(t) ? t->min : 0))
        return 0;
    *sum = (uint64_t)v;
    return 1;
}

int
lmpe_element_same(const lmpe_element *t, uint64_t a, uint64_t b)
{
    if (t->kind != LMPE_FLOAT && t->kind != LMPE_DOUBLE)
        return (a ^ b) << (64 - 8 * t->size) == 0;
    lua_Number x = t->kind == LMPE_FLOAT ? (lua_Number)float_of(a) : double_of(a);
    lua_Number y = t->kind == LMPE_FLOAT ? (lua_Number)float_of(b) : double_of(b);
    return x == y || (isnan(x) && isnan(y));
}

/* ---- many of them ---- */

void
lmpe_elements_push(lua_State *L, const lmpe_element *t, const void *p, int64_t stride, size_t n)
{
    const uint8_t *from = p;
    lua_createtable(L, n < INT_MAX ? (int)n : INT_MAX, 0);
    for (size_t i = 1; i <= n; i++, from += stride) {
        lmpe_element_push(L, t, from);
        lua_rawseti(L, -2, (lua_Integer)i);
    }
}

void
lmpe_elements_copy(const lmpe_element *t, void *to, int64_t to_stride, const void *from,
                   int64_t from_stride, size_t n)
{
    uint8_t *p = to;
    const uint8_t *q = from;
    for (size_t i = 0; i < n; i++, p += to_stride, q += from_stride)
        lmpe_element_store(t, p, lmpe_element_load(t, q));
}

/* A table without a metatable: no metamethod can run, and the stack is cleared once for many. */
static lua_Integer
read_plain(lua_State *L, int idx, const lmpe_element *t, uint8_t *to, size_t n)
{
    enum { BATCH = 64 };
    int top = lua_gettop(L);
    luaL_checkstack(L, BATCH, NULL);
    for (size_t i = 1; i <= n; i++, to += t->size) {
        uint64_t bits;
        int type = lua_rawgeti(L, idx, (lua_Integer)i), at = top + 1 + (int)((i - 1) % BATCH);
        if (!value_from(L, at, type, t, &bits))
            return (lua_Integer)i;
        lmpe_element_store(t, to, bits);
        if (i % BATCH == 0)
            lua_settop(L, top);
    }
    lua_settop(L, top);
    return 0;
}

lua_Integer
lmpe_elements_from(lua_State *L, int idx, const lmpe_element *t, void *p, size_t n)
{
    uint8_t *to = p;
    if (lua_istable(L, idx) && !lua_getmetatable(L, idx))
        return read_plain(L, idx, t, to, n);
    for (size_t i = 1; i <= n; i++, to += t->size) {
        uint64_t bits;
        lua_geti(L, idx, (lua_Integer)i);
        if (!lmpe_element_from(L, -1, t, &bits))
            return (lua_Integer)i;
        lmpe_element_store(t, to, bits);
        lua_pop(L, 1);
    }
    return 0;
}

/* Stores are of 16 aligned bytes, which every processor supports, and of single elements at the
 * ends. */
void
lmpe_elements_fill(const lmpe_element *t, void *p, size_t n, uint64_t bits)
{
    typedef uint64_t block __attribute__((vector_size(64), aligned(16)));
    size_t bytes = n * t->size, done = 0;
    if (t->size == 1) {
        memset(p, (int)(uint8_t)bits, n);
        return;
    }
    if (t->size < 8)
        bits &= (1ull << 8 * t->size) - 1;
    for (size_t size = t->size; size < 8; size *= 2)
        bits |= bits << 8 * size;
    for (; done < bytes && ((uintptr_t)p + done) % 16 != 0; done += t->size)
        lmpe_element_store(t, (uint8_t *)p + done, bits);
    block pattern = {bits, bits, bits, bits, bits, bits, bits, bits};
    for (; bytes - done >= sizeof pattern; done += sizeof pattern)
        *(block *)((uint8_t *)p + done) = pattern;
    for (; done < bytes; done += t->size)
        lmpe_element_store(t, (uint8_t *)p + done, bits);
}
