/* Dicts: operations on many keys, under the freeze lock. Writers check it after taking their
 * stripe, so a write that began before is part of a snapshot and one that begins later waits.
 *
 * An update lists a batch in the pending word, makes its nodes, each linked to the batch as it
 * is made, and the room they need. Then one store turns the word from LISTED to DUE, and from
 * then on nothing can fail: node after node goes into the tables. A clear is the word DUE with
 * no batch. A process that finds LISTED or DUE settles it, under the freeze lock, before it goes
 * on:
 *
 *   death while LISTED      nodes and batch are the dict's, found by the word, and freed
 *   death while DUE         what is not yet done is done; a node that is linked is left alone
 *
 * The recovery of the freeze lock itself does nothing: a reaper may hold a stripe.
 */
#include "objects/dict_int.h"

#include "core/trace.h"
#include "objects/doors.h"

#include <string.h>

/* ---- the pending operation; freeze is held ---- */

static struct mpe__dict_batch *
batch_of(mpe_engine *e, uint64_t pending)
{
    uint64_t off = pending & ~15ull;
    return off ? mpe__at(e, off) : NULL;
}

/* Clears pending; the batch is freed. */
static void
forget(mpe_engine *e, mpe_object *o)
{
    struct mpe__dict *d = mpe__dict_body(e, o);
    struct mpe__change c = {.object = o,
                            .link = &d->pending,
                            .value = 0,
                            .old_block = {mpe__load64(&d->pending) & ~15ull}};
    mpe__commit_change(e, &c);
}

/* Frees the nodes of a batch that did not happen. */
static void
drop_nodes(mpe_engine *e, mpe_object *o, struct mpe__dict_batch *b)
{
    for (uint64_t i = 0; i < b->count; i++) {
        struct mpe__change c = {.object = o,
                                .link = &b->nodes[i],
                                .value = 0,
                                .old_block = {mpe__load64(&b->nodes[i])}};
        if (c.old_block[0])
            mpe__commit_change(e, &c);
    }
}

/* Makes the node that of its key. It may be already: its linker died. */
static void
link_node(mpe_engine *e, mpe_object *o, uint64_t off)
{
    struct mpe__dict_node *n = mpe__at(e, off);
    mpe_bytes key = {n->bytes, n->key_size};
    struct mpe__dict_place p;
    mpe__dict_locate(e, o, key, &p);
    mpe__ilock(e, &p.stripe->lock, mpe__index_of(e, o));
    mpe__dict_find(e, &p, key);
    if (p.node != n)
        mpe__dict_link(e, o, &p, off);
    mpe__iunlock(e, &p.stripe->lock);
}

static void
link_nodes(mpe_engine *e, mpe_object *o, struct mpe__dict_batch *b)
{
    for (uint64_t i = 0; i < b->count; i++) {
        uint64_t off = mpe__load64(&b->nodes[i]);
        if (off)
            link_node(e, o, off);
        mpe__store64(&b->nodes[i], 0);
    }
}

static void
clear_stripes(mpe_engine *e, mpe_object *o)
{
    for (uint32_t i = 0; i < MPE__DICT_STRIPES; i++) {
        struct mpe__dict_place p;
        mpe__dict_stripe_at(e, o, i, &p);
        mpe__ilock(e, &p.stripe->lock, mpe__index_of(e, o));
        mpe__dict_clear_stripe(e, o, &p);
        mpe__iunlock(e, &p.stripe->lock);
    }
}

/* Completes the pending operation, begun by this process or by a dead one. */
static void
finish(mpe_engine *e, mpe_object *o)
{
    uint64_t pending = mpe__load64(&mpe__dict_body(e, o)->pending);
    struct mpe__dict_batch *b = batch_of(e, pending);
    if (b && pending & MPE__DICT_DUE)
        link_nodes(e, o, b);
    else if (b)
        drop_nodes(e, o, b);
    else
        clear_stripes(e, o);
    forget(e, o);
}

void
mpe__dict_freeze(mpe_engine *e, mpe_object *o)
{
    struct mpe__dict *d = mpe__dict_body(e, o);
    mpe__ilock(e, &d->freeze, mpe__index_of(e, o));
    if (mpe__load64(&d->pending))
        finish(e, o);
}

void
mpe__dict_thaw(mpe_engine *e, mpe_object *o)
{
    mpe__iunlock(e, &mpe__dict_body(e, o)->freeze);
}

void
mpe__dict_settle(mpe_engine *e, mpe_object *o)
{
    mpe__dict_freeze(e, o);
    mpe__dict_thaw(e, o);
}

/* ---- update and clear ---- */

/* One record of a snapshot or an update. */
struct record {
    mpe_bytes key, value;
};

static struct record
next_record(const uint8_t **p)
{
    uint32_t sizes[2];
    memcpy(sizes, *p, sizeof sizes);
    const uint8_t *key = *p + sizeof sizes, *value = key + sizes[0];
    *p += sizeof sizes + (((uint64_t)sizes[0] + sizes[1] + 7) & ~7ull);
    return (struct record){{key, sizes[0]}, {value, sizes[1]}};
}

