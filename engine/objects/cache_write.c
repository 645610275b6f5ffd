/* SPDX-License-Identifier: MIT */
/* Caches: changing one key, under the lock of its shard. The new item is written into free cells,
 * which nothing names; the store of its entry links it, in place of an older one, and is the
 * commit. Then the queues and counts follow, and the cells of the older one become free. A death in
 * between leaves the index as it was or as it becomes, and the rest is made anew from it: see
 * rebuild in cache.c.
 */
#include "objects/cache_int.h"

#include "objects/doors.h"

/* ---- shards ---- */

/* Read after the lock was released, and set before it is tried: one of the two sees the other. */
static int
has_dead(const struct mpe__cache_shard *s)
{
    uint64_t any = 0;
    for (uint32_t i = 0; i < MPE__SLOT_WORDS; i++)
        any |= atomic_load(&s->dead.bits[i]);
    return any != 0;
}

void
mpe__cache_lock(mpe_engine *e, mpe_object *o, struct mpe__cache_view *v)
{
    mpe__ilock(e, &v->shard->lock, mpe__index_of(e, o));
    uint32_t epoch = mpe__load32(&v->cache->epoch);
    if (MPE__UNLIKELY(has_dead(v->shard)))
        mpe__cache_settle_flights(e, o, v->shard);
    if (MPE__UNLIKELY(mpe__load32(&v->shard->epoch) != epoch))
        mpe__cache_clear_shard(e, v, epoch);
}

void
mpe__cache_unlock(mpe_engine *e, mpe_object *o, struct mpe__cache_view *v)
{
    mpe__iunlock(e, &v->shard->lock);
    if (MPE__UNLIKELY(has_dead(v->shard)))
        mpe__cache_settle_if_free(e, o, v->shard);
}

void
mpe__cache_settle_if_free(mpe_engine *e, mpe_object *o, struct mpe__cache_shard *s)
{
    while (has_dead(s) && mpe__ilock_try(e, &s->lock, mpe__index_of(e, o))) {
        mpe__cache_settle_flights(e, o, s);
        mpe__iunlock(e, &s->lock);
    }
}

static void
lock_key(mpe_engine *e, mpe_object *o, mpe_bytes key, struct mpe__cache_place *p)
{
    mpe__cache_locate(e, o, key, p);
    mpe__cache_lock(e, o, &p->v);
    mpe__cache_find(p, key);
}

/* ---- items; locked ---- */

uint64_t
mpe__cache_expiry(struct mpe__cache *c, uint64_t ttl)
{
    uint64_t now;
    if (ttl == 0)
        ttl = c->ttl;
    if (ttl == MPE_FOREVER)
        return MPE_FOREVER;
    now = mpe_now();
    return ttl < MPE_FOREVER - now ? now + ttl : MPE_FOREVER;
}

int
mpe__cache_is_fresh(struct mpe__cache_place *p, uint64_t now)
{
    if (!p->item || mpe__load64(p->entry) & MPE__ENTRY_EXPIRED)
        return 0;
    if (p->item->expires > now)
        return 1;
    mpe__cache_mark_expired(&p->v, p->entry);
    return 0;
}

int
mpe__cache_copy_value(mpe_engine *e, struct mpe__cache_place *p, mpe_buf *out)
{
    size_t before = out->len;
    int rc = mpe__cache_copy(&p->v, p->item, p->item->key_size, mpe__cache_value_size(p->item),
                             out);
    if (rc == MPE_OK && mpe__cache_has_handles(p->item))
        mpe__pin_handles(e, out->data + before, out->len - before);
    return rc;
}

/* Takes cells for an item, once enough others have left. 0: it is larger than a shard. */
static struct mpe__cache_item *
make_room(mpe_engine *e, struct mpe__cache_view *v, uint64_t bytes)
{
    mpe__cell cell;
    uint64_t cells = mpe__cells_for(MPE__CACHE_ITEM_HEAD + bytes);
    if (cells > v->cache->cells - 1)
        return NULL;
    while ((cell = mpe__cache_space_take(v, bytes)) == 0)
        if (!mpe__cache_evict(e, v))
            return NULL;
    return mpe__cell_at(v, cell);
}

