/* Dicts: 32 stripes, each an open-addressed table of nodes under an intent lock of its own, so
 * different keys rarely contend. A node holds key and value; a table entry holds the hash and
 * the place of the node, so a look-up touches only the entry and its node.
 *
 * A value that fits into the node of the previous one is written over it. Of the shared memory
 * this changes only the line of the lock and the node, which no look-up of another key reads.
 *
 *   dict_read.c    finding, and reading one key, mostly without the lock
 *   dict_write.c   changing one key; tables that grow and shrink
 *   dict_all.c     many keys at once: update, clear, snapshot, what a sweep looks at
 *   dict.c         making, freeing, repairing
 *
 * Insert, delete, grow, and replacing a node: one store each, announced in the operation record,
 * which frees the replaced block. Writing over a value: one store, which commits the redo record
 * (core/death.c). Counts of a stripe are derived, and recounted by recovery.
 *
 * A root has a version of the table's contents, a node one of its value; both together are that
 * of a key. They are odd during a change, for readers without the lock; recovery makes them
 * even.
 *
 * Update and clear commit by one store of the dict's pending word. Readers and writers that find
 * it due carry it out first, so it is one step for all, and after a death the next one finishes
 * it: see dict_all.c.
 */
#include "objects/dict_int.h"
#include "objects/doors.h"
#include "objects/seen.h"

#include <string.h>

int
mpe_dict_create(mpe_engine *e, mpe_object **out)
{
    if (!out)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    return mpe__object_create(e, MPE_KIND_DICT, out);
}

uint64_t
mpe_dict_count(mpe_engine *e, mpe_object *o)
{
    if (!mpe__admits(e, o, MPE__KIND(DICT)))
        return 0;
    if (mpe__load64(&mpe__dict_body(e, o)->pending) & MPE__DICT_DUE)
        mpe__dict_settle(e, o);
    return mpe__dict_count_seen(e, o);
}

uint64_t
mpe__dict_count_seen(mpe_engine *e, const mpe_object *o)
{
    struct mpe__dict *d = mpe__dict_body(e, o);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < MPE__DICT_STRIPES; i++)
        sum += mpe__load32(&d->stripes[i].count);
    return sum;
}

mpe_bytes
mpe__whole_key(mpe_bytes key, uint8_t small[MPE_WIRE_SCALAR_MAX])
{
    uint64_t bits;
    double v;
    memcpy(&bits, (const uint8_t *)key.data + 1, sizeof bits);
    bits = mpe_wire_le64(bits);
    memcpy(&v, &bits, sizeof v);
    if (!(v >= -0x1p63 && v < 0x1p63) || v != (double)(int64_t)v)
        return key;
    uint8_t *end = mpe_wire_write_int(small, (int64_t)v);
    return (mpe_bytes){small, (size_t)(end - small)};
}

static void
recover(mpe_engine *e, mpe_object *o, uint64_t lock_off)
{
    struct mpe__dict *d = mpe__dict_body(e, o);
    uint64_t first = mpe__offset(e, d->stripes);
    if (lock_off < first || lock_off >= first + sizeof d->stripes)
        return;
    struct mpe__dict_place p;
    mpe__dict_stripe_at(e, o, (uint32_t)((lock_off - first) / sizeof *p.stripe), &p);
    uint64_t word = mpe__load64(&p.root->table), version = mpe__load64(&p.root->version);
    struct mpe__dict_table t = mpe__dict_table_of(e, word);
    uint32_t count = 0, deleted = 0;
    for (uint64_t k = 0; k < mpe__dict_table_length(word); k++) {
        uint64_t entry = mpe__load64(&t.entries[k]);
        count += (uint32_t)mpe__dict_in_use(entry);
        deleted += entry == MPE__DICT_DELETED;
    }
    mpe__store32(&p.stripe->count, count);
    mpe__store32(&p.stripe->deleted, deleted);
    mpe__store64(&p.root->version, version + (version & 1));
}

static int
free_node(mpe_engine *e, uint64_t off, void *ud)
{
    (void)ud;
    mpe__free(e, off);
    return MPE_OK;
}

static void
destroy(mpe_engine *e, mpe_object *o)
{
    struct mpe__dict *d = mpe__dict_body(e, o);
    mpe__dict_settle(e, o);
    uint64_t count = mpe_dict_count(e, o);
    for (uint32_t i = 0; i < MPE__DICT_STRIPES; i++) {
        uint64_t word = mpe__load64(&d->roots[i].table);
        mpe__dict_each_node(e, &d->roots[i], free_node, NULL);
        if (word)
            mpe__free(e, mpe__dict_table_offset(word));
    }
    if (count > 1000)
        mpe__trim(e);
}

const struct mpe__kind mpe__dict_kind = {
    .body_bytes = sizeof(struct mpe__dict),
    .recover = recover,
    .destroy = destroy,
    .scan = mpe__dict_scan,
    .measure = mpe__dict_measure,
};