/* Lists an empty batch. */
static int
list_batch(mpe_engine *e, mpe_object *o, uint64_t count)
{
    uint64_t off;
    int rc = mpe__alloc_zeroed(e, sizeof(struct mpe__dict_batch) + count * sizeof(uint64_t), &off);
    if (rc != MPE_OK)
        return rc;
    ((struct mpe__dict_batch *)mpe__at(e, off))->count = count;
    struct mpe__change c = {.object = o,
                            .link = &mpe__dict_body(e, o)->pending,
                            .value = off | MPE__DICT_LISTED,
                            .new_block = {off}};
    mpe__commit_change(e, &c);
    return MPE_OK;
}

static int
is_handle(void *ud, uint64_t h)
{
    (void)ud, (void)h;
    return 1;
}

static int
has_handle(mpe_bytes value)
{
    return mpe_wire_scan_handles(value.data, value.size, is_handle, NULL) > 0;
}

/* Makes the nodes of the batch, and counts how many each stripe will get. No writer is active. */
static int
make_nodes(mpe_engine *e, mpe_object *o, struct mpe__dict_batch *b, const uint8_t *records,
           int handles, uint32_t more[MPE__DICT_STRIPES])
{
    struct mpe__dict *d = mpe__dict_body(e, o);
    for (uint64_t i = 0; i < b->count; i++) {
        struct record r = next_record(&records);
        struct mpe__dict_place p;
        struct mpe__change c = {.object = o, .link = &b->nodes[i]};
        uint8_t small[MPE_WIRE_SCALAR_MAX];
        r.key = mpe__key_of(r.key, small);
        int has = handles && has_handle(r.value);
        if (has)
            mpe__note_stored(e, o, r.value.data, r.value.size);
        int rc = mpe__dict_new_node(e, r.key, r.value, has, &c.new_block[0]);
        if (rc != MPE_OK)
            return rc;
        c.value = c.new_block[0];
        mpe__commit_change(e, &c);
        mpe__dict_locate(e, o, r.key, &p);
        mpe__dict_find(e, &p, r.key);
        more[p.stripe - d->stripes] += p.node == NULL;
    }
    return MPE_OK;
}

static int
make_room(mpe_engine *e, mpe_object *o, const uint32_t more[MPE__DICT_STRIPES])
{
    int rc = MPE_OK, moved;
    for (uint32_t i = 0; i < MPE__DICT_STRIPES && rc == MPE_OK; i++) {
        struct mpe__dict_place p;
        mpe__dict_stripe_at(e, o, i, &p);
        mpe__ilock(e, &p.stripe->lock, mpe__index_of(e, o));
        rc = more[i] ? mpe__dict_make_room(e, o, &p, more[i], &moved) : MPE_OK;
        mpe__iunlock(e, &p.stripe->lock);
    }
    return rc;
}

/* Waits for the writers that were active before the freeze. */
static void
wait_for_writers(mpe_engine *e, mpe_object *o)
{
    struct mpe__dict *d = mpe__dict_body(e, o);
    for (uint32_t i = 0; i < MPE__DICT_STRIPES; i++) {
        mpe__ilock(e, &d->stripes[i].lock, mpe__index_of(e, o));
        mpe__iunlock(e, &d->stripes[i].lock);
    }
}

static int
update_frozen(mpe_engine *e, mpe_object *o, const uint8_t *records, uint64_t count, int handles)
{
    struct mpe__dict *d = mpe__dict_body(e, o);
    uint32_t more[MPE__DICT_STRIPES] = {0};
    wait_for_writers(e, o);
    int rc = list_batch(e, o, count);
    if (rc != MPE_OK)
        return rc;
    struct mpe__dict_batch *b = batch_of(e, mpe__load64(&d->pending));
    rc = make_nodes(e, o, b, records, handles, more);
    if (rc == MPE_OK)
        rc = make_room(e, o, more);
    if (rc == MPE_OK)
        mpe__store64(&d->pending, mpe__offset(e, b) | MPE__DICT_DUE); /* the commit */
    finish(e, o);
    return rc;
}

/* One record needs no batch. */
static int
put_record(mpe_engine *e, mpe_object *o, const uint8_t *record, int handles)
{
    struct record r = next_record(&record);
    return mpe_dict_put(e, o, r.key, r.value, handles && has_handle(r.value));
}

int
mpe_dict_update(mpe_engine *e, mpe_object *o, const void *records, uint64_t count, int handles)
{
    if (!mpe__admits(e, o, MPE__KIND(DICT)))
        return mpe__refusal(e, o, MPE__KIND(DICT));
    if (count == 0)
        return MPE_OK;
    if (!records)
        return MPE_EINVAL;
    if (count == 1)
        return put_record(e, o, records, handles);
    mpe__dict_freeze(e, o);
    int rc = update_frozen(e, o, records, count, handles);
    mpe__dict_thaw(e, o);
    if (rc == MPE_OK)
        mpe__trace_did(e, MPE_DID_UPDATE, (uint32_t)count, o);
    return rc;
}

