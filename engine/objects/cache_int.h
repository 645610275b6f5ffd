/* SPDX-License-Identifier: MIT */
/* Shared by the files of caches: the structures in the arena, and the functions that one file
 * provides to another. cache.c describes how they work together. */
#ifndef MPE_OBJECTS_CACHE_INT_H
#define MPE_OBJECTS_CACHE_INT_H

#include "core/arena.h"
#include "core/death.h"
#include "core/ilock.h"
#include "core/object.h"
#include "objects/key.h"

#include <string.h>

#define MPE__CACHE_SHARDS 32u /* at most */
#define MPE__CELL_BYTES 64u
#define MPE__CACHE_SIZES 32u /* lists of free runs of cells, by log2 of their length */
#define MPE__CACHE_COUNTERS 16u

/* A number of a cell within its shard. Cell 0 is never used: it means none. */
typedef uint32_t mpe__cell;

/* ---- items ---- */

/* An item: key, then value, in one run of cells or in several that are linked. */
struct mpe__cache_item {
    mpe__cell next;         /* the next run, as a struct mpe__cache_run */
    uint32_t cells;         /* in this run */
    uint64_t expires;       /* mpe_now(), or MPE_FOREVER */
    mpe__cell newer, older; /* neighbours in the queue: derived */
    uint32_t bucket;        /* whose chain has the entry */
    uint32_t key_size;
    uint32_t value_size; /* << 1 | may hold handles */
    uint8_t bytes[];
};
#define MPE__CACHE_ITEM_HEAD offsetof(struct mpe__cache_item, bytes)

/* The other runs of an item. */
struct mpe__cache_run {
    mpe__cell next;
    uint32_t cells;
    uint8_t bytes[];
};

/* ---- the index ---- */

/* The entry of an item: its first cell, 24 bits of the hash, and flags. Readers change the flags
 * without a lock; all else changes under the lock of the shard. */
#define MPE__ENTRY_CELL(word) ((mpe__cell)(word))
#define MPE__ENTRY_TAG(word) ((uint32_t)((word) >> 32) & 0xffffffu)
#define MPE__ENTRY_USED (1ull << 56) /* a counter of two bits: how often it was read lately */
#define MPE__ENTRY_USES(word) ((word) >> 56 & 3)
#define MPE__ENTRY_MAIN (1ull << 58)    /* it is in the main queue, not in the small one */
#define MPE__ENTRY_EXPIRED (1ull << 59) /* found to be; it is no longer counted */
#define MPE__ENTRY_FLAGS (15ull << 56)

#define MPE__BUCKET_ENTRIES 7u

/* A line of entries. Chains continue in cells. */
struct mpe__cache_bucket {
    mpe__a32 version; /* of the chain, in its first bucket: odd during a change */
    mpe__a32 next;    /* a cell */
    mpe__a64 entries[MPE__BUCKET_ENTRIES];
};
_Static_assert(sizeof(struct mpe__cache_bucket) == MPE__CELL_BYTES, "a bucket fits into a cell");

/* ---- flights: cache_fetch.c ---- */

/* A computation. */
struct mpe__flight {
    mpe__a64 next; /* offset */
    mpe__a64 owner;
    mpe__a64 result; /* offset of a struct result, 0: none yet */
    mpe__a64 event;  /* handle; held by those that wait, 0: none has waited */
    mpe__a16 waits[MPE__SLOTS];
    uint32_t key_size;
    uint8_t key[];
};

/* ---- shards ---- */

enum mpe__cache_queue_name { MPE__CACHE_SMALL, MPE__CACHE_MAIN, MPE__CACHE_QUEUES };

struct mpe__cache_queue {
    mpe__cell newest, oldest;
    uint32_t cells; /* of its items */
};

