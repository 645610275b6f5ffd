/* SPDX-License-Identifier: MIT */
/* Caches: what leaves, in the manner of S3-FIFO (Yang et al., SOSP 2023). A new item enters the
 * small queue, which has a fifth of the shard. At the old end of it, an item that was read enters
 * the main queue, and one that was not leaves the cache: so a scan passes through the small queue
 * only. At the old end of the main queue an item that was read enters it again at the new end, with
 * one use less. A key that has left the small queue is remembered for a while, as a number of 32
 * bits: when it comes again, it enters the main queue.
 *
 * A read only counts a use in the entry, up to three, so a much-read item is not written to.
 *
 * The queues are lists under the lock of the shard, and derived: recovery makes them from the
 * entries, in another order.
 */
#include "objects/cache_int.h"

#define SMALL_PART 5u /* of the cells of a shard: what comes again later than that is new */

/* ---- queues ---- */

static struct mpe__cache_queue *
queue_of(struct mpe__cache_view *v, uint64_t word)
{
    return &v->shard->queues[word & MPE__ENTRY_MAIN ? MPE__CACHE_MAIN : MPE__CACHE_SMALL];
}

/* The cells of all runs. */
static uint32_t
cells_of(struct mpe__cache_view *v, const struct mpe__cache_item *item)
{
    uint32_t cells = item->cells;
    for (mpe__cell next = item->next; next;) {
        const struct mpe__cache_run *r = mpe__cell_at(v, next);
        cells += r->cells;
        next = r->next;
    }
    return cells;
}

static struct mpe__cache_item *
item_at(struct mpe__cache_view *v, mpe__cell cell)
{
    return cell ? mpe__cell_at(v, cell) : NULL;
}

void
mpe__cache_enqueue(struct mpe__cache_view *v, struct mpe__cache_item *item, uint64_t word)
{
    struct mpe__cache_queue *q = queue_of(v, word);
    mpe__cell cell = mpe__cell_of(v, item);
    item->newer = 0;
    item->older = q->newest;
    if (q->newest)
        item_at(v, q->newest)->newer = cell;
    else
        q->oldest = cell;
    q->newest = cell;
    q->cells += cells_of(v, item);
}

/* At the old end of the small queue: the next to leave. */
static void
enqueue_first(struct mpe__cache_view *v, struct mpe__cache_item *item)
{
    struct mpe__cache_queue *q = &v->shard->queues[MPE__CACHE_SMALL];
    mpe__cell cell = mpe__cell_of(v, item);
    item->older = 0;
    item->newer = q->oldest;
    if (q->oldest)
        item_at(v, q->oldest)->older = cell;
    else
        q->newest = cell;
    q->oldest = cell;
    q->cells += cells_of(v, item);
}

void
mpe__cache_dequeue(struct mpe__cache_view *v, struct mpe__cache_item *item, uint64_t word)
{
    struct mpe__cache_queue *q = queue_of(v, word);
    if (item->newer)
        item_at(v, item->newer)->older = item->older;
    else
        q->newest = item->older;
    if (item->older)
        item_at(v, item->older)->newer = item->newer;
    else
        q->oldest = item->newer;
    q->cells -= cells_of(v, item);
}

/* ---- ghosts ---- */

/* A table without chains: a newer ghost takes the place of an older one. 0 is none. */
static uint32_t *
ghost_at(struct mpe__cache_view *v, uint32_t bucket, uint32_t tag, uint32_t *ghost)
{
    *ghost = (bucket * 0x9E3779B1u ^ tag << 8) | 1;
    return &v->ghosts[((uint64_t)(*ghost * 0x85EBCA6Bu) * v->cache->ghosts) >> 32];
}

int
mpe__cache_was_ghost(struct mpe__cache_view *v, uint32_t bucket, uint32_t tag)
{
    uint32_t ghost, *at = ghost_at(v, bucket, tag, &ghost);
    if (*at != ghost)
        return 0;
    *at = 0;
    return 1;
}

/* ---- removing ---- */

static void
note_removed(mpe_engine *e, struct mpe__cache_view *v, const struct mpe__cache_item *item)
{
    mpe_buf b;
    uint32_t size = mpe__cache_value_size(item);
    mpe_buf_init(&b);
    if (mpe__cache_copy(v, item, item->key_size, size, &b) == MPE_OK)
        mpe__note_removed(e, b.data, b.len);
    else
        mpe__sweep_note(e, size);
    mpe_buf_free(&b);
}

