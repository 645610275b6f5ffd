/* Dicts: changing one key. A short value that fits into the node of the previous one is written
 * over it, by the redo record; any other change makes a node and links it by one store of the
 * table entry. Before it searches, a writer waits for the pending operation.
 */
#include "objects/dict_int.h"

#include "core/trace.h"
#include "objects/doors.h"

#include <string.h>

#define FIRST_LOG2 3u

/* Around each change of the contents of a stripe's table: until its end, readers take the lock. */
static void
change_root(mpe_engine *e, struct mpe__dict_root *root, const struct mpe__change *c)
{
    uint64_t version = mpe__load64(&root->version);
    mpe__store64(&root->version, version + 1);
    mpe__commit_change(e, c);
    mpe__store64(&root->version, version + 2);
}

static void
add_count(mpe__a32 *count, int32_t n)
{
    mpe__store32(count, mpe__load32(count) + (uint32_t)n);
}

/* Locks a stripe for a change, once no operation on the whole dict is active. A later freeze
 * waits for this stripe. */
static void
lock_stripe(mpe_engine *e, mpe_object *o, struct mpe__dict_stripe *s)
{
    struct mpe__dict *d = mpe__dict_body(e, o);
    for (;;) {
        mpe__ilock(e, &s->lock, mpe__index_of(e, o));
        if (MPE__LIKELY(atomic_load(&d->freeze) == 0 && mpe__load64(&d->pending) == 0))
            return;
        mpe__iunlock(e, &s->lock);
        mpe__dict_settle(e, o);
    }
}

static void
lock_key(mpe_engine *e, mpe_object *o, mpe_bytes key, struct mpe__dict_place *p)
{
    mpe__dict_locate(e, o, key, p);
    lock_stripe(e, o, p->stripe);
    mpe__dict_find(e, p, key);
}

static void
unlock_place(mpe_engine *e, struct mpe__dict_place *p)
{
    mpe__iunlock(e, &p->stripe->lock);
}

/* ---- tables; the stripe is locked from here on ---- */

/* Gives the stripe a table of 2^log2 entries with all entries in use. */
static int
rebuild(mpe_engine *e, mpe_object *o, struct mpe__dict_place *p, uint32_t log2)
{
    uint64_t old = mpe__load64(&p->root->table), off;
    int rc = mpe__alloc_zeroed(e, sizeof(uint64_t) << log2, &off);
    if (rc != MPE_OK)
        return rc;
    struct mpe__dict_table from = mpe__dict_table_of(e, old),
                           to = mpe__dict_table_of(e, off | (uint64_t)log2 << 56);
    for (uint64_t k = 0; k < mpe__dict_table_length(old); k++) {
        uint64_t word = mpe__load64(&from.entries[k]);
        if (!mpe__dict_in_use(word))
            continue;
        uint32_t i = (uint32_t)(word >> 32) / MPE__DICT_STRIPES;
        while (atomic_load_explicit(&to.entries[i & to.mask], memory_order_relaxed) !=
               MPE__DICT_EMPTY)
            i++;
        atomic_store_explicit(&to.entries[i & to.mask], word, memory_order_relaxed);
    }
    struct mpe__change c = {.object = o,
                            .link = &p->root->table,
                            .value = off | (uint64_t)log2 << 56,
                            .new_block = {off},
                            .old_block = {mpe__dict_table_offset(old)}};
    change_root(e, p->root, &c);
    mpe__store32(&p->stripe->deleted, 0);
    return MPE_OK;
}

static uint32_t
log2_for(uint64_t count)
{
    uint32_t log2 = FIRST_LOG2;
    while ((1ull << log2) < count * 2)
        log2++;
    return log2;
}

int
mpe__dict_make_room(mpe_engine *e, mpe_object *o, struct mpe__dict_place *p, uint32_t more,
                    int *moved)
{
    uint64_t length = mpe__dict_table_length(mpe__load64(&p->root->table));
    uint64_t count = mpe__load32(&p->stripe->count);
    uint64_t used = count + mpe__load32(&p->stripe->deleted);
    *moved = (used + more) * 4 > length * 3;
    return *moved ? rebuild(e, o, p, log2_for(count + more)) : MPE_OK;
}

/* ---- nodes ---- */

