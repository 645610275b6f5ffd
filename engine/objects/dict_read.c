/* Dicts: finding, and reading one key.
 *
 * A reader takes no lock as long as the contents of the stripe's table, and the value it reads,
 * do not change: it reads their versions, sees that they are even, copies, and checks whether
 * they are still the same. A writer that intervened has raised one of them before its first
 * change, and before anything was freed. So the memory a reader follows may be freed and reused
 * under it, and its copy may be garbage that is thrown away; it never goes further than a
 * genuine node and a bounded number of bytes from there. It writes nothing shared, so readers do
 * not disturb other processes. In all other cases it takes the lock.
 *
 * Order: the stores of a change release, so what is seen of it shows its version; is_at has the fence for
 * the reader. What is written into memory that was given back comes after the swap of its owner word.
 */
#include "objects/dict_int.h"

#include "base/hash.h"
#include "objects/doors.h"

#include <string.h>

#define UNLOCKED_MAX 1024u /* bytes of a value that is copied without the lock */

/* The thread sanitizer cannot know that an invalid copy is thrown away. */
#ifdef __SANITIZE_THREAD__
enum { READS_UNLOCKED = 0 };
#else
enum { READS_UNLOCKED = 1 };
#endif

enum { UNSURE = 1 };

void
mpe__dict_locate(mpe_engine *e, mpe_object *o, mpe_bytes key, struct mpe__dict_place *p)
{
    p->hash = (uint32_t)mpe__hash(key.data, key.size, e->header->nonce);
    mpe__dict_stripe_at(e, o, p->hash % MPE__DICT_STRIPES, p);
}

/* The first entry is prefetched while the caller does the rest. */
static inline mpe__a64 *
first_entry(mpe_engine *e, struct mpe__dict_place *p)
{
    p->table = mpe__dict_table_of(e, mpe__load64(&p->root->table));
    return p->table.entries + (p->hash / MPE__DICT_STRIPES & p->table.mask);
}

static inline int
is_key(const struct mpe__dict_node *n, mpe_bytes key)
{
    return n->key_size == key.size && (key.size == 0 || memcmp(n->bytes, key.data, key.size) == 0);
}

void
mpe__dict_find(mpe_engine *e, struct mpe__dict_place *p, mpe_bytes key)
{
    p->table = mpe__dict_table_of(e, mpe__load64(&p->root->table));
    p->entry = p->vacant = NULL;
    p->node = NULL;
    if (!p->table.entries)
        return;
    for (uint32_t i = p->hash / MPE__DICT_STRIPES;; i++) {
        mpe__a64 *entry = &p->table.entries[i & p->table.mask];
        uint64_t word = mpe__load64(entry);
        if (!mpe__dict_in_use(word)) {
            if (!p->vacant)
                p->vacant = entry;
            if (word == MPE__DICT_EMPTY)
                return;
            continue;
        }
        if (word >> 32 != p->hash)
            continue;
        struct mpe__dict_node *n = mpe__at(e, mpe__dict_node_offset(word));
        if (!is_key(n, key))
            continue;
        p->entry = entry;
        p->node = n;
        return;
    }
}

int
mpe__dict_copy_value(mpe_engine *e, struct mpe__dict_node *n, mpe_buf *out)
{
    uint8_t *value = mpe__dict_value(n);
    uint32_t size = mpe__dict_value_size(n);
    if (mpe_buf_append(out, value, size) != MPE_OK)
        return MPE_ENOMEM;
    if (mpe__dict_has_handles(n))
        mpe__pin_handles(e, value, size);
    return MPE_OK;
}

/* ---- without the lock ---- */

/* Has no change begun since the word had that value? Then everything read before is valid. */
static inline int
is_at(mpe__a64 *word, uint64_t was)
{
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(word, memory_order_relaxed) == was;
}

/* Copies the value at the offset, if its key is this one, to out, and gives the node's head: OK,
 * ENOENT, ENOMEM, UNSURE. */
static inline int
copy_unlocked(mpe_engine *e, uint64_t off, mpe_bytes key, mpe_buf *out, uint64_t *head)
{
    struct mpe__dict_node *n = mpe__at(e, off);
    if (off + mpe__dict_node_size(key.size, UNLOCKED_MAX) > e->header->map_bytes)
        return UNSURE;
    __builtin_prefetch((const char *)n + 64); /* usually the value */
    *head = mpe__load64(&n->head);
    if (!is_key(n, key))
        return MPE_ENOENT;
    uint32_t size = (uint32_t)*head >> 1;
    if (*head >> 32 & 1)
        return UNSURE;
    if (!out)
        return MPE_OK;
    if (*head & 1 || size > UNLOCKED_MAX)
        return UNSURE;
    int rc = mpe_buf_append(out, n->bytes + key.size, size);
    return is_at(&n->head, *head) ? rc : UNSURE;
}

