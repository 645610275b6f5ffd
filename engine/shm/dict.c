/* Dicts: 32 stripes, each an open-addressed table of nodes under an intent lock of its own, so
 * different keys rarely meet. A node holds key and value and does not change once linked, but for
 * a value of up to 8 bytes that is replaced by another of the same length: one aligned store.
 *
 * A table entry is hash << 32 | node offset / 16, 0 empty, 1 deleted; a table word is the table's
 * offset with log2 of its length in the top byte. Insert, replace, delete, grow: one store each,
 * announced in the operation record, which frees what was replaced (sync/death.c). Counts of a
 * stripe are derived, and recounted by recovery. The version of a stripe is raised before each
 * change, so a death between the two only makes a put_if try again.
 *
 * A snapshot closes the freeze lock and then visits every stripe: writers look at it after taking
 * their stripe, so what had begun before is in the snapshot and what begins later waits.
 */
#include "shm/dict.h"

#include "base/hash.h"
#include "shm/arena.h"
#include "shm/object.h"
#include "sync/death.h"
#include "sync/ilock.h"

#include <string.h>

#define STRIPES 32u
#define EMPTY 0ull
#define DELETED 1ull
#define FIRST_LOG2 3u
#define HANDLES 1u /* flag of a node: its value may hold handles */

struct node {
    uint32_t key_size, value_size;
    uint32_t flags, unused;
    uint8_t bytes[]; /* the key, padded to 8, and the value, padded to 8 */
};

struct stripe {
    mpe__a32 lock;    /* intent lock of all below */
    mpe__a32 count;   /* derived: entries in use */
    mpe__a32 deleted; /* derived: entries deleted */
    mpe__a32 unused;
    mpe__a64 table;   /* offset | log2 << 56, 0: no table yet */
    mpe__a64 version; /* raised before every change */
    uint8_t pad[32];
};
_Static_assert(sizeof(struct stripe) == 64, "a cache line each");

struct dict {
    mpe__a32 freeze; /* intent lock: held while a snapshot is taken */
    uint8_t pad[60];
    struct stripe stripes[STRIPES];
};

struct table {
    mpe__a64 *entries;
    uint32_t mask;
};

/* Where a key is, or would go. */
struct place {
    struct stripe *stripe;
    struct table table;
    uint32_t hash;
    mpe__a64 *entry;  /* of the key; NULL when absent */
    mpe__a64 *vacant; /* where to insert when absent; NULL without a table */
    struct node *node;
};

static struct dict *
body(mpe_engine *e, const mpe_object *o)
{
    return mpe__body(e, o);
}

static uint64_t
padded(uint64_t n)
{
    return (n + 7) & ~7ull;
}

static uint8_t *
value_of(struct node *n)
{
    return n->bytes + padded(n->key_size);
}

static uint64_t
node_bytes(uint64_t key, uint64_t value)
{
    return sizeof(struct node) + padded(key) + padded(value);
}

static uint64_t
node_offset(uint64_t entry)
{
    return (entry & UINT32_MAX) << 4;
}

static struct node *
node_at(mpe_engine *e, uint64_t entry)
{
    return mpe__at(e, node_offset(entry));
}

static int
in_use(uint64_t entry)
{
    return entry != EMPTY && entry != DELETED;
}

static struct table
table_of(mpe_engine *e, uint64_t word)
{
    if (word == 0)
        return (struct table){NULL, 0};
    return (struct table){mpe__at(e, word & ((1ull << 56) - 1)),
                          (uint32_t)(1ull << (word >> 56)) - 1};
}

static uint64_t
table_length(uint64_t word)
{
    return word ? 1ull << (word >> 56) : 0;
}

static uint32_t
hash_of(mpe_engine *e, mpe_bytes key)
{
    return (uint32_t)mpe__hash(key.data, key.size, e->header->nonce);
}

