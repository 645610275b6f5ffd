/* SPDX-License-Identifier: MIT */
/*
** lcodec_plain.c - plain tables as a message, read in Lua's memory instead of through the Lua
** API.
**
** The API costs three calls for each value, ten times as much as writing it. Most messages are
** plain data (nil, booleans, numbers, strings, tables without metatable), and for those Lua's
** memory is read directly, by the layout in lobject.h. The address of a function's prototype is
** read too. Nothing is ever written to that memory, and no function of Lua is called on the way,
** so nothing moves, is collected or changes. Any value that is not plain ends the attempt:
** lcodec_encode.c starts again. Everything works without this file, only slower.
**
** Three things must agree before it is used:
**
**   the build    `make PLAIN=auto`: the headers are those of a release in TESTED. PLAIN=0: never.
**                PLAIN=1: of any release, for trying a new one
**   the program  the Lua that is linked or loaded says that it is the release of the headers
**   the memory   lmpe_plain_probe makes a few objects under an allocator that records where they
**                are, reading only memory from that allocator, and finds every field used here
**                where it should be
*/
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/lrelease.h"
#include "codec/lcodec_int.h"

/* Values from lobject.h, as far as they are needed. */

enum {
    TT_NIL = 0x00, /* variants in the upper bits: an empty slot, an absent key */
    TT_FALSE = 0x01,
    TT_INT = 0x03,
    TT_SHORT = 0x44,
    TT_TABLE = 0x45,
    TT_TRUE = 0x11,
    TT_FLOAT = 0x13,
    TT_LONG = 0x54
};

union value {
    const void *object;
    int64_t i;
    double f;
};

struct tvalue {
    union value v;
    uint8_t tt;
};

struct node {
    union value v;
    uint8_t tt;
    uint8_t key_tt;
    int next;
    union value key;
};

struct table {
    const void *next;
    uint8_t tt, marked;
    uint8_t flags; /* bit 7: alimit is a hint, the size is the power of two above */
    uint8_t lsizenode;
    uint32_t alimit;
    const struct tvalue *array;
    const struct node *node;
    const struct node *lastfree;
    const struct table *metatable;
    const void *gclist;
};

struct string {
    const void *next;
    uint8_t tt, marked;
    uint8_t extra;
    uint8_t shrlen;
    uint32_t hash;
    size_t lnglen;
    char contents[];
};

struct closure {
    const void *next;
    uint8_t tt, marked;
    uint8_t nupvalues;
    const void *gclist;
    const void *prototype;
};

struct lmpe_plain_frame {
    const struct table *t;
    size_t i;    /* elements, then nodes, that are written */
    size_t narr; /* elements */
    size_t mark;
    size_t npairs;
};

/* The releases that the specs have passed with, each with its own headers: 5.4.2 to 5.4.8, but for
 * 5.4.5, which 5.4.6 replaced at once. */
#define TESTED(release) ((release) >= 50402 && (release) <= 50408 && (release) != 50405)

/* PLAIN of the Makefile. */
#if !defined(LMPE_PLAIN)
#define BUILT_FOR TESTED(LMPE_LUA_RELEASE)
#else
#define BUILT_FOR (LMPE_PLAIN && LUA_VERSION_NUM == 504)
#endif

#define MAY_BE_USABLE                                                                              \
    (BUILT_FOR && sizeof(lua_Integer) == 8 && sizeof(lua_Number) == 8 && sizeof(void *) == 8)

/* Text in every Lua since 5.2 that names its release. Weak: a host may hide it. */
#pragma weak lua_ident

static atomic_int probed;

/* Constant where the build leaves this file out, so that the compiler does too. */
static inline int
usable(void)
{
    return MAY_BE_USABLE && atomic_load_explicit(&probed, memory_order_relaxed);
}

int
lmpe_plain_is_usable(void)
{
    return usable();
}

/* ----------------------------------------------------------------------------- scalars */

static int
put_string(lmpe_encoder *e, const struct string *s, uint8_t tt)
{
    return lmpe_encode_string(e, s->contents, s->contents, tt == TT_SHORT ? s->shrlen : s->lnglen);
}