/* The value of the key to the end of out, which may be NULL. OK, ENOENT, ENOMEM; or UNSURE, with
 * anything at the end of out. */
static int
read_unlocked(mpe_engine *e, struct mpe__dict *d, struct mpe__dict_place *p, mpe_bytes key,
              mpe_buf *out, uint64_t *version)
{
    struct mpe__dict_root *r = p->root;
    uint64_t was = mpe__load64(&r->version), head;
    if (was & 1 || mpe__load64(&d->pending) & MPE__DICT_DUE)
        return UNSURE;
    struct mpe__dict_table t = mpe__dict_table_of(e, mpe__load64(&r->table));
    uint32_t i = p->hash / MPE__DICT_STRIPES;
    for (uint64_t looked = 0; t.entries && looked <= t.mask; looked++, i++) {
        uint64_t word = mpe__load64(&t.entries[i & t.mask]);
        if (word == MPE__DICT_EMPTY)
            break;
        if (word >> 32 != p->hash || word == MPE__DICT_DELETED)
            continue;
        if (!is_at(&r->version, was))
            return UNSURE;
        int rc = copy_unlocked(e, mpe__dict_node_offset(word), key, out, &head);
        *version = mpe__dict_version(was, head);
        if (rc != MPE_ENOENT)
            return is_at(&r->version, was) ? rc : UNSURE;
    }
    *version = mpe__dict_version(was, 0);
    return is_at(&r->version, was) ? MPE_ENOENT : UNSURE;
}

/* ---- with the lock ---- */

static int
read_locked(mpe_engine *e, mpe_object *o, struct mpe__dict_place *p, mpe_bytes key, mpe_buf *out,
            uint64_t *version)
{
    struct mpe__dict *d = mpe__dict_body(e, o);
    for (;;) {
        mpe__ilock(e, &p->stripe->lock, mpe__index_of(e, o));
        if (MPE__LIKELY(!(mpe__load64(&d->pending) & MPE__DICT_DUE)))
            break;
        mpe__iunlock(e, &p->stripe->lock);
        mpe__dict_settle(e, o);
    }
    mpe__dict_find(e, p, key);
    int rc = p->node ? MPE_OK : MPE_ENOENT;
    if (p->node && out)
        rc = mpe__dict_copy_value(e, p->node, out);
    *version = mpe__dict_version_at(p);
    mpe__iunlock(e, &p->stripe->lock);
    return rc;
}

static int
read_key(mpe_engine *e, mpe_object *o, mpe_bytes key, mpe_buf *out, uint64_t *version)
{
    struct mpe__dict_place p;
    uint64_t seen;
    size_t before = out ? out->len : 0;
    mpe__dict_locate(e, o, key, &p);
    __builtin_prefetch(first_entry(e, &p));
    int rc = READS_UNLOCKED ? read_unlocked(e, mpe__dict_body(e, o), &p, key, out, &seen) : UNSURE;
    if (MPE__UNLIKELY(rc == UNSURE)) {
        if (out)
            out->len = before;
        rc = read_locked(e, o, &p, key, out, &seen);
    }
    if (version)
        *version = seen;
    return rc;
}

/* Apart, so that the other keys need no memory of this frame. */
MPE__COLD static int
read_float_key(mpe_engine *e, mpe_object *o, mpe_bytes key, mpe_buf *out, uint64_t *version)
{
    uint8_t small[MPE_WIRE_SCALAR_MAX];
    return read_key(e, o, mpe__whole_key(key, small), out, version);
}

int
mpe_dict_get(mpe_engine *e, mpe_object *o, mpe_bytes key, mpe_buf *out, uint64_t *version)
{
    if (!out || mpe__lacks(key))
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__KIND(DICT)))
        return mpe__refusal(e, o, MPE__KIND(DICT));
    mpe__buf_adopt(out, &e->memory);
    if (mpe__is_float_key(key))
        return read_float_key(e, o, key, out, version);
    return read_key(e, o, key, out, version);
}

int
mpe_dict_has(mpe_engine *e, mpe_object *o, mpe_bytes key)
{
    if (mpe__lacks(key) || !mpe__admits(e, o, MPE__KIND(DICT)))
        return 0;
    if (mpe__is_float_key(key))
        return read_float_key(e, o, key, NULL, NULL) == MPE_OK;
    return read_key(e, o, key, NULL, NULL) == MPE_OK;
}