void
mpe_dict_clear(mpe_engine *e, mpe_object *o)
{
    if (!mpe__admits(e, o, MPE__KIND(DICT)))
        return;
    mpe__dict_freeze(e, o);
    wait_for_writers(e, o);
    mpe__store64(&mpe__dict_body(e, o)->pending, MPE__DICT_DUE); /* the commit */
    finish(e, o);
    mpe__dict_thaw(e, o);
    mpe__trace_did(e, MPE_DID_CLEAR, 1, o);
    mpe__trim(e);
}

/* ---- traversal ---- */

int
mpe__dict_each_node(mpe_engine *e, struct mpe__dict_root *root,
                    int (*f)(mpe_engine *e, uint64_t off, void *ud), void *ud)
{
    uint64_t word = mpe__load64(&root->table);
    struct mpe__dict_table t = mpe__dict_table_of(e, word);
    int rc = MPE_OK;
    for (uint64_t k = 0; k < mpe__dict_table_length(word) && rc == MPE_OK; k++) {
        uint64_t entry = mpe__load64(&t.entries[k]);
        if (mpe__dict_in_use(entry))
            rc = f(e, mpe__dict_node_offset(entry), ud);
    }
    return rc;
}

static int
each_stripe(mpe_engine *e, mpe_object *o, int (*f)(mpe_engine *e, uint64_t off, void *ud), void *ud)
{
    struct mpe__dict *d = mpe__dict_body(e, o);
    int rc = MPE_OK;
    mpe__dict_freeze(e, o);
    for (uint32_t i = 0; i < MPE__DICT_STRIPES && rc == MPE_OK; i++) {
        mpe__ilock(e, &d->stripes[i].lock, mpe__index_of(e, o));
        rc = mpe__dict_each_node(e, &d->roots[i], f, ud);
        mpe__iunlock(e, &d->stripes[i].lock);
    }
    mpe__dict_thaw(e, o);
    return rc;
}

struct snapshot {
    mpe_buf *out;
    uint64_t count;
};

static int
copy_node(mpe_engine *e, uint64_t off, void *ud)
{
    static const uint8_t zeros[8];
    struct snapshot *s = ud;
    struct mpe__dict_node *n = mpe__at(e, off);
    uint32_t sizes[2] = {n->key_size, mpe__dict_value_size(n)};
    if (mpe_buf_append(s->out, sizes, sizeof sizes) != MPE_OK ||
        mpe_buf_append(s->out, n->bytes, sizes[0]) != MPE_OK)
        return MPE_ENOMEM;
    s->count++;
    int rc = mpe__dict_copy_value(e, n, s->out);
    return rc == MPE_OK ? mpe_buf_append(s->out, zeros, -(sizes[0] + sizes[1]) & 7) : rc;
}

int
mpe_dict_snapshot(mpe_engine *e, mpe_object *o, mpe_buf *out, uint64_t *count)
{
    if (!out || !count)
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__KIND(DICT)))
        return mpe__refusal(e, o, MPE__KIND(DICT));
    mpe__buf_adopt(out, &e->memory);
    struct snapshot s = {out, 0};
    int rc = each_stripe(e, o, copy_node, &s);
    if (rc == MPE_OK)
        *count = s.count;
    return rc;
}

struct scan {
    int (*visit)(void *ud, uint64_t h);
    void *ud;
};

static int
scan_node(mpe_engine *e, uint64_t off, void *ud)
{
    struct scan *s = ud;
    struct mpe__dict_node *n = mpe__at(e, off);
    if (mpe__dict_has_handles(n))
        mpe_wire_scan_handles(mpe__dict_value(n), mpe__dict_value_size(n), s->visit, s->ud);
    return MPE_OK;
}

void
mpe__dict_scan(mpe_engine *e, mpe_object *o, int (*visit)(void *ud, uint64_t h), void *ud)
{
    struct scan s = {visit, ud};
    each_stripe(e, o, scan_node, &s);
}

static int
measure_node(mpe_engine *e, uint64_t off, void *ud)
{
    *(uint64_t *)ud += mpe__block_bytes(e, off);
    return MPE_OK;
}

void
mpe__dict_measure(mpe_engine *e, mpe_object *o, uint64_t *depth, uint64_t *bytes)
{
    struct mpe__dict *d = mpe__dict_body(e, o);
    *depth = mpe_dict_count(e, o);
    *bytes = 0;
    each_stripe(e, o, measure_node, bytes);
    for (uint32_t i = 0; i < MPE__DICT_STRIPES; i++) {
        uint64_t word = mpe__load64(&d->roots[i].table);
        *bytes += word ? mpe__block_bytes(e, mpe__dict_table_offset(word)) : 0;
    }
}
