/* Shared by the files of dicts: the structures in the arena, and the functions that one file
 * provides to another. dict.c describes how they work together. */
#ifndef MPE_OBJECTS_DICT_INT_H
#define MPE_OBJECTS_DICT_INT_H

#include "core/arena.h"
#include "core/object.h"
#include "core/death.h"
#include "core/ilock.h"
#include "objects/key.h"

#define MPE__DICT_STRIPES 32u

/* A key and its value. The key stays; a value may be written over in place. */
struct mpe__dict_node {
    mpe__a64
        head; /* version, odd during a rewrite, << 32 | size of the value << 1 | may hold handles */
    uint32_t key_size;
    uint8_t bytes[]; /* the key, and the value right behind it */
};

/* The fields that every change of a stripe writes. */
struct mpe__dict_stripe {
    mpe__a32 lock;     /* intent lock of the stripe: of this, its root, its table and its nodes */
    mpe__a32 count;    /* derived: entries in use */
    mpe__a32 deleted;  /* derived: entries deleted */
    mpe__a32 pop_hint; /* where pop_any found its last one; any value is valid */
    uint8_t pad[48];
};
_Static_assert(sizeof(struct mpe__dict_stripe) == 64, "a cache line each");

/* The fields that every look-up reads. A value that is written over in place does not change
 * them, so they can stay in the caches of all processors. */
struct mpe__dict_root {
    mpe__a64 table;   /* offset | log2 << 56, 0: no table yet */
    mpe__a64 version; /* of the set of entries: odd while it changes */
};

/* A pending operation on many keys: the offset of a batch, and one of these. */
enum {
    MPE__DICT_LISTED = 1, /* an update that has not happened: the next finder drops it */
    MPE__DICT_DUE = 2     /* has happened: the next finder does it; without a batch, a clear */
};

struct mpe__dict {
    mpe__a32 freeze;  /* intent lock of pending: held during a call on many keys */
    mpe__a64 pending; /* 0: nothing */
    uint8_t pad[48];
    struct mpe__dict_stripe stripes[MPE__DICT_STRIPES];
    struct mpe__dict_root roots[MPE__DICT_STRIPES];
};

/* The nodes of an update. */
struct mpe__dict_batch {
    uint64_t count;
    mpe__a64 nodes[]; /* offsets; 0: not yet made, or linked */
};

struct mpe__dict_table {
    mpe__a64 *entries;
    uint32_t mask;
};

/* Where a key is, or would be inserted; or a stripe as a whole. */
struct mpe__dict_place {
    struct mpe__dict_stripe *stripe;
    struct mpe__dict_root *root;
    struct mpe__dict_table table;
    uint32_t hash;
    mpe__a64 *entry;  /* of the key; NULL when absent */
    mpe__a64 *vacant; /* where to insert when absent; NULL without a table */
    struct mpe__dict_node *node;
};

static inline struct mpe__dict *
mpe__dict_body(mpe_engine *e, const mpe_object *o)
{
    return mpe__body(e, o);
}

static inline void
mpe__dict_stripe_at(mpe_engine *e, mpe_object *o, uint32_t i, struct mpe__dict_place *p)
{
    struct mpe__dict *d = mpe__dict_body(e, o);
    p->stripe = &d->stripes[i];
    p->root = &d->roots[i];
}

/* ---- nodes ---- */

static inline uint64_t
mpe__dict_node_size(uint64_t key_size, uint64_t value_size)
{
    return offsetof(struct mpe__dict_node, bytes) + key_size + value_size;
}

static inline uint32_t
mpe__dict_value_size(const struct mpe__dict_node *n)
{
    return (uint32_t)mpe__load64(&n->head) >> 1;
}

static inline int
mpe__dict_has_handles(const struct mpe__dict_node *n)
{
    return mpe__load64(&n->head) & 1;
}

static inline uint8_t *
mpe__dict_value(struct mpe__dict_node *n)
{
    return n->bytes + n->key_size;
}

/* ---- tables ---- */

