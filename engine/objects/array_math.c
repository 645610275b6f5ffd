/* SPDX-License-Identifier: MIT */
/* Calculations with the elements of arrays and views, in blocks: a kernel of array_kernels.c gets
 * elements that lie one after the other, those of a view with another step as a copy. What may not
 * fit is calculated twice, first without storing, so an error changes nothing. A death in the
 * middle of the second leaves the elements behind some place changed, each of them whole.
 */
#include "objects/array_kernels.h"
#include "objects/doors.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define BLOCK 1024      /* elements */
#define LONG_BLOCK 8192 /* the same, where the order does not matter and nothing is copied */
#define LINE 64         /* bytes: a vector that lies in two cache lines takes twice the time */

/* One operand: its elements, and room for a block of them. */
struct operand {
    mpe_elements s;
    const struct mpe__kernels *k;
    _Alignas(LINE) uint64_t room[BLOCK];
};

static const struct mpe__kernels *
kernels_of(char type)
{
    size_t size = mpe_type_size(type);
    if (type == 'c' || type == 'u' || size == 0)
        return NULL;
    if (type == 'f' || type == 'd')
        return &mpe__kernels[type == 'f' ? 8 : 9];
    return &mpe__kernels[2 * __builtin_ctz((unsigned)size) + (type < 'a')];
}

static int
open_operand(mpe_engine *e, mpe_object *o, struct operand *a)
{
    int rc = mpe_array_elements(e, o, &a->s);
    if (rc != MPE_OK)
        return rc;
    a->k = kernels_of(a->s.type);
    return a->k ? MPE_OK : MPE_ETYPE;
}

/* The second operand of a call must match the first. */
static int
open_pair(mpe_engine *e, mpe_object *first, mpe_object *second, struct operand *a,
          struct operand *b)
{
    int rc = open_operand(e, first, a);
    if (rc == MPE_OK)
        rc = open_operand(e, second, b);
    if (rc != MPE_OK)
        return rc;
    if (a->s.type != b->s.type)
        return MPE_ETYPE;
    return a->s.length == b->s.length ? MPE_OK : MPE_EINVAL;
}

static uint8_t *
at(const struct operand *a, uint64_t index)
{
    return (uint8_t *)a->s.first + (int64_t)index * a->s.step * a->k->size;
}

/* Copies n elements that are step bytes apart to others, which do not overlap them; four at a time
 * take two thirds of the time. */
#define COPY(T)                                                                                    \
    for (; n >= 4; n -= 4, from += 4 * from_step, to += 4 * to_step) {                             \
        const T a = *(const T *)from, b = *(const T *)(from + from_step);                          \
        const T c = *(const T *)(from + 2 * from_step), d = *(const T *)(from + 3 * from_step);    \
        *(T *)to = a, *(T *)(to + to_step) = b;                                                    \
        *(T *)(to + 2 * to_step) = c, *(T *)(to + 3 * to_step) = d;                                \
    }                                                                                              \
    for (; n > 0; n--, from += from_step, to += to_step)                                           \
    *(T *)to = *(const T *)from
static void
copy(uint8_t *to, int64_t to_step, const uint8_t *from, int64_t from_step, size_t size, size_t n)
{
    switch (size) {
    case 1:
        COPY(uint8_t);
        return;
    case 2:
        COPY(uint16_t);
        return;
    case 4:
        COPY(uint32_t);
        return;
    default:
        COPY(uint64_t);
    }
}

/* Elements first.. one after the other, n of them. */
static void *
block(struct operand *a, uint64_t first, size_t n)
{
    if (a->s.step == 1)
        return at(a, first);
    copy((uint8_t *)a->room, a->k->size, at(a, first), a->s.step * a->k->size, a->k->size, n);
    return a->room;
}

/* Stores a block where it is from. */
static void
store(struct operand *a, uint64_t first, size_t n)
{
    if (a->s.step != 1)
        copy(at(a, first), a->s.step * a->k->size, (uint8_t *)a->room, a->k->size, a->k->size, n);
}

/* Of a block that begins at an element, where the order matters. */
static size_t
block_size(const struct operand *a, uint64_t first)
{
    uint64_t left = a->s.length - first;
    return left < BLOCK ? (size_t)left : BLOCK;
}

/* The elements cut into blocks, where the order does not matter: all but the first begin at a cache
 * line. */
struct cut {
    uint64_t length, blocks;
    size_t lead, most; /* elements of the first block, at least one, and of the others */
};

/* Of one or two operands; the second may be NULL. */
static struct cut
cut_of(const struct operand *a, const struct operand *b)
{
    struct cut c = {.length = a->s.length};
    c.most = a->s.step == 1 && (!b || b->s.step == 1) ? LONG_BLOCK : BLOCK;
    c.lead = (LINE - (uintptr_t)a->s.first % LINE) / a->k->size;
    if (c.length)
        c.blocks = c.length <= c.lead ? 1 : 2 + (c.length - c.lead - 1) / c.most;
    return c;
}

