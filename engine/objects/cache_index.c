/* SPDX-License-Identifier: MIT */
/* Caches: the index of a shard. A chain of buckets for each range of hashes: the first is in a
 * table, the others are cells. An entry is a word, whose store is what links, replaces or removes
 * an item; all else in a shard follows from the entries.
 *
 * Each chain has a version, in its first bucket, which is odd while the chain or one of its items
 * changes. The cells of an item are given back after that. So a reader without the lock sees that
 * the version was even and is still the same, and then what it has read between is genuine.
 */
#include "objects/cache_int.h"

#include "base/hash.h"

void
mpe__cache_locate(mpe_engine *e, mpe_object *o, mpe_bytes key, struct mpe__cache_place *p)
{
    struct mpe__cache *c = mpe__cache_body(e, o);
    uint64_t hash = mpe__hash(key.data, key.size, e->header->nonce);
    p->v = mpe__cache_view_of(c, (uint32_t)(hash >> 32) & (c->shards - 1));
    p->bucket = (uint32_t)((uint64_t)(uint32_t)hash * c->buckets >> 32);
    p->tag = (uint32_t)(hash >> 40);
}

/* ---- bytes in runs ---- */

/* A position in the bytes of an item. Without the lock any number may be garbage: then there are
 * no further pieces. */
struct cursor {
    const struct mpe__cache_view *v;
    uint8_t *at;
    uint64_t left; /* in this run */
    mpe__cell next;
};

static struct cursor
cursor_of(const struct mpe__cache_view *v, mpe__cell first, uint64_t head)
{
    struct cursor c = {.v = v};
    if (first >= v->cache->cells)
        return c;
    const struct mpe__cache_run *r = mpe__cell_at(v, first);
    uint32_t cells = r->cells;
    if (cells == 0 || cells > v->cache->cells - first)
        return c;
    c.at = (uint8_t *)mpe__cell_at(v, first) + head;
    c.left = (uint64_t)cells * MPE__CELL_BYTES - head;
    c.next = r->next;
    return c;
}

static struct cursor
item_cursor(const struct mpe__cache_view *v, const struct mpe__cache_item *item)
{
    return cursor_of(v, mpe__cell_of(v, item), MPE__CACHE_ITEM_HEAD);
}

/* The next contiguous piece of at most size bytes; 0: there is none. */
static uint64_t
next_piece(struct cursor *c, uint64_t size, uint8_t **piece)
{
    if (c->left == 0 && c->next)
        *c = cursor_of(c->v, c->next, sizeof(struct mpe__cache_run));
    if (size > c->left)
        size = c->left;
    *piece = c->at;
    c->at += size;
    c->left -= size;
    return size;
}

int
mpe__cache_is_key(const struct mpe__cache_view *v, const struct mpe__cache_item *item,
                  mpe_bytes key)
{
    struct cursor c = item_cursor(v, item);
    const uint8_t *at = key.data;
    uint64_t left = key.size, n;
    uint8_t *piece;
    if (item->key_size != key.size)
        return 0;
    for (; left > 0; left -= n, at += n)
        if ((n = next_piece(&c, left, &piece)) == 0 || memcmp(piece, at, n) != 0)
            return 0;
    return 1;
}

int
mpe__cache_copy(const struct mpe__cache_view *v, const struct mpe__cache_item *item, uint64_t from,
                uint64_t size, mpe_buf *out)
{
    struct cursor c = item_cursor(v, item);
    uint8_t *piece;
    uint64_t n;
    for (; from > 0; from -= n)
        if ((n = next_piece(&c, from, &piece)) == 0)
            return MPE_ECORRUPT;
    for (; size > 0; size -= n) {
        if ((n = next_piece(&c, size, &piece)) == 0)
            return MPE_ECORRUPT;
        if (mpe_buf_append(out, piece, n) != MPE_OK)
            return MPE_ENOMEM;
    }
    return MPE_OK;
}

static void
fill_from(struct cursor *c, mpe_bytes bytes)
{
    const uint8_t *at = bytes.data;
    uint64_t left = bytes.size, n;
    uint8_t *piece;
    for (; left > 0; left -= n, at += n) {
        if ((n = next_piece(c, left, &piece)) == 0)
            return;
        memcpy(piece, at, n);
    }
}

void
mpe__cache_fill(struct mpe__cache_view *v, struct mpe__cache_item *item, mpe_bytes key,
                mpe_bytes value)
{
    struct cursor c = item_cursor(v, item);
    fill_from(&c, key);
    fill_from(&c, value);
}

/* ---- chains; locked ---- */

static struct mpe__cache_bucket *
next_bucket(struct mpe__cache_view *v, struct mpe__cache_bucket *b)
{
    mpe__cell next = mpe__load32(&b->next);
    return next ? mpe__cell_at(v, next) : NULL;
}