/* Guarded by its lock. Epoch, flights and dead are not derived from the index. */
struct mpe__cache_shard {
    mpe__a32 lock;
    mpe__a32 epoch;   /* of the cache, when the shard was last cleared */
    mpe__a64 flights; /* offset of the first struct mpe__flight: cache_fetch.c */
    uint32_t free_cells;
    uint32_t entries; /* not yet found to be expired */
    uint32_t items;   /* with them */
    uint32_t handles; /* items that may hold handles */
    uint64_t soonest; /* no item that is not marked expires before */
    uint64_t evictions, expired, computed, waited;
    struct mpe__cache_queue queues[MPE__CACHE_QUEUES];
    mpe__cell runs[MPE__CACHE_SIZES]; /* first free run of 2^i to 2^(i+1) - 1 cells */
    struct mpe__slotset dead;         /* slots whose flights must be settled before anything else */
};
_Static_assert(sizeof(struct mpe__cache_shard) % 64 == 0, "shards share no cache line");

/* Of the processes whose slot, modulo their number, is the same. */
struct mpe__cache_counters {
    mpe__a64 hits, misses;
    uint8_t pad[48];
};

/* The body. All of the cache is in it: then come the shards, and for each shard an area of index,
 * ghosts, map of free cells, and cells. The fields before counters never change, but for epoch. */
struct mpe__cache {
    uint64_t bytes;                                     /* the size */
    uint64_t ttl;                                       /* ns, or MPE_FOREVER */
    uint64_t area, stride, ghosts_at, map_at, cells_at; /* offsets: in the body; in an area */
    uint32_t shards, buckets, ghosts, cells;            /* the last three in each shard */
    mpe__a32 epoch;                                     /* raised by each clear */
    uint8_t pad[52];
    struct mpe__cache_counters counters[MPE__CACHE_COUNTERS];
    struct mpe__cache_shard all[];
};
_Static_assert(offsetof(struct mpe__cache, all) % 64 == 0, "shards begin with a line");

/* A shard of this process's mapping. */
struct mpe__cache_view {
    struct mpe__cache *cache;
    struct mpe__cache_shard *shard;
    struct mpe__cache_bucket *buckets;
    uint32_t *ghosts;
    uint64_t *map; /* a bit per cell: it is free */
    uint8_t *cells;
};

/* Where a key is, or would be inserted. */
struct mpe__cache_place {
    struct mpe__cache_view v;
    uint32_t bucket, tag;
    mpe__a64 *entry;                /* of the key; NULL when absent */
    mpe__a64 *vacant;               /* where to insert; NULL: all entries of the chain are used */
    struct mpe__cache_bucket *last; /* of the chain */
    struct mpe__cache_item *item;   /* of the key */
};

static inline struct mpe__cache *
mpe__cache_body(mpe_engine *e, const mpe_object *o)
{
    return mpe__body(e, o);
}

static inline struct mpe__cache_view
mpe__cache_view_of(struct mpe__cache *c, uint32_t shard)
{
    uint8_t *area = (uint8_t *)c + c->area + c->stride * shard;
    return (struct mpe__cache_view){.cache = c,
                                    .shard = &c->all[shard],
                                    .buckets = (struct mpe__cache_bucket *)area,
                                    .ghosts = (uint32_t *)(area + c->ghosts_at),
                                    .map = (uint64_t *)(area + c->map_at),
                                    .cells = area + c->cells_at};
}

static inline void *
mpe__cell_at(const struct mpe__cache_view *v, mpe__cell cell)
{
    return v->cells + (uint64_t)cell * MPE__CELL_BYTES;
}

static inline mpe__cell
mpe__cell_of(const struct mpe__cache_view *v, const void *p)
{
    return (mpe__cell)((size_t)((const uint8_t *)p - v->cells) / MPE__CELL_BYTES);
}

static inline uint32_t
mpe__cache_value_size(const struct mpe__cache_item *item)
{
    return item->value_size >> 1;
}

static inline int
mpe__cache_has_handles(const struct mpe__cache_item *item)
{
    return item->value_size & 1;
}