int
mpe_dict_create(mpe_engine *e, mpe_object **out)
{
    mpe_object *o;
    int rc = mpe__object_begin_with_body(e, MPE_KIND_DICT, sizeof(struct dict), &o);
    return rc == MPE_OK ? mpe__object_finish(e, o, out) : rc;
}

/* ---- finding ---- */

static void
find(mpe_engine *e, struct place *p, mpe_bytes key)
{
    p->table = table_of(e, mpe__load64(&p->stripe->table));
    p->entry = p->vacant = NULL;
    p->node = NULL;
    if (!p->table.entries)
        return;
    for (uint32_t i = p->hash / STRIPES;; i++) {
        mpe__a64 *entry = &p->table.entries[i & p->table.mask];
        uint64_t word = mpe__load64(entry);
        if (word == EMPTY || word == DELETED) {
            if (!p->vacant)
                p->vacant = entry;
            if (word == EMPTY)
                return;
            continue;
        }
        if (word >> 32 != p->hash)
            continue;
        struct node *n = node_at(e, word);
        __builtin_prefetch((const char *)n + 64); /* the value, mostly: fetched while the key is */
        if (n->key_size != key.size || (key.size > 0 && memcmp(n->bytes, key.data, key.size) != 0))
            continue;
        p->entry = entry;
        p->node = n;
        return;
    }
}

static void
lock_place(mpe_engine *e, mpe_object *o, mpe_bytes key, struct place *p)
{
    p->hash = hash_of(e, key);
    p->stripe = &body(e, o)->stripes[p->hash % STRIPES];
    mpe__ilock(e, &p->stripe->lock, mpe__index_of(e, o));
    find(e, p, key);
}

/* The same for a change: waits while a snapshot is being taken. */
static void
lock_for_change(mpe_engine *e, mpe_object *o, mpe_bytes key, struct place *p)
{
    struct dict *d = body(e, o);
    for (;;) {
        lock_place(e, o, key, p);
        if (MPE__LIKELY(atomic_load(&d->freeze) == 0))
            return;
        mpe__iunlock(e, &p->stripe->lock);
        mpe__ilock(e, &d->freeze, mpe__index_of(e, o));
        mpe__iunlock(e, &d->freeze);
    }
}

static void
unlock_place(mpe_engine *e, struct place *p)
{
    mpe__iunlock(e, &p->stripe->lock);
}

/* ---- changing; the stripe is locked ---- */

static void
raise_version(struct stripe *s)
{
    mpe__store64(&s->version, mpe__load64(&s->version) + 1);
}

static void
add_count(mpe__a32 *count, int32_t n)
{
    mpe__store32(count, mpe__load32(count) + (uint32_t)n);
}