int
mpe__dict_new_node(mpe_engine *e, mpe_bytes key, mpe_bytes value, int handles, uint64_t *off)
{
    if (key.size > INT32_MAX || value.size > INT32_MAX)
        return MPE_EARENA;
    int rc = mpe__alloc(e, mpe__dict_node_size(key.size, value.size), off);
    if (rc != MPE_OK)
        return rc;
    struct mpe__dict_node *n = mpe__at(e, *off);
    uint64_t head = (uint64_t)value.size << 1 | (handles != 0);
    atomic_store_explicit(&n->head, head, memory_order_relaxed);
    n->key_size = (uint32_t)key.size;
    if (key.size > 0)
        memcpy(n->bytes, key.data, key.size);
    if (value.size > 0)
        memcpy(n->bytes + key.size, value.data, value.size);
    return MPE_OK;
}

/* Would the value, in place of the node's value, take a block of the same size? */
static int
fits_into(const struct mpe__dict_node *n, mpe_bytes value)
{
    uint32_t size = mpe__dict_value_size(n);
    return value.size == size || mpe__same_class(mpe__dict_node_size(n->key_size, size),
                                                 mpe__dict_node_size(n->key_size, value.size));
}

/* Writes a value over that of a node, if possible: all words of the node from the one in which
 * its value begins. */
static int
write_over(mpe_engine *e, struct mpe__dict_node *n, mpe_bytes value, int handles)
{
    uint64_t begin = mpe__dict_node_size(n->key_size, 0), first = begin & ~7ull;
    uint64_t head = mpe__load64(&n->head), size = begin - first + value.size;
    uint8_t *record = (uint8_t *)e->self->redo.words;
    if (handles || mpe__dict_has_handles(n) || value.size == 0 ||
        size > sizeof e->self->redo.words || !fits_into(n, value))
        return 0;
    memcpy(record, (uint8_t *)n + first, 8); /* the end of the key */
    memcpy(record + begin - first, value.data, value.size);
    mpe__commit_rewrite(e, &n->head, ((head >> 32) + 2) << 32 | value.size << 1,
                        (mpe__a64 *)((uint8_t *)n + first), (uint32_t)(size + 7) / 8);
    return 1;
}

static void
note_removed(mpe_engine *e, struct mpe__dict_node *n)
{
    if (mpe__dict_has_handles(n))
        mpe__note_removed(e, mpe__dict_value(n), mpe__dict_value_size(n));
}

void
mpe__dict_link(mpe_engine *e, mpe_object *o, struct mpe__dict_place *p, uint64_t node)
{
    mpe__a64 *entry = p->entry ? p->entry : p->vacant;
    uint64_t before = mpe__load64(entry);
    struct mpe__change c = {.object = o,
                            .link = entry,
                            .value = mpe__dict_entry(p->hash, node),
                            .new_block = {node},
                            .old_block = {p->entry ? mpe__dict_node_offset(before) : 0}};
    if (p->entry)
        note_removed(e, mpe__at(e, c.old_block[0]));
    change_root(e, p->root, &c);
    if (p->entry)
        return;
    add_count(&p->stripe->count, 1);
    if (before == MPE__DICT_DELETED)
        add_count(&p->stripe->deleted, -1);
}

static int
put(mpe_engine *e, mpe_object *o, struct mpe__dict_place *p, mpe_bytes key, mpe_bytes value,
    int handles)
{
    uint64_t off;
    int rc = MPE_OK, moved = 0;
    if (p->node && write_over(e, p->node, value, handles))
        return MPE_OK;
    if (!p->entry)
        rc = mpe__dict_make_room(e, o, p, 1, &moved);
    if (rc == MPE_OK && moved)
        mpe__dict_find(e, p, key);
    if (rc == MPE_OK)
        rc = mpe__dict_new_node(e, key, value, handles, &off);
    if (rc == MPE_OK)
        mpe__dict_link(e, o, p, off);
    return rc;
}

static void
remove_entry(mpe_engine *e, mpe_object *o, struct mpe__dict_place *p, mpe__a64 *entry,
             int next_is_empty)
{
    struct mpe__change c = {.object = o,
                            .link = entry,
                            .value = next_is_empty ? MPE__DICT_EMPTY : MPE__DICT_DELETED,
                            .old_block = {mpe__dict_node_offset(mpe__load64(entry))}};
    note_removed(e, mpe__at(e, c.old_block[0]));
    change_root(e, p->root, &c);
    add_count(&p->stripe->count, -1);
    if (!next_is_empty)
        add_count(&p->stripe->deleted, 1);
}