/* 1; 0 for a value that is not a scalar; ENOMEM. */
static int
put_scalar(lmpe_encoder *e, union value v, uint8_t tt)
{
    mpe_buf *b = e->out;
    uint8_t *p;

    if (tt == TT_SHORT || tt == TT_LONG)
        return put_string(e, v.object, tt) == MPE_OK ? 1 : MPE_ENOMEM;
    p = mpe_buf_room(b, MPE_WIRE_SCALAR_MAX);
    if (p == NULL)
        return MPE_ENOMEM;
    if (tt == TT_INT)
        b->len = (size_t)(mpe_wire_write_int(p, v.i) - b->data);
    else if (tt == TT_FLOAT)
        b->len = (size_t)(mpe_wire_write_float(p, v.f) - b->data);
    else if (tt == TT_FALSE || tt == TT_TRUE)
        b->data[b->len++] = tt == TT_TRUE ? MPE_TAG_TRUE : MPE_TAG_FALSE;
    else if ((tt & 0x0f) == TT_NIL)
        b->data[b->len++] = MPE_TAG_NIL;
    else
        return 0;
    return 1;
}

#define RUN 64

/* Writes the numbers at the start of n values; returns how many there were. */
static size_t
put_numbers(mpe_buf *b, const struct tvalue *v, size_t n)
{
    uint8_t *p;
    size_t i;

    n = n < RUN ? n : RUN;
    p = mpe_buf_room(b, n * MPE_WIRE_SCALAR_MAX);
    if (p == NULL)
        return 0;
    for (i = 0; i < n; i++) {
        if (v[i].tt == TT_INT)
            p = mpe_wire_write_int(p, v[i].v.i);
        else if (v[i].tt == TT_FLOAT)
            p = mpe_wire_write_float(p, v[i].v.f);
        else
            break;
    }
    b->len = (size_t)(p - b->data);
    return i;
}

/* ------------------------------------------------------------------------------- tables */

static size_t
array_size(const struct table *t)
{
    uint64_t n = t->alimit;

    if ((t->flags & 0x80) == 0 || (n & (n - 1)) == 0)
        return n;
    return (size_t)1 << (64 - __builtin_clzll(n));
}

/* Elements up to the last that is not nil. */
static size_t
count_elements(const struct table *t)
{
    size_t n = array_size(t);

    while (n > 0 && (t->array[n - 1].tt & 0x0f) == TT_NIL)
        n--;
    return n;
}

static int
need_frame(lmpe_encoder *e, size_t depth)
{
    size_t cap = e->plain_cap ? e->plain_cap * 2 : 32;
    lmpe_plain_frame *grown;

    if (depth < e->plain_cap)
        return MPE_OK;
    grown = realloc(e->plain, cap * sizeof *grown);
    if (grown == NULL)
        return MPE_ENOMEM;
    e->plain = grown;
    e->plain_cap = cap;
    return MPE_OK;
}

/* Starts a table with a new frame, or refers to it: 1; 0: it is not plain; ENOMEM. */
static int
open_table(lmpe_encoder *e, const struct table *t, size_t *depth)
{
    lmpe_memo_slot *slot = lmpe_memo_find(&e->memo, t);
    lmpe_plain_frame *f;

    if (lmpe_memo_live(&e->memo, slot))
        return lmpe_encode_ref(e, slot) == MPE_OK ? 1 : MPE_ENOMEM;
    if (t->metatable != NULL || t == e->globals || lmpe_names_has(e->names, t))
        return 0;
    if (e->out->len - e->start > INT32_MAX || *depth + e->depth >= LMPE_MAX_DEPTH)
        return 0; /* the slow path reports what is wrong */
    if (lmpe_memo_set(&e->memo, slot, t, e->out->len - e->start) != MPE_OK)
        return MPE_ENOMEM;
    if (need_frame(e, *depth) != MPE_OK)
        return MPE_ENOMEM;
    f = &e->plain[(*depth)++];
    f->t = t;
    f->i = 0;
    f->narr = count_elements(t);
    f->npairs = 0;
    return mpe_wire_begin_table(e->out, f->narr, &f->mark) == MPE_OK ? 1 : MPE_ENOMEM;
}

/* One value; a table opens a frame. */
static int
put_value(lmpe_encoder *e, union value v, uint8_t tt, size_t *depth)
{
    return tt == TT_TABLE ? open_table(e, v.object, depth) : put_scalar(e, v, tt);
}

/* Elements until one opens a frame, or all of them. */
static int
put_elements(lmpe_encoder *e, lmpe_plain_frame *f, size_t *depth)
{
    const struct tvalue *array = f->t->array;
    size_t here = *depth;
    int rc = 1;

    while (rc == 1 && f->i < f->narr) {
        const struct tvalue *v;
        f->i += put_numbers(e->out, array + f->i, f->narr - f->i);
        if (f->i == f->narr)
            break;
        v = &array[f->i++];
        rc = put_value(e, v->v, v->tt, depth);
        if (*depth != here)
            break;
    }
    return rc;
}