/* A table entry is hash << 32 | node offset / 16, or one of these. */
#define MPE__DICT_EMPTY 0ull
#define MPE__DICT_DELETED 1ull

static inline uint64_t
mpe__dict_entry(uint32_t hash, uint64_t node)
{
    return (uint64_t)hash << 32 | node >> 4;
}

static inline int
mpe__dict_in_use(uint64_t entry)
{
    return entry > MPE__DICT_DELETED;
}

static inline uint64_t
mpe__dict_node_offset(uint64_t entry)
{
    return (entry & UINT32_MAX) << 4;
}

static inline uint64_t
mpe__dict_table_offset(uint64_t word)
{
    return word & ((1ull << 56) - 1);
}

static inline struct mpe__dict_table
mpe__dict_table_of(mpe_engine *e, uint64_t word)
{
    if (word == 0)
        return (struct mpe__dict_table){NULL, 0};
    return (struct mpe__dict_table){mpe__at(e, mpe__dict_table_offset(word)),
                                    (uint32_t)(1ull << (word >> 56)) - 1};
}

static inline uint64_t
mpe__dict_table_length(uint64_t word)
{
    return word ? 1ull << (word >> 56) : 0;
}

/* ---- versions ---- */

/* Of a key in a stripe whose root has this version; head is its node's, 0 when the key is
 * absent. */
static inline uint64_t
mpe__dict_version(uint64_t root, uint64_t head)
{
    return root << 32 | head >> 32;
}

/* Of the key of a place; the stripe is locked. */
static inline uint64_t
mpe__dict_version_at(struct mpe__dict_place *p)
{
    return mpe__dict_version(mpe__load64(&p->root->version),
                             p->node ? mpe__load64(&p->node->head) : 0);
}

/* ---- dict_read.c ---- */

/* The hash of a key, and its stripe. */
void mpe__dict_locate(mpe_engine *e, mpe_object *o, mpe_bytes key, struct mpe__dict_place *p);
/* The rest of the place. Stripe locked, or no writer active. */
void mpe__dict_find(mpe_engine *e, struct mpe__dict_place *p, mpe_bytes key);
/* Appends the value of the node of a place to out, and pins the objects it mentions. Stripe
 * locked. */
int mpe__dict_copy_value(mpe_engine *e, struct mpe__dict_node *n, mpe_buf *out);

/* ---- dict_write.c; the stripe is locked ---- */

/* A node in flight. Errors: EARENA. */
int mpe__dict_new_node(mpe_engine *e, mpe_bytes key, mpe_bytes value, int handles, uint64_t *off);
/* Makes room for so many more entries in a stripe. *moved: the table has changed. */
int mpe__dict_make_room(mpe_engine *e, mpe_object *o, struct mpe__dict_place *p, uint32_t more,
                        int *moved);
/* Links a node, which is in flight or the dict's already, at the place; there is room. */
void mpe__dict_link(mpe_engine *e, mpe_object *o, struct mpe__dict_place *p, uint64_t node);
/* Empties a stripe. */
void mpe__dict_clear_stripe(mpe_engine *e, mpe_object *o, struct mpe__dict_place *p);

/* ---- dict_all.c ---- */

/* From here to thaw no process changes the dict and nothing is pending. */
void mpe__dict_freeze(mpe_engine *e, mpe_object *o);
void mpe__dict_thaw(mpe_engine *e, mpe_object *o);
/* Waits until nothing is pending. */
void mpe__dict_settle(mpe_engine *e, mpe_object *o);
/* Calls f for each node of a stripe, until it fails. Locked, or no other process can reach the
 * dict. */
int mpe__dict_each_node(mpe_engine *e, struct mpe__dict_root *root,
                        int (*f)(mpe_engine *e, uint64_t off, void *ud), void *ud);
/* Moves of the kind. */
void mpe__dict_scan(mpe_engine *e, mpe_object *o, int (*visit)(void *ud, uint64_t h), void *ud);
void mpe__dict_measure(mpe_engine *e, mpe_object *o, uint64_t *depth, uint64_t *bytes);

#endif