/* Gives the stripe a table of 2^log2 entries with all that is in use. */
static int
rebuild(mpe_engine *e, mpe_object *o, struct stripe *s, uint32_t log2)
{
    uint64_t old = mpe__load64(&s->table), off;
    int rc = mpe__alloc_zeroed(e, sizeof(uint64_t) << log2, &off);
    if (rc != MPE_OK)
        return rc;
    struct table from = table_of(e, old), to = table_of(e, off | (uint64_t)log2 << 56);
    for (uint64_t k = 0; k < table_length(old); k++) {
        uint64_t word = mpe__load64(&from.entries[k]);
        if (!in_use(word))
            continue;
        uint32_t i = (uint32_t)(word >> 32) / STRIPES;
        while (atomic_load_explicit(&to.entries[i & to.mask], memory_order_relaxed) != EMPTY)
            i++;
        atomic_store_explicit(&to.entries[i & to.mask], word, memory_order_relaxed);
    }
    struct mpe__change c = {.object = o,
                            .link = &s->table,
                            .value = off | (uint64_t)log2 << 56,
                            .new_block = {off},
                            .old_block = {old & ((1ull << 56) - 1)}};
    mpe__commit_change(e, &c);
    mpe__store32(&s->deleted, 0);
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

/* Makes sure that one more entry fits. */
static int
make_room(mpe_engine *e, mpe_object *o, struct place *p, mpe_bytes key)
{
    struct stripe *s = p->stripe;
    uint64_t length = table_length(mpe__load64(&s->table));
    uint64_t count = mpe__load32(&s->count), used = count + mpe__load32(&s->deleted);
    if ((used + 1) * 4 <= length * 3)
        return MPE_OK;
    int rc = rebuild(e, o, s, log2_for(count + 1));
    if (rc == MPE_OK)
        find(e, p, key);
    return rc;
}

static int
new_node(mpe_engine *e, mpe_bytes key, mpe_bytes value, int handles, uint64_t *off)
{
    if (key.size > UINT32_MAX || value.size > UINT32_MAX)
        return MPE_EARENA;
    int rc = mpe__alloc(e, node_bytes(key.size, value.size), off);
    if (rc != MPE_OK)
        return rc;
    struct node *n = mpe__at(e, *off);
    n->key_size = (uint32_t)key.size;
    n->value_size = (uint32_t)value.size;
    n->flags = handles ? HANDLES : 0;
    if (key.size > 0)
        memcpy(n->bytes, key.data, key.size);
    if (value.size > 0)
        memcpy(value_of(n), value.data, value.size);
    return MPE_OK;
}

/* One store replaces a small value of the same length. */
static int
replace_in_place(struct place *p, mpe_bytes value, int handles)
{
    struct node *n = p->node;
    if (!n || handles || n->flags || value.size > 8 || n->value_size != value.size)
        return 0;
    uint64_t word = 0;
    if (value.size > 0)
        memcpy(&word, value.data, value.size);
    raise_version(p->stripe);
    mpe__store64((mpe__a64 *)value_of(n), word);
    return 1;
}

static int
put(mpe_engine *e, mpe_object *o, struct place *p, mpe_bytes key, mpe_bytes value, int handles)
{
    uint64_t off;
    if (replace_in_place(p, value, handles))
        return MPE_OK;
    int rc = p->entry ? MPE_OK : make_room(e, o, p, key);
    if (rc == MPE_OK)
        rc = new_node(e, key, value, handles, &off);
    if (rc != MPE_OK)
        return rc;
    mpe__a64 *entry = p->entry ? p->entry : p->vacant;
    uint64_t before = mpe__load64(entry);
    struct mpe__change c = {.object = o,
                            .link = entry,
                            .value = (uint64_t)p->hash << 32 | off >> 4,
                            .new_block = {off},
                            .old_block = {p->entry ? node_offset(before) : 0}};
    raise_version(p->stripe);
    mpe__commit_change(e, &c);
    if (!p->entry) {
        add_count(&p->stripe->count, 1);
        if (before == DELETED)
            add_count(&p->stripe->deleted, -1);
    }
    return MPE_OK;
}

static void
remove_entry(mpe_engine *e, mpe_object *o, struct stripe *s, mpe__a64 *entry, int next_is_empty)
{
    struct mpe__change c = {.object = o,
                            .link = entry,
                            .value = next_is_empty ? EMPTY : DELETED,
                            .old_block = {node_offset(mpe__load64(entry))}};
    raise_version(s);
    mpe__commit_change(e, &c);
    add_count(&s->count, -1);
    if (!next_is_empty)
        add_count(&s->deleted, 1);
}

static void
remove_place(mpe_engine *e, mpe_object *o, struct place *p)
{
    struct stripe *s = p->stripe;
    uint32_t i = (uint32_t)(p->entry - p->table.entries);
    remove_entry(e, o, s, p->entry,
                 mpe__load64(&p->table.entries[(i + 1) & p->table.mask]) == EMPTY);
    uint64_t length = table_length(mpe__load64(&s->table)), count = mpe__load32(&s->count);
    if (length > 1u << FIRST_LOG2 && count * 8 < length)
        rebuild(e, o, s, log2_for(count + 1)); /* failing, the table just stays large */
}

/* ---- calls ---- */

/* Room in out for n more bytes, without leaving the lock for long: the caller tries again. */
static int
copy_value(mpe_engine *e, struct place *p, mpe_buf *out)
{
    struct node *n = p->node;
    if (mpe_buf_append(out, value_of(n), n->value_size) != MPE_OK)
        return MPE_ENOMEM;
    if (n->flags & HANDLES)
        mpe__pin_handles(e, value_of(n), n->value_size);
    return MPE_OK;
}

int
mpe_dict_get(mpe_engine *e, mpe_object *o, mpe_bytes key, mpe_buf *out, uint64_t *version)
{
    struct place p;
    lock_place(e, o, key, &p);
    int rc = p.node ? copy_value(e, &p, out) : MPE_ENOENT;
    if (version)
        *version = mpe__load64(&p.stripe->version);
    unlock_place(e, &p);
    return rc;
}

int
mpe_dict_has(mpe_engine *e, mpe_object *o, mpe_bytes key)
{
    struct place p;
    lock_place(e, o, key, &p);
    unlock_place(e, &p);
    return p.node != NULL;
}

/* Puts if the key is absent (if_new) and the stripe still has the version, when one is given. */
static int
put_when(mpe_engine *e, mpe_object *o, mpe_bytes key, mpe_bytes value, int handles, int if_new,
         const uint64_t *version)
{
    struct place p;
    if (handles)
        mpe__note_stored(e, o, value.data, value.size);
    lock_for_change(e, o, key, &p);
    int rc = MPE_EAGAIN;
    if (if_new && p.node)
        rc = MPE_EEXIST;
    else if (!version || mpe__load64(&p.stripe->version) == *version)
        rc = put(e, o, &p, key, value, handles);
    unlock_place(e, &p);
    return rc;
}

int
mpe_dict_put(mpe_engine *e, mpe_object *o, mpe_bytes key, mpe_bytes value, int handles)
{
    return put_when(e, o, key, value, handles, 0, NULL);
}

int
mpe_dict_put_new(mpe_engine *e, mpe_object *o, mpe_bytes key, mpe_bytes value, int handles)
{
    return put_when(e, o, key, value, handles, 1, NULL);
}

int
mpe_dict_put_if(mpe_engine *e, mpe_object *o, mpe_bytes key, uint64_t version, mpe_bytes value,
                int handles)
{
    return put_when(e, o, key, value, handles, 0, &version);
}

int
mpe_dict_remove_if(mpe_engine *e, mpe_object *o, mpe_bytes key, uint64_t version)
{
    struct place p;
    lock_for_change(e, o, key, &p);
    int rc = mpe__load64(&p.stripe->version) == version ? MPE_OK : MPE_EAGAIN;
    if (rc == MPE_OK && p.node)
        remove_place(e, o, &p);
    unlock_place(e, &p);
    return rc;
}

int
mpe_dict_remove(mpe_engine *e, mpe_object *o, mpe_bytes key, mpe_buf *out)
{
    struct place p;
    lock_for_change(e, o, key, &p);
    int rc = p.node ? MPE_OK : MPE_ENOENT;
    if (rc == MPE_OK && out)
        rc = copy_value(e, &p, out);
    if (rc == MPE_OK)
        remove_place(e, o, &p);
    unlock_place(e, &p);
    return rc;
}

static mpe__a64 *
first_in_use(struct table t, uint64_t length)
{
    for (uint64_t k = 0; k < length; k++)
        if (in_use(mpe__load64(&t.entries[k])))
            return &t.entries[k];
    return NULL;
}

static int
pop_from(mpe_engine *e, mpe_object *o, struct place *p, mpe_buf *key, mpe_buf *value)
{
    uint64_t word = mpe__load64(&p->stripe->table);
    p->table = table_of(e, word);
    p->entry = first_in_use(p->table, table_length(word));
    if (!p->entry)
        return MPE_ENOENT;
    p->node = node_at(e, mpe__load64(p->entry));
    if (mpe_buf_append(key, p->node->bytes, p->node->key_size) != MPE_OK)
        return MPE_ENOMEM;
    int rc = copy_value(e, p, value);
    if (rc == MPE_OK)
        remove_place(e, o, p);
    return rc;
}

/* A stripe, locked for change. */
static void
lock_stripe(mpe_engine *e, mpe_object *o, struct stripe *s)
{
    struct dict *d = body(e, o);
    for (;;) {
        mpe__ilock(e, &s->lock, mpe__index_of(e, o));
        if (MPE__LIKELY(atomic_load(&d->freeze) == 0))
            return;
        mpe__iunlock(e, &s->lock);
        mpe__ilock(e, &d->freeze, mpe__index_of(e, o));
        mpe__iunlock(e, &d->freeze);
    }
}

int
mpe_dict_pop_any(mpe_engine *e, mpe_object *o, mpe_buf *key, mpe_buf *value)
{
    for (uint32_t i = 0; i < STRIPES; i++) {
        struct place p = {.stripe = &body(e, o)->stripes[i]};
        if (mpe__load32(&p.stripe->count) == 0)
            continue;
        lock_stripe(e, o, p.stripe);
        int rc = pop_from(e, o, &p, key, value);
        unlock_place(e, &p);
        if (rc != MPE_ENOENT)
            return rc;
    }
    return MPE_ENOENT;
}

int
mpe_dict_edit(mpe_engine *e, mpe_object *o, mpe_bytes key, mpe_edit_fn edit, void *ud)
{
    struct place p;
    uint8_t bytes[16];
    size_t size = 0;
    lock_for_change(e, o, key, &p);
    int rc = edit(p.node ? value_of(p.node) : NULL, p.node ? p.node->value_size : 0, bytes, &size,
                  ud);
    if (rc == MPE_OK)
        rc = put(e, o, &p, key, (mpe_bytes){bytes, size}, 0);
    unlock_place(e, &p);
    return rc;
}

uint64_t
mpe_dict_count(mpe_engine *e, mpe_object *o)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < STRIPES; i++)
        sum += mpe__load32(&body(e, o)->stripes[i].count);
    return sum;
}