/* Pairs until one's value opens a frame, or all of them.  A table as a key is not plain. */
static int
put_pairs(lmpe_encoder *e, lmpe_plain_frame *f, size_t *depth)
{
    const struct node *nodes = f->t->node;
    size_t here = *depth, end = f->narr + ((size_t)1 << f->t->lsizenode);
    int rc = 1;

    while (rc == 1 && f->i < end) {
        const struct node *n = &nodes[f->i++ - f->narr];
        if ((n->tt & 0x0f) == TT_NIL)
            continue;
        f->npairs++;
        rc = put_scalar(e, n->key, n->key_tt);
        if (rc == 1)
            rc = put_value(e, n->v, n->tt, depth);
        if (*depth != here)
            break;
    }
    return rc;
}

int
lmpe_encode_plain(lmpe_encoder *e, const void *table)
{
    size_t depth = 0;
    int rc;

    if (!usable())
        return 0;
    rc = open_table(e, table, &depth);
    while (rc == 1 && depth > 0) {
        lmpe_plain_frame *f = &e->plain[depth - 1];
        size_t here = depth;
        if (f->i < f->narr)
            rc = put_elements(e, f, &depth);
        if (rc == 1 && depth == here)
            rc = put_pairs(e, f, &depth);
        if (rc == 1 && depth == here) {
            depth--;
            rc = mpe_wire_end_table(e->out, f->mark, f->npairs) == MPE_OK ? 1 : MPE_ENOMEM;
        }
    }
    return rc;
}

uint64_t
lmpe_plain_fingerprint(const void *table)
{
    const struct table *t = table;
    uint64_t sum = 1;
    size_t i;

    if (!usable())
        return 0;
    for (i = 0; i < (size_t)1 << t->lsizenode; i++) {
        const struct node *n = &t->node[i];
        if ((n->tt & 0x0f) != TT_NIL)
            sum += ((uint64_t)n->key.i ^ ((uint64_t)n->v.i << 1)) * UINT64_C(0x9e3779b97f4a7c15);
    }
    return sum | 1;
}

const void *
lmpe_plain_prototype(const void *function)
{
    if (!usable())
        return NULL;
    return ((const struct closure *)function)->prototype;
}

/* -------------------------------------------------------------------------------- probe */

#define MAX_BLOCKS 256

/* The blocks that the allocator returned while the probe ran. */
struct blocks {
    lua_Alloc alloc;
    void *ud;
    size_t n;
    struct {
        const void *at;
        size_t size;
    } block[MAX_BLOCKS];
};

static void *
noting_alloc(void *ud, void *block, size_t old_size, size_t new_size)
{
    struct blocks *b = ud;
    void *p = b->alloc(b->ud, block, old_size, new_size);

    if (p != NULL && new_size > 0 && b->n < MAX_BLOCKS) {
        b->block[b->n].at = p;
        b->block[b->n++].size = new_size;
    }
    return p;
}

/* Whether there is an object of at least this size: its last known size counts. */
static int
is_block(const struct blocks *b, const void *at, size_t size)
{
    size_t i = b->n;

    while (i-- > 0)
        if (b->block[i].at == at)
            return b->block[i].size >= size;
    return 0;
}

static int
array_is_right(const struct blocks *b, const struct table *t, const void *inner)
{
    const struct tvalue *v = t->array;

    return array_size(t) == 8 && is_block(b, v, 8 * sizeof *v) && v[0].tt == TT_INT &&
           v[0].v.i == INT64_C(0x123456789abcdef) && v[1].tt == TT_FLOAT && v[1].v.f == 0.375 &&
           v[2].tt == TT_TRUE && v[3].tt == TT_FALSE && v[4].tt == TT_TABLE &&
           v[4].v.object == inner && (v[5].tt & 0x0f) == TT_NIL && count_elements(t) == 5;
}

static int
nodes_are_right(const struct blocks *b, const struct table *t, const char *key, const char *value)
{
    const struct string *k = (const void *)(key - offsetof(struct string, contents));
    const struct string *v = (const void *)(value - offsetof(struct string, contents));
    size_t i, found = 0;

    if (t->lsizenode != 1 || !is_block(b, t->node, 2 * sizeof *t->node))
        return 0;
    for (i = 0; i < 2; i++) {
        const struct node *n = &t->node[i];
        if (n->key_tt == TT_SHORT)
            found += n->tt == TT_LONG && n->key.object == k && k->shrlen == strlen(key) &&
                     n->v.object == v && v->lnglen == strlen(value);
        else
            found += n->key_tt == TT_FLOAT && n->key.f == 2.5 && n->tt == TT_INT && n->v.i == -7;
    }
    return found == 2;
}