static void
remove_place(mpe_engine *e, mpe_object *o, struct mpe__dict_place *p)
{
    uint32_t i = (uint32_t)(p->entry - p->table.entries);
    remove_entry(e, o, p, p->entry,
                 mpe__load64(&p->table.entries[(i + 1) & p->table.mask]) == MPE__DICT_EMPTY);
    uint64_t length = mpe__dict_table_length(mpe__load64(&p->root->table));
    uint64_t count = mpe__load32(&p->stripe->count);
    if (length > 1u << FIRST_LOG2 && count * 8 < length)
        rebuild(e, o, p, log2_for(count + 1)); /* if it fails, the table just stays large */
}

void
mpe__dict_clear_stripe(mpe_engine *e, mpe_object *o, struct mpe__dict_place *p)
{
    uint64_t word = mpe__load64(&p->root->table);
    struct mpe__dict_table t = mpe__dict_table_of(e, word);
    if (word == 0)
        return;
    for (uint64_t k = mpe__dict_table_length(word); k-- > 0;)
        if (mpe__dict_in_use(mpe__load64(&t.entries[k])))
            remove_entry(e, o, p, &t.entries[k], 0);
    rebuild(e, o, p, FIRST_LOG2);
}

/* ---- calls ---- */

/* Puts if the key is absent (if_new) and still has the version, when one is given. */
static int
put_when(mpe_engine *e, mpe_object *o, mpe_bytes key, mpe_bytes value, int handles, int if_new,
         const uint64_t *version)
{
    struct mpe__dict_place p;
    if (handles)
        mpe__note_stored(e, o, value.data, value.size);
    lock_key(e, o, key, &p);
    int rc = MPE_EAGAIN;
    if (if_new && p.node)
        rc = MPE_EEXIST;
    else if (!version || mpe__dict_version_at(&p) == *version)
        rc = put(e, o, &p, key, value, handles);
    unlock_place(e, &p);
    if (rc == MPE_OK)
        mpe__trace_did(e, MPE_DID_SET, 1, o);
    return rc;
}

int
mpe_dict_put(mpe_engine *e, mpe_object *o, mpe_bytes key, mpe_bytes value, int handles)
{
    uint8_t small[MPE_WIRE_SCALAR_MAX];
    if (mpe__lacks(key) || mpe__lacks(value))
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__KIND(DICT)))
        return mpe__refusal(e, o, MPE__KIND(DICT));
    return put_when(e, o, mpe__key_of(key, small), value, handles, 0, NULL);
}

int
mpe_dict_put_new(mpe_engine *e, mpe_object *o, mpe_bytes key, mpe_bytes value, int handles)
{
    uint8_t small[MPE_WIRE_SCALAR_MAX];
    if (mpe__lacks(key) || mpe__lacks(value))
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__KIND(DICT)))
        return mpe__refusal(e, o, MPE__KIND(DICT));
    return put_when(e, o, mpe__key_of(key, small), value, handles, 1, NULL);
}

int
mpe_dict_put_if(mpe_engine *e, mpe_object *o, mpe_bytes key, uint64_t version, mpe_bytes value,
                int handles)
{
    uint8_t small[MPE_WIRE_SCALAR_MAX];
    if (mpe__lacks(key) || mpe__lacks(value))
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__KIND(DICT)))
        return mpe__refusal(e, o, MPE__KIND(DICT));
    return put_when(e, o, mpe__key_of(key, small), value, handles, 0, &version);
}

int
mpe_dict_remove_if(mpe_engine *e, mpe_object *o, mpe_bytes key, uint64_t version)
{
    uint8_t small[MPE_WIRE_SCALAR_MAX];
    if (mpe__lacks(key))
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__KIND(DICT)))
        return mpe__refusal(e, o, MPE__KIND(DICT));
    struct mpe__dict_place p;
    key = mpe__key_of(key, small);
    lock_key(e, o, key, &p);
    int rc = mpe__dict_version_at(&p) == version ? MPE_OK : MPE_EAGAIN;
    if (rc == MPE_OK && p.node)
        remove_place(e, o, &p);
    unlock_place(e, &p);
    if (rc == MPE_OK)
        mpe__trace_did(e, MPE_DID_REMOVE, 1, o);
    return rc;
}