/* The first element of a block, and how many it has. */
static uint64_t
start_of(const struct cut *c, uint64_t b, size_t *n)
{
    uint64_t start = b ? c->lead + (b - 1) * c->most : 0, left = c->length - start;
    size_t most = b ? c->most : c->lead;
    *n = left < most ? (size_t)left : most;
    return start;
}

/* ---- sums ---- */

/* Sums of blocks, added in pairs, pairs of pairs, and so on: errors grow with the logarithm of the
 * number of elements. */
struct total {
    uint64_t blocks;
    mpe__number part[64];
};

static mpe__number
plus(const struct mpe__kernels *k, mpe__number a, mpe__number b)
{
    if (k->is_float)
        return (mpe__number){.d = a.d + b.d};
    return (mpe__number){.i = (int64_t)((uint64_t)a.i + (uint64_t)b.i)};
}

static void
total_add(struct total *t, const struct mpe__kernels *k, mpe__number sum)
{
    uint64_t n = t->blocks++;
    int depth = __builtin_popcountll(n);
    for (; n & 1; n >>= 1)
        sum = plus(k, t->part[--depth], sum);
    t->part[depth] = sum;
}

static void
total_write(const struct total *t, const struct mpe__kernels *k, void *out)
{
    mpe__number sum = {.i = 0}; /* 0.0, too */
    for (int depth = __builtin_popcountll(t->blocks); depth-- > 0;)
        sum = plus(k, t->part[depth], sum);
    memcpy(out, &sum, sizeof sum);
}

int
mpe_array_sum(mpe_engine *e, mpe_object *o, void *sum)
{
    struct operand a;
    struct total t = {.blocks = 0};
    if (!sum)
        return MPE_EINVAL;
    int rc = open_operand(e, o, &a);
    if (rc != MPE_OK)
        return rc;
    for (uint64_t i = 0; i < a.s.length; i += BLOCK) {
        size_t n = block_size(&a, i);
        total_add(&t, a.k, a.k->sum(block(&a, i, n), n));
    }
    total_write(&t, a.k, sum);
    return MPE_OK;
}

int
mpe_array_dot(mpe_engine *e, mpe_object *first, mpe_object *second, void *sum)
{
    struct operand a, b;
    struct total t = {.blocks = 0};
    if (!sum)
        return MPE_EINVAL;
    int rc = open_pair(e, first, second, &a, &b);
    if (rc != MPE_OK)
        return rc;
    for (uint64_t i = 0; i < a.s.length; i += BLOCK) {
        size_t n = block_size(&a, i);
        total_add(&t, a.k, a.k->dot(block(&a, i, n), block(&b, i, n), n));
    }
    total_write(&t, a.k, sum);
    return MPE_OK;
}

/* ---- the least and the greatest ---- */

/* Is a to be preferred to b? */
static int
is_better(const struct operand *o, mpe__number a, mpe__number b, int greatest)
{
    if (o->k->is_float)
        return isnan(a.d) || (greatest ? a.d > b.d : a.d < b.d);
    if (o->k->size == 8 && o->s.type < 'a')
        return greatest ? (uint64_t)a.i > (uint64_t)b.i : (uint64_t)a.i < (uint64_t)b.i;
    return greatest ? a.i > b.i : a.i < b.i;
}

static int
best(mpe_engine *e, mpe_object *o, int greatest, void *number)
{
    struct operand a;
    mpe__number m = {.i = 0};
    if (!number)
        return MPE_EINVAL;
    int rc = open_operand(e, o, &a);
    if (rc != MPE_OK)
        return rc;
    struct cut c = cut_of(&a, NULL);
    for (uint64_t b = 0; b < c.blocks; b++) {
        size_t n;
        uint64_t i = start_of(&c, b, &n);
        const void *p = block(&a, i, n);
        mpe__number found = greatest ? a.k->greatest(p, n) : a.k->least(p, n);
        if (b == 0 || is_better(&a, found, m, greatest))
            m = found;
        if (a.k->is_float && isnan(m.d))
            break;
    }
    if (a.s.length == 0)
        return MPE_ERANGE;
    memcpy(number, &m, sizeof m);
    return MPE_OK;
}

int
mpe_array_least(mpe_engine *e, mpe_object *o, void *number)
{
    return best(e, o, 0, number);
}

int
mpe_array_greatest(mpe_engine *e, mpe_object *o, void *number)
{
    return best(e, o, 1, number);
}

/* ---- changes ---- */

/* A limit for elements, below which each of them times a number is in the 1/part of the range of
 * its type; 0 when there is none. */