/* Of two closures of one function, below the one that made them: is their prototype found? */
static int
closures_are_right(const struct blocks *b, const struct closure *made[2],
                   const struct closure *maker)
{
    int i;

    if (!is_block(b, maker, sizeof *maker) || !is_block(b, maker->prototype, 64))
        return 0;
    for (i = 0; i < 2; i++)
        if (!is_block(b, made[i], sizeof *made[i]) || made[i]->nupvalues != 0)
            return 0;
    return made[0] != made[1] && made[0]->prototype == made[1]->prototype &&
           made[0]->prototype != maker->prototype && is_block(b, made[0]->prototype, 64);
}

/* Pushes a function and two closures that it made. */
static void
make_closures(lua_State *L)
{
    int i;

    if (luaL_loadstring(L, "return function() end") != LUA_OK)
        lua_error(L);
    for (i = 0; i < 2; i++) {
        lua_pushvalue(L, -1 - i);
        lua_call(L, 0, 1);
    }
}

/* A table at 1; one with everything that is examined, at 2; its two strings. */
static void
make_objects(lua_State *L)
{
    lua_createtable(L, 0, 0);
    lua_createtable(L, 8, 2);
    lua_pushinteger(L, INT64_C(0x123456789abcdef));
    lua_rawseti(L, 2, 1);
    lua_pushnumber(L, 0.375);
    lua_rawseti(L, 2, 2);
    lua_pushboolean(L, 1);
    lua_rawseti(L, 2, 3);
    lua_pushboolean(L, 0);
    lua_rawseti(L, 2, 4);
    lua_pushvalue(L, 1);
    lua_rawseti(L, 2, 5);
    lua_pushliteral(L, "mpengine codec probe");
    lua_pushliteral(L, "mpengine codec probe, a string too long to be interned by Lua");
    lua_pushvalue(L, 3);
    lua_pushvalue(L, 4);
    lua_rawset(L, 2);
    lua_pushnumber(L, 2.5);
    lua_pushinteger(L, -7);
    lua_rawset(L, 2);
    lua_pushvalue(L, 1);
    lua_setmetatable(L, 2);
    lua_rawlen(L, 2); /* now alimit is a hint */
}

/* Called with the record of blocks; raises or returns whether everything is where it should be. */
static int
probe(lua_State *L)
{
    const struct blocks *b = lua_touserdata(L, 1);
    const struct table *inner, *t;
    const struct closure *made[2];
    int right;

    lua_settop(L, 0);
    make_objects(L);
    inner = lua_topointer(L, 1);
    t = lua_topointer(L, 2);
    right = is_block(b, t, sizeof *t) && is_block(b, inner, sizeof *inner) &&
            t->metatable == inner && inner->metatable == NULL && inner->lsizenode == 0 &&
            array_size(inner) == 0 && array_is_right(b, t, inner) &&
            nodes_are_right(b, t, lua_tostring(L, 3), lua_tostring(L, 4));
    if (!right)
        return 0;
    make_closures(L);
    made[0] = lua_topointer(L, -1);
    made[1] = lua_topointer(L, -2);
    lua_pushboolean(L, closures_are_right(b, made, lua_topointer(L, -3)));
    return 1;
}

/* Whether the Lua of this program is the release that the headers are of. */
static int
is_release(void)
{
    static const char expected[] = "$LuaVersion: " LUA_RELEASE " ";
    const char *volatile ident = lua_ident; /* may be NULL, which a plain comparison would deny */

    return ident != NULL && strncmp(ident, expected, sizeof expected - 1) == 0;
}

int
lmpe_plain_is_used(void)
{
    return usable();
}

void
lmpe_plain_probe(lua_State *L)
{
    struct blocks b = {.n = 0};
    int right = 0;

    if (!MAY_BE_USABLE || !is_release())
        return;
    lua_pushcfunction(L, probe);
    lua_pushlightuserdata(L, &b);
    b.alloc = lua_getallocf(L, &b.ud);
    lua_setallocf(L, noting_alloc, &b);
    if (lua_pcall(L, 1, 1, 0) == LUA_OK)
        right = lua_toboolean(L, -1);
    lua_setallocf(L, b.alloc, b.ud);
    lua_pop(L, 1);
    atomic_store_explicit(&probed, right, memory_order_relaxed);
}