static inline uint32_t
mpe__cells_for(uint64_t bytes)
{
    return (uint32_t)((bytes + MPE__CELL_BYTES - 1) / MPE__CELL_BYTES);
}

/* ---- cache_space.c: the cells of a shard; locked ---- */

/* Makes all cells free. */
void mpe__cache_space_reset(struct mpe__cache_view *v);
/* Takes cells for an item with so many bytes of key and value: writes the heads of its runs, and
 * returns the first cell; 0: there are not enough. */
mpe__cell mpe__cache_space_take(struct mpe__cache_view *v, uint64_t bytes);
/* Takes one cell for a bucket; 0: there is none. */
mpe__cell mpe__cache_space_take_one(struct mpe__cache_view *v);
/* Gives back the runs of an item; one cell. */
void mpe__cache_space_give(struct mpe__cache_view *v, mpe__cell first);
void mpe__cache_space_give_one(struct mpe__cache_view *v, mpe__cell cell);
/* Rebuilding: all cells are free, and in no list; then those in use are taken out; then the lists
 * are made. */
void mpe__cache_space_begin(struct mpe__cache_view *v);
void mpe__cache_space_mark(struct mpe__cache_view *v, mpe__cell first, uint32_t cells);
void mpe__cache_space_finish(struct mpe__cache_view *v);

/* ---- cache_index.c ---- */

/* The hash of a key, its shard and its chain. */
void mpe__cache_locate(mpe_engine *e, mpe_object *o, mpe_bytes key, struct mpe__cache_place *p);
/* The rest of the place. Locked from here on. */
void mpe__cache_find(struct mpe__cache_place *p, mpe_bytes key);
/* Is this the key of the item? Lengths and runs may be garbage when no lock is held. */
int mpe__cache_is_key(const struct mpe__cache_view *v, const struct mpe__cache_item *item,
                      mpe_bytes key);
/* The entry of an item that is in the index. */
mpe__a64 *mpe__cache_entry_of(struct mpe__cache_view *v, struct mpe__cache_item *item);
/* Appends a part of key and value. Errors: ENOMEM; ECORRUPT, only without the lock. */
int mpe__cache_copy(const struct mpe__cache_view *v, const struct mpe__cache_item *item,
                    uint64_t from, uint64_t size, mpe_buf *out);
/* Writes key and value into the runs of an item. */
void mpe__cache_fill(struct mpe__cache_view *v, struct mpe__cache_item *item, mpe_bytes key,
                     mpe_bytes value);
/* Changes an entry, so that readers without the lock notice. */
void mpe__cache_set_entry(struct mpe__cache_view *v, uint32_t bucket, mpe__a64 *entry,
                          uint64_t word);
/* Around changes of an item itself. */
void mpe__cache_begin_change(struct mpe__cache_bucket *first);
void mpe__cache_end_change(struct mpe__cache_bucket *first);
/* Gives the chain of a place, which has no vacant entry, one. 0: there is no cell. */
int mpe__cache_extend(struct mpe__cache_place *p);
/* After an entry was cleared: drops a bucket without entries from its chain. */
void mpe__cache_shorten(struct mpe__cache_view *v, uint32_t bucket);
/* The same for all chains, before the map of free cells is made anew. */
void mpe__cache_unlink_empty(struct mpe__cache_view *v);
/* Calls f for each entry in use of a shard, until it fails. */
typedef int mpe__cache_each_fn(struct mpe__cache_view *v, mpe__a64 *entry, void *ud);
int mpe__cache_each(struct mpe__cache_view *v, mpe__cache_each_fn *f, void *ud);

/* ---- cache_evict.c; locked ---- */

