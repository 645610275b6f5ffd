/* SPDX-License-Identifier: MIT */
/* Caches: reading a key, mostly without a lock, as dict_read.c does: the version of the chain is
 * even, and the same after the copy. The memory a reader follows may be given back and used again
 * under it. It never leaves the cells of the shard, and goes through no more pieces than the sizes
 * say, which it has checked before; a copy that was disturbed is thrown away.
 *
 * A hit writes to shared memory only while the item has less than three uses, and to the counters
 * of this process.
 */
#include "objects/cache_int.h"

#include "objects/doors.h"

#include <time.h>

#define TRIES 4

/* The thread sanitizer cannot know that an invalid copy is thrown away. */
#ifdef __SANITIZE_THREAD__
enum { READS_UNLOCKED = 0 };
#else
enum { READS_UNLOCKED = 1 };
#endif

enum { UNSURE = 1, NEEDS_LOCK };

/* Has no change begun since the version was read? Then everything read before is valid. */
static inline int
is_at(mpe__a32 *version, uint32_t was)
{
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(version, memory_order_relaxed) == was;
}

#define COARSE_NS (20 * 1000 * 1000ull) /* the coarse clock is less than this behind */

static int
has_expired(uint64_t expires)
{
    struct timespec t;
    if (MPE__LIKELY(expires == MPE_FOREVER))
        return 0;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    uint64_t now = (uint64_t)t.tv_sec * MPE_NS_PER_S + (uint64_t)t.tv_nsec;
    return expires <= now || (expires - now < COARSE_NS && expires <= mpe_now());
}

/* Copies the value of the item of an entry, if its key is this one. OK, ENOENT, ENOMEM, UNSURE,
 * NEEDS_LOCK. */
static int
copy_unlocked(const struct mpe__cache_view *v, uint64_t word, mpe_bytes key, mpe_buf *out,
              mpe__a32 *version, uint32_t was)
{
    if (MPE__ENTRY_CELL(word) >= v->cache->cells)
        return UNSURE;
    const struct mpe__cache_item *item = mpe__cell_at(v, MPE__ENTRY_CELL(word));
    __builtin_prefetch((const char *)item + MPE__CELL_BYTES); /* usually the value */
    if (!mpe__cache_is_key(v, item, key))
        return MPE_ENOENT;
    uint32_t size = item->value_size;
    uint64_t expires = item->expires;
    if (!is_at(version, was))
        return UNSURE;
    if (has_expired(expires))
        return word & MPE__ENTRY_EXPIRED ? MPE_ENOENT : NEEDS_LOCK;
    if (size & 1)
        return NEEDS_LOCK;
    int rc = mpe__cache_copy(v, item, key.size, size >> 1, out);
    return is_at(version, was) ? rc : UNSURE;
}

static inline void
count_use(mpe__a64 *entry, uint64_t word)
{
    if (MPE__ENTRY_USES(word) < 3)
        atomic_compare_exchange_strong_explicit(entry, &word, word + MPE__ENTRY_USED,
                                                memory_order_relaxed, memory_order_relaxed);
}

static int
read_unlocked(const struct mpe__cache_place *p, mpe_bytes key, mpe_buf *out)
{
    const struct mpe__cache_view *v = &p->v;
    struct mpe__cache_bucket *first = &v->buckets[p->bucket], *b = first;
    uint32_t was = mpe__load32(&first->version);
    if (was & 1 || mpe__load32(&v->shard->epoch) != mpe__load32(&v->cache->epoch))
        return UNSURE;
    for (uint32_t chain = 0; chain < v->cache->cells; chain++) {
        for (uint32_t i = 0; i < MPE__BUCKET_ENTRIES; i++) {
            uint64_t word = mpe__load64(&b->entries[i]);
            if (MPE__ENTRY_TAG(word) != p->tag || word == 0)
                continue;
            int rc = copy_unlocked(v, word, key, out, &first->version, was);
            if (rc == MPE_OK)
                count_use(&b->entries[i], word);
            if (rc != MPE_ENOENT)
                return rc;
        }
        mpe__cell next = mpe__load32(&b->next);
        if (!is_at(&first->version, was) || next >= v->cache->cells)
            return UNSURE;
        if (!next)
            return MPE_ENOENT;
        b = mpe__cell_at(v, next);
    }
    return UNSURE;
}

static int
read_locked(mpe_engine *e, mpe_object *o, struct mpe__cache_place *p, mpe_bytes key, mpe_buf *out)
{
    mpe__cache_lock(e, o, &p->v);
    mpe__cache_find(p, key);
    int rc = MPE_ENOENT;
    if (mpe__cache_is_fresh(p, mpe_now())) {
        rc = mpe__cache_copy_value(e, p, out);
        count_use(p->entry, mpe__load64(p->entry));
    }
    mpe__cache_unlock(e, o, &p->v);
    return rc;
}

/* Appends the value, without a lock: OK, ENOENT, ENOMEM; or UNSURE, and nothing is appended. */
static int
read_often(const struct mpe__cache_place *p, mpe_bytes key, mpe_buf *out)
{
    size_t before = out->len;
    int rc = UNSURE;
    for (int i = 0; i < TRIES && READS_UNLOCKED && rc == UNSURE; i++) {
        rc = read_unlocked(p, key, out);
        if (rc != MPE_OK)
            out->len = before;
    }
    return rc == MPE_ECORRUPT || rc == NEEDS_LOCK ? UNSURE : rc;
}

int
mpe_cache_get(mpe_engine *e, mpe_object *o, mpe_bytes key, mpe_buf *out)
{
    struct mpe__cache_place p;
    uint8_t small[MPE_WIRE_SCALAR_MAX];
    if (!out || mpe__lacks(key))
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__KIND(CACHE)))
        return mpe__refusal(e, o, MPE__KIND(CACHE));
    mpe__buf_adopt(out, &e->memory);
    key = mpe__key_of(key, small);
    mpe__cache_locate(e, o, key, &p);
    __builtin_prefetch(&p.v.buckets[p.bucket]);
    int rc = read_often(&p, key, out);
    if (MPE__UNLIKELY(rc == UNSURE))
        rc = read_locked(e, o, &p, key, out);
    if (rc == MPE_OK)
        mpe__cache_count_hit(e, p.v.cache);
    else if (rc == MPE_ENOENT)
        mpe__cache_count_miss(e, p.v.cache);
    return rc;
}
