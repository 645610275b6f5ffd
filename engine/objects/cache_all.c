/* SPDX-License-Identifier: MIT */
/* Caches: calls on all keys. A clear is one store of the cache's epoch; then the shards are emptied
 * one by one, each by the next process that locks it and finds an older epoch there. Readers without
 * the lock compare the epochs too, so no process sees an item from before the clear.
 */
#include "objects/cache_int.h"

#include "objects/doors.h"

/* ---- clear ---- */

static void
clear_chain(struct mpe__cache_bucket *b)
{
    mpe__cache_begin_change(b);
    for (uint32_t i = 0; i < MPE__BUCKET_ENTRIES; i++)
        if (mpe__load64(&b->entries[i]))
            mpe__store64(&b->entries[i], 0);
    if (mpe__load32(&b->next))
        mpe__store32(&b->next, 0);
    mpe__cache_end_change(b);
}

void
mpe__cache_clear_shard(mpe_engine *e, struct mpe__cache_view *v, uint32_t epoch)
{
    struct mpe__cache_shard *s = v->shard;
    if (s->handles)
        mpe__sweep_note(e, v->cache->stride); /* what they name may be garbage */
    for (uint32_t k = 0; k < v->cache->buckets; k++)
        clear_chain(&v->buckets[k]);
    memset(v->ghosts, 0, v->cache->ghosts * sizeof *v->ghosts);
    memset(s->queues, 0, sizeof s->queues);
    s->entries = s->items = s->handles = 0;
    s->soonest = MPE_FOREVER;
    mpe__cache_space_reset(v);
    mpe__store32(&s->epoch, epoch);
}

void
mpe_cache_clear(mpe_engine *e, mpe_object *o)
{
    if (!mpe__admits(e, o, MPE__KIND(CACHE)))
        return;
    struct mpe__cache *c = mpe__cache_body(e, o);
    atomic_fetch_add(&c->epoch, 1); /* the commit */
    for (uint32_t i = 0; i < c->shards; i++) {
        struct mpe__cache_view v = mpe__cache_view_of(c, i);
        mpe__cache_lock(e, o, &v);
        mpe__cache_unlock(e, o, &v);
    }
}

/* ---- all items ---- */

/* Calls f for each entry of the cache, shard by shard under its lock, until it fails. */
static int
each_shard(mpe_engine *e, mpe_object *o, mpe__cache_each_fn *f, void *ud)
{
    struct mpe__cache *c = mpe__cache_body(e, o);
    int rc = MPE_OK;
    for (uint32_t i = 0; i < c->shards && rc == MPE_OK; i++) {
        struct mpe__cache_view v = mpe__cache_view_of(c, i);
        mpe__cache_lock(e, o, &v);
        rc = mpe__cache_each(&v, f, ud);
        mpe__cache_unlock(e, o, &v);
    }
    return rc;
}

struct listing {
    mpe_buf *out;
    uint64_t count, max, now;
};

enum { ENOUGH = 1 };

static int
list_key(struct mpe__cache_view *v, mpe__a64 *entry, void *ud)
{
    static const uint8_t zeros[8];
    struct listing *l = ud;
    struct mpe__cache_item *item = mpe__cell_at(v, MPE__ENTRY_CELL(mpe__load64(entry)));
    uint32_t sizes[2] = {item->key_size, 0};
    if (item->expires <= l->now)
        return MPE_OK;
    if (l->count == l->max)
        return ENOUGH;
    l->count++;
    int rc = mpe_buf_append(l->out, sizes, sizeof sizes);
    if (rc == MPE_OK)
        rc = mpe__cache_copy(v, item, 0, sizes[0], l->out);
    return rc == MPE_OK ? mpe_buf_append(l->out, zeros, -sizes[0] & 7) : rc;
}

int
mpe_cache_keys(mpe_engine *e, mpe_object *o, uint64_t max, mpe_buf *out, uint64_t *count)
{
    if (!out || !count)
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__KIND(CACHE)))
        return mpe__refusal(e, o, MPE__KIND(CACHE));
    mpe__buf_adopt(out, &e->memory);
    struct listing l = {.out = out, .max = max, .now = mpe_now()};
    int rc = each_shard(e, o, list_key, &l);
    if (rc < 0)
        return rc;
    *count = l.count;
    return MPE_OK;
}

