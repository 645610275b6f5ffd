/* SPDX-License-Identifier: MIT */
/* Caches: a fixed amount of memory, cut into shards by the hash of the key, each under an intent
 * lock of its own. A shard has an index, cells for the items, and two queues that say which item
 * leaves when cells are short.
 *
 *   cache_space.c   the cells
 *   cache_index.c   the entries, by chains of buckets
 *   cache_evict.c   the queues: what leaves
 *   cache_read.c    reading one key, mostly without the lock
 *   cache_write.c   changing one key
 *   cache_all.c     all keys: clear, keys, counts, what a sweep looks at
 *   cache_fetch.c   one computation of a value for all that ask for it
 *   cache.c         making, freeing, repairing
 *
 * Put, replace and remove: one store of an entry. Clear: one store of the cache's epoch. Recovery of
 * a shard's lock makes all else anew from the entries: the free cells, the queues (in another order),
 * the counts; and versions even. It reads only what a complete store has linked, so it may be
 * repeated. A bucket that was linked, and has no entry yet or any more, leaves its chain.
 */
#include "objects/cache_int.h"

#include "objects/doors.h"

/* ---- making ---- */

/* Bytes of index, ghosts and map for so many cells, which become offsets in an area; each is
 * aligned to 64. */
static uint64_t
lay_out(struct mpe__cache *c, uint32_t cells)
{
    c->cells = cells;
    c->buckets = cells / 16 + 1;
    c->ghosts = cells / 4 + 1;
    c->ghosts_at = (uint64_t)c->buckets * sizeof(struct mpe__cache_bucket);
    c->map_at = mpe__round_up(c->ghosts_at + c->ghosts * sizeof(uint32_t), 64);
    c->cells_at = mpe__round_up(c->map_at + (cells / 64 + 1) * sizeof(uint64_t), 64);
    return c->cells_at + (uint64_t)cells * MPE__CELL_BYTES;
}

/* So few that a value of a quarter of the cache fits into one, or of 16 MiB; so many that writers
 * rarely meet. */
static uint32_t
shards_for(uint64_t bytes)
{
    uint32_t shards = bytes < 4u << 20 ? 1 : bytes < 16u << 20 ? 2 : 4;
    while (shards < MPE__CACHE_SHARDS && bytes / shards >= 32u << 20)
        shards *= 2;
    return shards;
}

static void
plan(struct mpe__cache *c, uint64_t bytes, uint64_t ttl)
{
    c->bytes = bytes;
    c->ttl = ttl;
    c->shards = shards_for(bytes);
    c->area = sizeof *c + c->shards * sizeof(struct mpe__cache_shard);
    c->stride = (bytes - c->area) / c->shards / 64 * 64;
    uint64_t cells = c->stride / MPE__CELL_BYTES;
    if (cells > UINT32_MAX)
        cells = UINT32_MAX;
    while (lay_out(c, (uint32_t)cells) > c->stride)
        cells -= cells / 1000 + 1;
}

int
mpe_cache_create(mpe_engine *e, uint64_t bytes, uint64_t ttl, mpe_object **out)
{
    if (!out || bytes < MPE_CACHE_MIN_BYTES || bytes > 1ull << 48 || ttl == 0)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    mpe_object *o;
    int rc = mpe__object_begin(e, MPE_KIND_CACHE, bytes, &o);
    if (rc != MPE_OK)
        return rc;
    struct mpe__cache *c = mpe__cache_body(e, o);
    plan(c, bytes, ttl);
    for (uint32_t i = 0; i < c->shards; i++) {
        struct mpe__cache_view v = mpe__cache_view_of(c, i);
        v.shard->soonest = MPE_FOREVER;
        mpe__cache_space_reset(&v);
    }
    return mpe__object_finish(e, o, out);
}

/* ---- repairing ---- */

static void
mark_item(struct mpe__cache_view *v, const struct mpe__cache_item *item)
{
    mpe__cache_space_mark(v, mpe__cell_of(v, item), item->cells);
    for (mpe__cell next = item->next; next;) {
        const struct mpe__cache_run *r = mpe__cell_at(v, next);
        mpe__cache_space_mark(v, next, r->cells);
        next = r->next;
    }
}

static int
recount(struct mpe__cache_view *v, mpe__a64 *entry, void *ud)
{
    struct mpe__cache_shard *s = v->shard;
    uint64_t word = mpe__load64(entry);
    struct mpe__cache_item *item = mpe__cell_at(v, MPE__ENTRY_CELL(word));
    (void)ud;
    mark_item(v, item);
    mpe__cache_enqueue(v, item, word);
    s->items++;
    s->entries += !(word & MPE__ENTRY_EXPIRED);
    s->handles += (uint32_t)mpe__cache_has_handles(item);
    if (!(word & MPE__ENTRY_EXPIRED) && item->expires < s->soonest)
        s->soonest = item->expires;
    return MPE_OK;
}

/* The cells of the buckets in the chains; and their versions. */
static void
mark_buckets(struct mpe__cache_view *v)
{
    for (uint32_t k = 0; k < v->cache->buckets; k++) {
        struct mpe__cache_bucket *b = &v->buckets[k];
        uint32_t version = mpe__load32(&b->version);
        mpe__store32(&b->version, version + (version & 1));
        for (mpe__cell next; (next = mpe__load32(&b->next)) != 0; b = mpe__cell_at(v, next))
            mpe__cache_space_mark(v, next, 1);
    }
}

static void
rebuild(struct mpe__cache_view *v)
{
    struct mpe__cache_shard *s = v->shard;
    s->entries = s->items = s->handles = 0;
    s->soonest = MPE_FOREVER;
    memset(s->queues, 0, sizeof s->queues);
    mpe__cache_unlink_empty(v);
    mpe__cache_space_begin(v);
    mark_buckets(v);
    mpe__cache_each(v, recount, NULL);
    mpe__cache_space_finish(v);
}

static void
recover(mpe_engine *e, mpe_object *o, uint64_t lock_off)
{
    struct mpe__cache *c = mpe__cache_body(e, o);
    uint64_t first = mpe__offset(e, c->all);
    if (lock_off < first || lock_off >= first + c->shards * sizeof *c->all)
        return;
    struct mpe__cache_view v = mpe__cache_view_of(c,
                                                  (uint32_t)((lock_off - first) / sizeof *c->all));
    rebuild(&v);
}

static void
destroy(mpe_engine *e, mpe_object *o)
{
    struct mpe__cache *c = mpe__cache_body(e, o);
    for (uint32_t i = 0; i < c->shards; i++)
        mpe__cache_free_flights(e, &c->all[i]);
}

const struct mpe__kind mpe__cache_kind = {
    .body_bytes = 0,
    .recover = recover,
    .death = mpe__cache_death,
    .destroy = destroy,
    .scan = mpe__cache_scan,
    .measure = mpe__cache_measure,
};