static mpe__number
limit_for(const struct mpe__kernels *k, mpe__number by, int part)
{
    if (k->is_float) /* with room for its rounding */
        return (mpe__number){.d = (double)FLT_MAX * (1 - FLT_EPSILON) / part / fmax(fabs(by.d), 1)};
    int is_signed = !(k->highest >> (8 * k->size - 1));
    uint64_t size = by.i < 0 ? 0 - (uint64_t)by.i : (uint64_t)by.i;
    if (by.i < 0 && !is_signed)
        return (mpe__number){.i = 0};
    uint64_t most = size ? k->highest / (unsigned)part / size : k->highest;
    return (mpe__number){.i = most ? (int64_t)(1ull << (63 - __builtin_clzll(most))) : 0};
}

/* A change: y + by * x, or of x alone by * x. */
struct change {
    struct operand *y, *x;
    mpe__number by, limit, limit_y; /* of the elements whose results surely fit */
    struct cut cut;
};

static struct change
change_of(struct operand *y, mpe__number by, struct operand *x)
{
    struct change c = {.y = y, .x = x, .by = by, .cut = y ? cut_of(y, x) : cut_of(x, NULL)};
    const mpe__number one = x->k->is_float ? (mpe__number){.d = 1} : (mpe__number){.i = 1};
    c.limit = limit_for(x->k, by, y ? 2 : 1);
    if (y)
        c.limit_y = limit_for(x->k, one, 2);
    return c;
}

/* Do all results of a block fit the type? The sizes of the elements say so of nearly every block,
 * and are read by faster loops than to calculate each. */
static int
fits(const struct change *c, uint64_t b)
{
    const struct mpe__kernels *k = c->x->k;
    size_t n;
    uint64_t i = start_of(&c->cut, b, &n);
    const void *x = block(c->x, i, n), *y = c->y ? block(c->y, i, n) : NULL;
    if ((k->is_float || c->limit.i) && k->within(x, n, c->limit) &&
        (!y || k->within(y, n, c->limit_y)))
        return 1;
    return k->fits(y, c->by, x, n);
}

/* May a result not fit, whatever the elements are? */
static int
is_narrow(const struct change *c)
{
    if (!c->x->k->is_narrow)
        return 0;
    if (c->y)
        return 1;
    return c->x->k->is_float ? fabs(c->by.d) > 1 : c->by.i != 0 && c->by.i != 1;
}

/* Blocks are changed from the last to the first: those that the check has read last are in the
 * cache yet. */
static int
change(const struct change *c)
{
    struct operand *to = c->y ? c->y : c->x;
    for (uint64_t b = 0; is_narrow(c) && b < c->cut.blocks; b++)
        if (!fits(c, b))
            return MPE_ERANGE;
    for (uint64_t b = c->cut.blocks; b-- > 0;) {
        size_t n;
        uint64_t i = start_of(&c->cut, b, &n);
        void *p = block(to, i, n);
        if (c->y)
            to->k->axpy(p, c->by, block(c->x, i, n), n);
        else
            to->k->scale(p, c->by, n);
        store(to, i, n);
    }
    return MPE_OK;
}

int
mpe_array_scale(mpe_engine *e, mpe_object *o, const void *factor)
{
    struct operand x;
    mpe__number k;
    if (!factor)
        return MPE_EINVAL;
    memcpy(&k, factor, sizeof k);
    int rc = open_operand(e, o, &x);
    if (rc != MPE_OK)
        return rc;
    struct change c = change_of(NULL, k, &x);
    return change(&c);
}

/* Would a store to an element of a change an element of b that is read later? */
static int
is_in_the_way(const struct operand *a, const struct operand *b)
{
    if (a->s.length == 0 || (a->s.first == b->s.first && a->s.step == b->s.step))
        return 0;
    const uint8_t *a1 = at(a, 0), *a2 = at(a, a->s.length - 1);
    const uint8_t *b1 = at(b, 0), *b2 = at(b, b->s.length - 1);
    const uint8_t *a_low = a1 < a2 ? a1 : a2, *a_high = a1 < a2 ? a2 : a1;
    const uint8_t *b_low = b1 < b2 ? b1 : b2, *b_high = b1 < b2 ? b2 : b1;
    return a_low <= b_high && b_low <= a_high;
}

int
mpe_array_axpy(mpe_engine *e, mpe_object *to, const void *factor, mpe_object *from)
{
    struct operand y, x;
    mpe__number k;
    if (!factor)
        return MPE_EINVAL;
    memcpy(&k, factor, sizeof k);
    int rc = open_pair(e, to, from, &y, &x);
    if (rc != MPE_OK)
        return rc;
    struct change c;
    if (!is_in_the_way(&y, &x)) {
        c = change_of(&y, k, &x);
        return change(&c);
    }
    size_t bytes = x.s.length * x.k->size;
    uint8_t *copied = mpe__new(&e->memory, bytes);
    if (!copied)
        return MPE_ENOMEM;
    copy(copied, x.k->size, x.s.first, x.s.step * x.k->size, x.k->size, x.s.length);
    x.s.first = copied;
    x.s.step = 1;
    c = change_of(&y, k, &x);
    rc = change(&c);
    mpe__delete(&e->memory, copied, bytes);
    return rc;
}