/* Finds the key again, with an entry for it. The chain may have changed, as items have left. */
static int
make_entry(mpe_engine *e, struct mpe__cache_place *p, mpe_bytes key)
{
    for (;;) {
        mpe__cache_find(p, key);
        if (p->entry || p->vacant || mpe__cache_extend(p))
            return 1;
        if (!mpe__cache_evict(e, &p->v))
            return 0;
    }
}

/* The flags of the entry of an item that is stored: one that replaces another keeps its queue, and
 * counts as used. */
static uint64_t
flags_of(struct mpe__cache_place *p, uint64_t before)
{
    uint64_t uses = MPE__ENTRY_USES(before);
    if (before == 0 || before & MPE__ENTRY_EXPIRED)
        return mpe__cache_was_ghost(&p->v, p->bucket, p->tag) ? MPE__ENTRY_MAIN : 0;
    return (before & MPE__ENTRY_MAIN) | (uses < 3 ? uses + 1 : uses) * MPE__ENTRY_USED;
}

/* Links an item that is complete, in place of the present one of its key. */
static void
link_item(mpe_engine *e, struct mpe__cache_place *p, struct mpe__cache_item *item)
{
    struct mpe__cache_view *v = &p->v;
    struct mpe__cache_shard *s = v->shard;
    mpe__a64 *entry = p->entry ? p->entry : p->vacant;
    uint64_t before = mpe__load64(entry);
    uint64_t word = mpe__cell_of(v, item) | (uint64_t)p->tag << 32 | flags_of(p, before);
    mpe__cache_set_entry(v, p->bucket, entry, word);
    if (p->entry) {
        mpe__cache_dequeue(v, p->item, before);
        s->items--;
        s->entries -= !(before & MPE__ENTRY_EXPIRED);
        s->handles -= (uint32_t)mpe__cache_has_handles(p->item);
        mpe__cache_drop_item(e, v, p->item);
    }
    mpe__cache_enqueue(v, item, word);
    s->items++;
    s->entries++;
    s->handles += (uint32_t)mpe__cache_has_handles(item);
    if (item->expires < s->soonest)
        s->soonest = item->expires;
    p->entry = entry;
    p->item = item;
}

int
mpe__cache_store(mpe_engine *e, struct mpe__cache_place *p, mpe_bytes key, mpe_bytes value,
                 int handles, uint64_t expires)
{
    if (key.size > INT32_MAX || value.size > INT32_MAX)
        return MPE_ERANGE;
    struct mpe__cache_item *item = make_room(e, &p->v, (uint64_t)key.size + value.size);
    if (!item)
        return MPE_ERANGE;
    item->expires = expires;
    item->bucket = p->bucket;
    item->key_size = (uint32_t)key.size;
    item->value_size = (uint32_t)value.size << 1 | (handles != 0);
    mpe__cache_fill(&p->v, item, key, value);
    if (make_entry(e, p, key)) {
        link_item(e, p, item);
        return MPE_OK;
    }
    mpe__cache_space_give(&p->v, mpe__cell_of(&p->v, item));
    return MPE_ERANGE;
}

/* ---- calls ---- */

int
mpe_cache_put(mpe_engine *e, mpe_object *o, mpe_bytes key, mpe_bytes value, int handles,
              uint64_t ttl, enum mpe_cache_put how)
{
    struct mpe__cache_place p;
    uint8_t small[MPE_WIRE_SCALAR_MAX];
    if (mpe__lacks(key) || mpe__lacks(value))
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__KIND(CACHE)))
        return mpe__refusal(e, o, MPE__KIND(CACHE));
    if (handles)
        mpe__note_stored(e, o, value.data, value.size);
    key = mpe__key_of(key, small);
    uint64_t expires = mpe__cache_expiry(mpe__cache_body(e, o), ttl);
    lock_key(e, o, key, &p);
    int rc = MPE_OK;
    if (how != MPE_CACHE_SET) {
        int is_there = mpe__cache_is_fresh(&p, mpe_now());
        if (is_there != (how == MPE_CACHE_REPLACE))
            rc = is_there ? MPE_EEXIST : MPE_ENOENT;
    }
    if (rc == MPE_OK)
        rc = mpe__cache_store(e, &p, key, value, handles, expires);
    mpe__cache_unlock(e, o, &p.v);
    return rc;
}