/* ---- counts ---- */

static int
mark_if_expired(struct mpe__cache_view *v, mpe__a64 *entry, void *ud)
{
    uint64_t word = mpe__load64(entry), now = *(uint64_t *)ud;
    struct mpe__cache_item *item = mpe__cell_at(v, MPE__ENTRY_CELL(word));
    if (word & MPE__ENTRY_EXPIRED)
        return MPE_OK;
    if (item->expires <= now)
        mpe__cache_mark_expired(v, entry);
    else if (item->expires < v->shard->soonest)
        v->shard->soonest = item->expires;
    return MPE_OK;
}

static void
add_shard(struct mpe__cache_view *v, uint64_t now, mpe_cache_stats *sum)
{
    struct mpe__cache_shard *s = v->shard;
    if (s->soonest <= now) {
        s->soonest = MPE_FOREVER;
        mpe__cache_each(v, mark_if_expired, &now);
    }
    sum->entries += s->entries;
    sum->bytes += (uint64_t)(v->cache->cells - 1 - s->free_cells) * MPE__CELL_BYTES;
    sum->evictions += s->evictions;
    sum->expired += s->expired;
    sum->computed += s->computed;
    sum->waited += s->waited;
}

void
mpe_cache_stats_get(mpe_engine *e, mpe_object *o, mpe_cache_stats *out)
{
    if (!out || !mpe__admits(e, o, MPE__KIND(CACHE)))
        return;
    memset(out, 0, sizeof *out);
    struct mpe__cache *c = mpe__cache_body(e, o);
    uint64_t now = mpe_now();
    out->max_bytes = c->bytes;
    for (uint32_t i = 0; i < c->shards; i++) {
        struct mpe__cache_view v = mpe__cache_view_of(c, i);
        mpe__cache_lock(e, o, &v);
        add_shard(&v, now, out);
        mpe__cache_unlock(e, o, &v);
    }
    for (uint32_t i = 0; i < MPE__CACHE_COUNTERS; i++) {
        out->hits += mpe__load64(&c->counters[i].hits);
        out->misses += mpe__load64(&c->counters[i].misses);
    }
}

/* ---- moves ---- */

struct scan {
    int (*visit)(void *ud, uint64_t h);
    void *ud;
};

static int
scan_item(struct mpe__cache_view *v, mpe__a64 *entry, void *ud)
{
    struct scan *s = ud;
    struct mpe__cache_item *item = mpe__cell_at(v, MPE__ENTRY_CELL(mpe__load64(entry)));
    mpe_buf b;
    if (!mpe__cache_has_handles(item))
        return MPE_OK;
    mpe_buf_init(&b);
    int rc = mpe__cache_copy(v, item, item->key_size, mpe__cache_value_size(item), &b);
    if (rc == MPE_OK)
        mpe_wire_scan_handles(b.data, b.len, s->visit, s->ud);
    mpe_buf_free(&b);
    return MPE_OK;
}

void
mpe__cache_scan(mpe_engine *e, mpe_object *o, int (*visit)(void *ud, uint64_t h), void *ud)
{
    struct mpe__cache *c = mpe__cache_body(e, o);
    struct scan s = {visit, ud};
    for (uint32_t i = 0; i < c->shards; i++) {
        struct mpe__cache_view v = mpe__cache_view_of(c, i);
        mpe__cache_lock(e, o, &v);
        if (v.shard->handles)
            mpe__cache_each(&v, scan_item, &s);
        mpe__cache_scan_flights(e, v.shard, visit, ud);
        mpe__cache_unlock(e, o, &v);
    }
}

void
mpe__cache_measure(mpe_engine *e, mpe_object *o, uint64_t *depth, uint64_t *bytes)
{
    struct mpe__cache *c = mpe__cache_body(e, o);
    *bytes = *depth = 0; /* the body is counted for each kind */
    for (uint32_t i = 0; i < c->shards; i++)
        *depth += c->all[i].entries;
}