int
mpe_dict_remove(mpe_engine *e, mpe_object *o, mpe_bytes key, mpe_buf *out)
{
    uint8_t small[MPE_WIRE_SCALAR_MAX];
    if (mpe__lacks(key))
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__KIND(DICT)))
        return mpe__refusal(e, o, MPE__KIND(DICT));
    if (out)
        mpe__buf_adopt(out, &e->memory);
    struct mpe__dict_place p;
    key = mpe__key_of(key, small);
    lock_key(e, o, key, &p);
    int rc = p.node ? MPE_OK : MPE_ENOENT;
    if (rc == MPE_OK && out)
        rc = mpe__dict_copy_value(e, p.node, out);
    if (rc == MPE_OK)
        remove_place(e, o, &p);
    unlock_place(e, &p);
    if (rc == MPE_OK)
        mpe__trace_did(e, MPE_DID_REMOVE, 1, o);
    return rc;
}

/* Any entry in use. The search continues where the last one ended: the entries before are gone. */
static mpe__a64 *
any_in_use(struct mpe__dict_stripe *s, struct mpe__dict_table t, uint64_t length)
{
    uint32_t first = mpe__load32(&s->pop_hint);
    for (uint64_t k = 0; k < length; k++) {
        uint32_t i = (first + (uint32_t)k) & t.mask;
        if (!mpe__dict_in_use(mpe__load64(&t.entries[i])))
            continue;
        mpe__store32(&s->pop_hint, i);
        return &t.entries[i];
    }
    return NULL;
}

static int
pop_from(mpe_engine *e, mpe_object *o, struct mpe__dict_place *p, mpe_buf *key, mpe_buf *value)
{
    uint64_t word = mpe__load64(&p->root->table);
    p->table = mpe__dict_table_of(e, word);
    p->entry = any_in_use(p->stripe, p->table, mpe__dict_table_length(word));
    if (!p->entry)
        return MPE_ENOENT;
    p->node = mpe__at(e, mpe__dict_node_offset(mpe__load64(p->entry)));
    if (mpe_buf_append(key, p->node->bytes, p->node->key_size) != MPE_OK)
        return MPE_ENOMEM;
    int rc = mpe__dict_copy_value(e, p->node, value);
    if (rc == MPE_OK)
        remove_place(e, o, p);
    return rc;
}

int
mpe_dict_pop_any(mpe_engine *e, mpe_object *o, mpe_buf *key, mpe_buf *value)
{
    if (!key || !value)
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__KIND(DICT)))
        return mpe__refusal(e, o, MPE__KIND(DICT));
    mpe__buf_adopt(key, &e->memory);
    mpe__buf_adopt(value, &e->memory);
    struct mpe__dict *d = mpe__dict_body(e, o);
    if (mpe__load64(&d->pending))
        mpe__dict_settle(e, o);
    for (uint32_t i = 0; i < MPE__DICT_STRIPES; i++) {
        struct mpe__dict_place p = {.entry = NULL};
        mpe__dict_stripe_at(e, o, i, &p);
        if (mpe__load32(&p.stripe->count) == 0)
            continue;
        lock_stripe(e, o, p.stripe);
        int rc = pop_from(e, o, &p, key, value);
        unlock_place(e, &p);
        if (rc == MPE_OK)
            mpe__trace_did(e, MPE_DID_REMOVE, 1, o);
        if (rc != MPE_ENOENT)
            return rc;
    }
    return MPE_ENOENT;
}

int
mpe_dict_edit(mpe_engine *e, mpe_object *o, mpe_bytes key, mpe_edit_fn edit, void *ud)
{
    uint8_t small[MPE_WIRE_SCALAR_MAX];
    if (!edit || mpe__lacks(key))
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__KIND(DICT)))
        return mpe__refusal(e, o, MPE__KIND(DICT));
    struct mpe__dict_place p;
    uint8_t bytes[16];
    size_t size = 0;
    key = mpe__key_of(key, small);
    lock_key(e, o, key, &p);
    int rc = edit(p.node ? mpe__dict_value(p.node) : NULL,
                  p.node ? mpe__dict_value_size(p.node) : 0, bytes, &size, ud);
    if (rc == MPE_OK)
        rc = put(e, o, &p, key, (mpe_bytes){bytes, size}, 0);
    unlock_place(e, &p);
    if (rc == MPE_OK)
        mpe__trace_did(e, MPE_DID_SET, 1, o);
    return rc;
}