void
mpe__cache_find(struct mpe__cache_place *p, mpe_bytes key)
{
    struct mpe__cache_bucket *b = &p->v.buckets[p->bucket];
    p->entry = p->vacant = NULL;
    p->item = NULL;
    for (; b; b = next_bucket(&p->v, b)) {
        p->last = b;
        for (uint32_t i = 0; i < MPE__BUCKET_ENTRIES; i++) {
            uint64_t word = mpe__load64(&b->entries[i]);
            if (word == 0 && !p->vacant)
                p->vacant = &b->entries[i];
            if (word == 0 || MPE__ENTRY_TAG(word) != p->tag)
                continue;
            struct mpe__cache_item *item = mpe__cell_at(&p->v, MPE__ENTRY_CELL(word));
            if (!mpe__cache_is_key(&p->v, item, key))
                continue;
            p->entry = &b->entries[i];
            p->item = item;
            return;
        }
    }
}

mpe__a64 *
mpe__cache_entry_of(struct mpe__cache_view *v, struct mpe__cache_item *item)
{
    mpe__cell cell = mpe__cell_of(v, item);
    struct mpe__cache_bucket *b = &v->buckets[item->bucket];
    for (; b; b = next_bucket(v, b))
        for (uint32_t i = 0; i < MPE__BUCKET_ENTRIES; i++) {
            uint64_t word = mpe__load64(&b->entries[i]);
            if (word != 0 && MPE__ENTRY_CELL(word) == cell)
                return &b->entries[i];
        }
    return NULL;
}

void
mpe__cache_begin_change(struct mpe__cache_bucket *first)
{
    mpe__store32(&first->version, mpe__load32(&first->version) | 1);
    atomic_thread_fence(memory_order_release);
}

void
mpe__cache_end_change(struct mpe__cache_bucket *first)
{
    mpe__store32(&first->version, (mpe__load32(&first->version) | 1) + 1);
}

void
mpe__cache_set_entry(struct mpe__cache_view *v, uint32_t bucket, mpe__a64 *entry, uint64_t word)
{
    mpe__cache_begin_change(&v->buckets[bucket]);
    mpe__store64(entry, word); /* the commit */
    mpe__cache_end_change(&v->buckets[bucket]);
}

int
mpe__cache_extend(struct mpe__cache_place *p)
{
    mpe__cell cell = mpe__cache_space_take_one(&p->v);
    if (!cell)
        return 0;
    struct mpe__cache_bucket *b = mpe__cell_at(&p->v, cell);
    memset(b, 0, sizeof *b);
    mpe__store32(&p->last->next, cell);
    p->vacant = &b->entries[0];
    return 1;
}

static int
is_empty(const struct mpe__cache_bucket *b)
{
    uint64_t any = 0;
    for (uint32_t i = 0; i < MPE__BUCKET_ENTRIES; i++)
        any |= mpe__load64(&b->entries[i]);
    return any == 0;
}

/* Takes the next bucket without entries out of a chain; 0: there is none. */
static mpe__cell
unlink_empty(struct mpe__cache_view *v, struct mpe__cache_bucket *first)
{
    struct mpe__cache_bucket *previous = first, *b;
    for (; (b = next_bucket(v, previous)); previous = b) {
        if (!is_empty(b))
            continue;
        mpe__cell cell = mpe__load32(&previous->next);
        mpe__cache_begin_change(first);
        mpe__store32(&previous->next, mpe__load32(&b->next));
        mpe__cache_end_change(first);
        return cell;
    }
    return 0;
}

void
mpe__cache_shorten(struct mpe__cache_view *v, uint32_t bucket)
{
    mpe__cell cell;
    while ((cell = unlink_empty(v, &v->buckets[bucket])))
        mpe__cache_space_give_one(v, cell);
}

void
mpe__cache_unlink_empty(struct mpe__cache_view *v)
{
    for (uint32_t k = 0; k < v->cache->buckets; k++)
        while (unlink_empty(v, &v->buckets[k]))
            ;
}

int
mpe__cache_each(struct mpe__cache_view *v, mpe__cache_each_fn *f, void *ud)
{
    for (uint32_t k = 0; k < v->cache->buckets; k++)
        for (struct mpe__cache_bucket *b = &v->buckets[k]; b; b = next_bucket(v, b))
            for (uint32_t i = 0; i < MPE__BUCKET_ENTRIES; i++) {
                int rc = mpe__load64(&b->entries[i]) ? f(v, &b->entries[i], ud) : MPE_OK;
                if (rc != MPE_OK)
                    return rc;
            }
    return MPE_OK;
}