/* Puts an item that was just linked, with the word of its entry, at the new end of its queue. */
void mpe__cache_enqueue(struct mpe__cache_view *v, struct mpe__cache_item *item, uint64_t word);
/* Removes it from its queue. */
void mpe__cache_dequeue(struct mpe__cache_view *v, struct mpe__cache_item *item, uint64_t word);
/* Frees the cells of an item that was removed from the index, or was never in it. */
void mpe__cache_drop_item(mpe_engine *e, struct mpe__cache_view *v, struct mpe__cache_item *item);
/* Removes an item from the index, its queue and the counts. */
void mpe__cache_remove_item(mpe_engine *e, struct mpe__cache_view *v, mpe__a64 *entry);
/* Removes the item that is worth least. 0: there is none. */
int mpe__cache_evict(mpe_engine *e, struct mpe__cache_view *v);
/* Was a key with this place evicted from the small queue lately? Forgets it. */
int mpe__cache_was_ghost(struct mpe__cache_view *v, uint32_t bucket, uint32_t tag);
/* An item has expired: it is no longer counted, and is the first to be removed. */
void mpe__cache_mark_expired(struct mpe__cache_view *v, mpe__a64 *entry);

/* ---- cache_write.c ---- */

/* Locks a shard, and does first what is due: settles flights, clears. */
void mpe__cache_lock(mpe_engine *e, mpe_object *o, struct mpe__cache_view *v);
void mpe__cache_unlock(mpe_engine *e, mpe_object *o, struct mpe__cache_view *v);
/* Settles the flights of a shard, unless it is locked: then the process that unlocks it does. */
void mpe__cache_settle_if_free(mpe_engine *e, mpe_object *o, struct mpe__cache_shard *s);
/* Is the item there for a reader now? Marks it, if it has just expired. */
int mpe__cache_is_fresh(struct mpe__cache_place *p, uint64_t now);
/* Appends the value, and pins the objects it mentions. Errors: ENOMEM. */
int mpe__cache_copy_value(mpe_engine *e, struct mpe__cache_place *p, mpe_buf *out);
/* Puts key and value; the place was found. Errors: ERANGE (larger than the cache). */
int mpe__cache_store(mpe_engine *e, struct mpe__cache_place *p, mpe_bytes key, mpe_bytes value,
                     int handles, uint64_t expires);
/* When an item expires that is stored now: ttl 0 means the cache's. */
uint64_t mpe__cache_expiry(struct mpe__cache *c, uint64_t ttl);

/* ---- cache_all.c ---- */

/* Removes all items of a shard, which then has that epoch. Locked. */
void mpe__cache_clear_shard(mpe_engine *e, struct mpe__cache_view *v, uint32_t epoch);
/* Moves of the kind. */
void mpe__cache_scan(mpe_engine *e, mpe_object *o, int (*visit)(void *ud, uint64_t h), void *ud);
void mpe__cache_measure(mpe_engine *e, mpe_object *o, uint64_t *depth, uint64_t *bytes);

/* ---- cache_fetch.c: moves of the kind ---- */

void mpe__cache_death(mpe_engine *e, mpe_object *o, uint32_t slot);
/* After slots have died, that the shard has in its set dead: takes away what they had of flights, and
 * wakes those that wait for them. Locked. */
void mpe__cache_settle_flights(mpe_engine *e, mpe_object *o, struct mpe__cache_shard *s);
/* Frees the flights of a cache that no process can reach; visits the handles in their results. */
void mpe__cache_free_flights(mpe_engine *e, struct mpe__cache_shard *s);
void mpe__cache_scan_flights(mpe_engine *e, struct mpe__cache_shard *s,
                             int (*visit)(void *ud, uint64_t h), void *ud);

/* ---- counting ---- */

static inline void
mpe__cache_count_hit(mpe_engine *e, struct mpe__cache *c)
{
    atomic_fetch_add_explicit(&c->counters[e->slot % MPE__CACHE_COUNTERS].hits, 1,
                              memory_order_relaxed);
}

static inline void
mpe__cache_count_miss(mpe_engine *e, struct mpe__cache *c)
{
    atomic_fetch_add_explicit(&c->counters[e->slot % MPE__CACHE_COUNTERS].misses, 1,
                              memory_order_relaxed);
}

#endif