int
mpe_cache_remove(mpe_engine *e, mpe_object *o, mpe_bytes key)
{
    struct mpe__cache_place p;
    uint8_t small[MPE_WIRE_SCALAR_MAX];
    if (mpe__lacks(key))
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__KIND(CACHE)))
        return mpe__refusal(e, o, MPE__KIND(CACHE));
    lock_key(e, o, mpe__key_of(key, small), &p);
    int rc = mpe__cache_is_fresh(&p, mpe_now()) ? MPE_OK : MPE_ENOENT;
    if (p.entry)
        mpe__cache_remove_item(e, &p.v, p.entry);
    mpe__cache_unlock(e, o, &p.v);
    return rc;
}

int
mpe_cache_touch(mpe_engine *e, mpe_object *o, mpe_bytes key, uint64_t ttl)
{
    struct mpe__cache_place p;
    uint8_t small[MPE_WIRE_SCALAR_MAX];
    if (mpe__lacks(key))
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__KIND(CACHE)))
        return mpe__refusal(e, o, MPE__KIND(CACHE));
    uint64_t expires = mpe__cache_expiry(mpe__cache_body(e, o), ttl);
    lock_key(e, o, mpe__key_of(key, small), &p);
    int rc = mpe__cache_is_fresh(&p, mpe_now()) ? MPE_OK : MPE_ENOENT;
    if (rc == MPE_OK) {
        struct mpe__cache_bucket *first = &p.v.buckets[p.bucket];
        if (expires < p.v.shard->soonest)
            p.v.shard->soonest = expires;
        mpe__cache_begin_change(first);
        p.item->expires = expires;
        mpe__cache_end_change(first);
    }
    mpe__cache_unlock(e, o, &p.v);
    return rc;
}

int
mpe_cache_ttl(mpe_engine *e, mpe_object *o, mpe_bytes key, uint64_t *ttl)
{
    struct mpe__cache_place p;
    uint8_t small[MPE_WIRE_SCALAR_MAX];
    if (!ttl || mpe__lacks(key))
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__KIND(CACHE)))
        return mpe__refusal(e, o, MPE__KIND(CACHE));
    lock_key(e, o, mpe__key_of(key, small), &p);
    uint64_t now = mpe_now();
    int rc = mpe__cache_is_fresh(&p, now) ? MPE_OK : MPE_ENOENT;
    if (rc == MPE_OK)
        *ttl = p.item->expires == MPE_FOREVER ? MPE_FOREVER : p.item->expires - now;
    mpe__cache_unlock(e, o, &p.v);
    return rc;
}

/* The value after the edit, which keeps its time when there was one. */
static int
edit_place(mpe_engine *e, struct mpe__cache_place *p, mpe_bytes key, uint64_t expires,
           mpe_edit_fn edit, void *ud)
{
    mpe_buf old;
    uint8_t bytes[16];
    size_t size = 0;
    int is_there = mpe__cache_is_fresh(p, mpe_now()), rc = MPE_OK;
    mpe_buf_init(&old);
    if (is_there)
        rc = mpe__cache_copy(&p->v, p->item, p->item->key_size, mpe__cache_value_size(p->item),
                             &old);
    if (rc == MPE_OK)
        rc = edit(is_there ? old.data : NULL, old.len, bytes, &size, ud);
    mpe_buf_free(&old);
    if (rc != MPE_OK)
        return rc;
    return mpe__cache_store(e, p, key, (mpe_bytes){bytes, size}, 0,
                            is_there ? p->item->expires : expires);
}

int
mpe_cache_edit(mpe_engine *e, mpe_object *o, mpe_bytes key, uint64_t ttl, mpe_edit_fn edit,
               void *ud)
{
    struct mpe__cache_place p;
    uint8_t small[MPE_WIRE_SCALAR_MAX];
    if (!edit || mpe__lacks(key))
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__KIND(CACHE)))
        return mpe__refusal(e, o, MPE__KIND(CACHE));
    key = mpe__key_of(key, small);
    uint64_t expires = mpe__cache_expiry(mpe__cache_body(e, o), ttl);
    lock_key(e, o, key, &p);
    int rc = edit_place(e, &p, key, expires, edit, ud);
    mpe__cache_unlock(e, o, &p.v);
    return rc;
}