static void
clear_stripe(mpe_engine *e, mpe_object *o, struct stripe *s)
{
    uint64_t word = mpe__load64(&s->table);
    struct table t = table_of(e, word);
    for (uint64_t k = table_length(word); k-- > 0;)
        if (in_use(mpe__load64(&t.entries[k])))
            remove_entry(e, o, s, &t.entries[k], 0);
    rebuild(e, o, s, FIRST_LOG2);
}

void
mpe_dict_clear(mpe_engine *e, mpe_object *o)
{
    struct dict *d = body(e, o);
    mpe__ilock(e, &d->freeze, mpe__index_of(e, o));
    for (uint32_t i = 0; i < STRIPES; i++) {
        mpe__ilock(e, &d->stripes[i].lock, mpe__index_of(e, o));
        if (mpe__load64(&d->stripes[i].table))
            clear_stripe(e, o, &d->stripes[i]);
        mpe__iunlock(e, &d->stripes[i].lock);
    }
    mpe__iunlock(e, &d->freeze);
    mpe__trim(e);
}

/* ---- whole-dict walks ---- */

/* Calls f for each node of a stripe. Stripe locked, or nobody else can reach the dict. */
static int
each_node(mpe_engine *e, struct stripe *s, int (*f)(mpe_engine *e, uint64_t off, void *ud),
          void *ud)
{
    uint64_t word = mpe__load64(&s->table);
    struct table t = table_of(e, word);
    int rc = MPE_OK;
    for (uint64_t k = 0; k < table_length(word) && rc == MPE_OK; k++) {
        uint64_t entry = mpe__load64(&t.entries[k]);
        if (in_use(entry))
            rc = f(e, node_offset(entry), ud);
    }
    return rc;
}