void
mpe__cache_drop_item(mpe_engine *e, struct mpe__cache_view *v, struct mpe__cache_item *item)
{
    if (mpe__cache_has_handles(item))
        note_removed(e, v, item);
    mpe__cache_space_give(v, mpe__cell_of(v, item));
}

void
mpe__cache_remove_item(mpe_engine *e, struct mpe__cache_view *v, mpe__a64 *entry)
{
    struct mpe__cache_shard *s = v->shard;
    uint64_t word = mpe__load64(entry);
    struct mpe__cache_item *item = mpe__cell_at(v, MPE__ENTRY_CELL(word));
    uint32_t bucket = item->bucket;
    mpe__cache_set_entry(v, bucket, entry, 0);
    mpe__cache_dequeue(v, item, word);
    s->items--;
    s->entries -= !(word & MPE__ENTRY_EXPIRED);
    s->handles -= (uint32_t)mpe__cache_has_handles(item);
    mpe__cache_drop_item(e, v, item);
    mpe__cache_shorten(v, bucket);
}

void
mpe__cache_mark_expired(struct mpe__cache_view *v, mpe__a64 *entry)
{
    uint64_t word = mpe__load64(entry);
    struct mpe__cache_item *item = mpe__cell_at(v, MPE__ENTRY_CELL(word));
    mpe__cache_dequeue(v, item, word);
    word = (word & ~MPE__ENTRY_FLAGS) | MPE__ENTRY_EXPIRED;
    mpe__cache_set_entry(v, item->bucket, entry, word);
    enqueue_first(v, item);
    v->shard->entries--;
    v->shard->expired++;
}

/* ---- choosing ---- */

/* Moves an item to the new end of the main queue. */
static void
move_to_main(struct mpe__cache_view *v, struct mpe__cache_item *item, mpe__a64 *entry,
             uint64_t uses)
{
    uint64_t word = mpe__load64(entry);
    mpe__cache_dequeue(v, item, word);
    word = (word & ~MPE__ENTRY_FLAGS) | MPE__ENTRY_MAIN | uses * MPE__ENTRY_USED;
    mpe__store64(entry, word);
    mpe__cache_enqueue(v, item, word);
}

static void
evict_item(mpe_engine *e, struct mpe__cache_view *v, struct mpe__cache_item *item, mpe__a64 *entry,
           int is_old)
{
    uint64_t word = mpe__load64(entry);
    uint32_t ghost;
    if (!(word & MPE__ENTRY_EXPIRED) && is_old)
        v->shard->expired++;
    else if (!(word & MPE__ENTRY_EXPIRED))
        v->shard->evictions++;
    if (!is_old && !(word & MPE__ENTRY_MAIN)) {
        uint32_t *at = ghost_at(v, item->bucket, MPE__ENTRY_TAG(word), &ghost);
        *at = ghost;
    }
    mpe__cache_remove_item(e, v, entry);
}

/* Looks at the oldest item of a queue: removes it, or keeps it for its uses, if it may stay. 1: it
 * was removed. */
static int
evict_from(mpe_engine *e, struct mpe__cache_view *v, int from_main, uint64_t now, int may_stay)
{
    struct mpe__cache_item *item = item_at(v, v->shard->queues[from_main].oldest);
    mpe__a64 *entry = mpe__cache_entry_of(v, item);
    uint64_t uses = MPE__ENTRY_USES(mpe__load64(entry));
    int is_old = item->expires <= now;
    if (uses > 0 && !is_old && may_stay) {
        move_to_main(v, item, entry, from_main ? uses - 1 : 0);
        return 0;
    }
    evict_item(e, v, item, entry, is_old);
    return 1;
}

int
mpe__cache_evict(mpe_engine *e, struct mpe__cache_view *v)
{
    struct mpe__cache_queue *q = v->shard->queues;
    uint64_t now = v->shard->soonest == MPE_FOREVER ? 0 : mpe_now();
    uint32_t turns = (v->shard->items + 1) * 4; /* of all uses; readers may add some meanwhile */
    for (;; turns -= turns > 0) {
        uint32_t all = q[MPE__CACHE_SMALL].cells + q[MPE__CACHE_MAIN].cells;
        int from_main = q[MPE__CACHE_SMALL].cells < all / SMALL_PART || !q[MPE__CACHE_SMALL].oldest;
        if (from_main && !q[MPE__CACHE_MAIN].oldest)
            return 0;
        if (evict_from(e, v, from_main, now, turns > 0))
            return 1;
    }
}