static int
each_stripe(mpe_engine *e, mpe_object *o, int (*f)(mpe_engine *e, uint64_t off, void *ud), void *ud)
{
    struct dict *d = body(e, o);
    int rc = MPE_OK;
    mpe__ilock(e, &d->freeze, mpe__index_of(e, o));
    for (uint32_t i = 0; i < STRIPES && rc == MPE_OK; i++) {
        mpe__ilock(e, &d->stripes[i].lock, mpe__index_of(e, o));
        rc = each_node(e, &d->stripes[i], f, ud);
        mpe__iunlock(e, &d->stripes[i].lock);
    }
    mpe__iunlock(e, &d->freeze);
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
    struct node *n = mpe__at(e, off);
    uint32_t sizes[2] = {n->key_size, n->value_size};
    uint64_t bytes = (uint64_t)n->key_size + n->value_size;
    if (mpe_buf_append(s->out, sizes, sizeof sizes) != MPE_OK ||
        mpe_buf_append(s->out, n->bytes, n->key_size) != MPE_OK ||
        mpe_buf_append(s->out, value_of(n), n->value_size) != MPE_OK ||
        mpe_buf_append(s->out, zeros, padded(bytes) - bytes) != MPE_OK)
        return MPE_ENOMEM;
    if (n->flags & HANDLES)
        mpe__pin_handles(e, value_of(n), n->value_size);
    s->count++;
    return MPE_OK;
}

int
mpe_dict_snapshot(mpe_engine *e, mpe_object *o, mpe_buf *out, uint64_t *count)
{
    struct snapshot s = {out, 0};
    int rc = each_stripe(e, o, copy_node, &s);
    if (rc == MPE_OK)
        *count = s.count;
    return rc;
}

/* ---- hooks ---- */

void
mpe__dict_recover(mpe_engine *e, mpe_object *o, uint64_t lock_off)
{
    struct dict *d = body(e, o);
    uint64_t first = mpe__offset(e, d->stripes);
    if (lock_off < first || lock_off >= first + sizeof d->stripes)
        return;
    struct stripe *s = &d->stripes[(lock_off - first) / sizeof *s];
    uint64_t word = mpe__load64(&s->table);
    struct table t = table_of(e, word);
    uint32_t count = 0, deleted = 0;
    for (uint64_t k = 0; k < table_length(word); k++) {
        uint64_t entry = mpe__load64(&t.entries[k]);
        count += in_use(entry);
        deleted += entry == DELETED;
    }
    mpe__store32(&s->count, count);
    mpe__store32(&s->deleted, deleted);
}

static int
free_node(mpe_engine *e, uint64_t off, void *ud)
{
    (void)ud;
    mpe__free(e, off);
    return MPE_OK;
}

void
mpe__dict_destroy(mpe_engine *e, mpe_object *o)
{
    struct dict *d = body(e, o);
    uint64_t count = mpe_dict_count(e, o);
    for (uint32_t i = 0; i < STRIPES; i++) {
        uint64_t word = mpe__load64(&d->stripes[i].table);
        each_node(e, &d->stripes[i], free_node, NULL);
        if (word)
            mpe__free(e, word & ((1ull << 56) - 1));
    }
    if (count > 1000)
        mpe__trim(e);
}

struct scan {
    int (*visit)(void *ud, uint64_t h);
    void *ud;
};

static int
scan_node(mpe_engine *e, uint64_t off, void *ud)
{
    struct scan *s = ud;
    struct node *n = mpe__at(e, off);
    if (n->flags & HANDLES)
        mpe_wire_scan_handles(value_of(n), n->value_size, s->visit, s->ud);
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
    struct dict *d = body(e, o);
    *depth = mpe_dict_count(e, o);
    *bytes = 0;
    each_stripe(e, o, measure_node, bytes);
    for (uint32_t i = 0; i < STRIPES; i++) {
        uint64_t word = mpe__load64(&d->stripes[i].table);
        *bytes += word ? mpe__block_bytes(e, word & ((1ull << 56) - 1)) : 0;
    }
}
