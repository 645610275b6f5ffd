/* Lists: a vector of item offsets under the object's intent lock. Appending, and removing at either
 * end, commit by one store of the span of entries in use; replacing an item by one store of its
 * entry; every other change builds a new vector and commits by one store of its offset. The
 * operation record makes the old vector and item disappear with the same store (core/death.c).
 * Vector and span change together only through a vector that carries its own span.
 */
#include "core/arena.h"
#include "core/object.h"
#include "core/trace.h"
#include "core/death.h"
#include "core/ilock.h"
#include "objects/doors.h"
#include "objects/seen.h"

#include <string.h>

#define FIRST_CAPACITY 8u
#define HANDLES 1u

struct item {
    uint32_t size;
    uint32_t flags;
    uint8_t bytes[];
};

struct vector {
    mpe__a64 span; /* of the entries in use: first << 32 | end */
    uint64_t capacity;
    mpe__a64 at[]; /* offsets of items */
};

/* The part of a vector in use. */
struct items {
    mpe__a64 *at;
    uint64_t first, count; /* first: where in the vector */
};

/* The object's word is its version, raised before every change; body is the vector. */

static struct vector *
vector_of(mpe_engine *e, const mpe_object *o)
{
    return mpe__body(e, o);
}

static uint64_t
span(uint64_t first, uint64_t count)
{
    return first << 32 | (first + count);
}

static struct items
items_of(struct vector *v)
{
    uint64_t word = mpe__load64(&v->span), first = word >> 32;
    return (struct items){&v->at[first], first, (word & UINT32_MAX) - first};
}

static int
new_vector(mpe_engine *e, uint64_t capacity, uint64_t *off)
{
    if (capacity > UINT32_MAX)
        return MPE_EARENA;
    int rc = mpe__alloc(e, sizeof(struct vector) + capacity * sizeof(uint64_t), off);
    if (rc != MPE_OK)
        return rc;
    struct vector *v = mpe__at(e, *off);
    v->capacity = (mpe__block_bytes(e, *off) - sizeof *v) / sizeof(uint64_t);
    mpe__store64(&v->span, 0);
    return MPE_OK;
}

static int
new_item(mpe_engine *e, mpe_bytes bytes, int handles, uint64_t *off)
{
    if (bytes.size > UINT32_MAX)
        return MPE_EARENA;
    int rc = mpe__alloc(e, sizeof(struct item) + bytes.size, off);
    if (rc != MPE_OK)
        return rc;
    struct item *n = mpe__at(e, *off);
    n->size = (uint32_t)bytes.size;
    n->flags = handles ? HANDLES : 0;
    if (bytes.size > 0)
        memcpy(n->bytes, bytes.data, bytes.size);
    return MPE_OK;
}

int
mpe_list_create(mpe_engine *e, mpe_object **out)
{
    if (!out)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    mpe_object *o;
    uint64_t off;
    int rc = mpe__object_begin(e, MPE_KIND_LIST, 0, &o);
    if (rc != MPE_OK)
        return rc;
    if ((rc = new_vector(e, FIRST_CAPACITY, &off)) != MPE_OK) {
        mpe__object_abandon(e, o);
        return rc;
    }
    mpe__attach(e, off, mpe__index_of(e, o));
    mpe__store64(&o->body, off);
    return mpe__object_finish(e, o, out);
}

static void
lock(mpe_engine *e, mpe_object *o)
{
    mpe__ilock(e, &o->ilock, mpe__index_of(e, o));
}

static void
raise_version(mpe_object *o)
{
    mpe__store64(&o->word, mpe__load64(&o->word) + 1);
}

uint64_t
mpe_list_count(mpe_engine *e, mpe_object *o)
{
    if (!mpe__admits(e, o, MPE__KIND(LIST)))
        return 0;
    lock(e, o);
    uint64_t n = items_of(vector_of(e, o)).count;
    mpe__iunlock(e, &o->ilock);
    return n;
}

uint64_t
mpe__list_count_seen(mpe_engine *e, const mpe_object *o)
{
    return items_of(vector_of(e, o)).count;
}

/* Copies an item to the end of out, which may be NULL. Locked. */
static int
copy_item(mpe_engine *e, const struct item *n, mpe_buf *out)
{
    if (!out)
        return MPE_OK;
    if (mpe_buf_append(out, n->bytes, n->size) != MPE_OK)
        return MPE_ENOMEM;
    if (n->flags & HANDLES)
        mpe__pin_handles(e, n->bytes, n->size);
    return MPE_OK;
}

static void
note_removed(mpe_engine *e, const struct item *n)
{
    if (n->flags & HANDLES)
        mpe__note_removed(e, n->bytes, n->size);
}

int
mpe_list_get(mpe_engine *e, mpe_object *o, uint64_t index, mpe_buf *out)
{
    if (!out)
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__KIND(LIST)))
        return mpe__refusal(e, o, MPE__KIND(LIST));
    mpe__buf_adopt(out, &e->memory);
    lock(e, o);
    struct items old = items_of(vector_of(e, o));
    int rc = MPE_ERANGE;
    if (index < old.count)
        rc = copy_item(e, mpe__at(e, mpe__load64(&old.at[index])), out);
    mpe__iunlock(e, &o->ilock);
    return rc;
}

/* A vector in flight with the entries before index, a gap of one if gap is set, and those from
 * index + skip on. */
static int
rebuilt(mpe_engine *e, struct items old, uint64_t index, uint64_t skip, uint64_t gap,
        uint64_t capacity, uint64_t *off)
{
    int rc = new_vector(e, capacity, off);
    if (rc != MPE_OK)
        return rc;
    struct vector *v = mpe__at(e, *off);
    memcpy((void *)v->at, (const void *)old.at, index * sizeof(uint64_t));
    memcpy((void *)(v->at + index + gap), (const void *)(old.at + index + skip),
           (old.count - index - skip) * sizeof(uint64_t));
    mpe__store64(&v->span, span(0, old.count - skip + gap));
    return MPE_OK;
}

/* Replaces the vector by one with room behind the same items. Locked. */
static int
grow(mpe_engine *e, mpe_object *o)
{
    struct items old = items_of(vector_of(e, o));
    uint64_t off, capacity = old.count < FIRST_CAPACITY ? FIRST_CAPACITY : old.count * 2;
    int rc = rebuilt(e, old, old.count, 0, 0, capacity, &off);
    if (rc != MPE_OK)
        return rc;
    struct mpe__change c = {.object = o,
                            .link = &o->body,
                            .value = off,
                            .new_block = {off},
                            .old_block = {mpe__load64(&o->body)}};
    mpe__commit_change(e, &c);
    return MPE_OK;
}

static int
append_locked(mpe_engine *e, mpe_object *o, uint64_t item)
{
    struct items old = items_of(vector_of(e, o));
    if (old.first + old.count == vector_of(e, o)->capacity) {
        int rc = grow(e, o);
        if (rc != MPE_OK)
            return rc;
        old = items_of(vector_of(e, o));
    }
    mpe__store64(&old.at[old.count], item);
    struct mpe__change c = {.object = o,
                            .link = &vector_of(e, o)->span,
                            .value = span(old.first, old.count + 1),
                            .new_block = {item}};
    raise_version(o);
    mpe__commit_change(e, &c);
    return MPE_OK;
}

static int
set_locked(mpe_engine *e, mpe_object *o, uint64_t index, mpe_bytes bytes, int handles)
{
    struct items old = items_of(vector_of(e, o));
    uint64_t off;
    if (index > old.count)
        return MPE_ERANGE;
    int rc = new_item(e, bytes, handles, &off);
    if (rc != MPE_OK)
        return rc;
    if (index == old.count) {
        if ((rc = append_locked(e, o, off)) != MPE_OK)
            mpe__free(e, off);
        return rc;
    }
    struct mpe__change c = {.object = o,
                            .link = &old.at[index],
                            .value = off,
                            .new_block = {off},
                            .old_block = {mpe__load64(&old.at[index])}};
    note_removed(e, mpe__at(e, c.old_block[0]));
    raise_version(o);
    mpe__commit_change(e, &c);
    return MPE_OK;
}

int
mpe_list_set(mpe_engine *e, mpe_object *o, uint64_t index, mpe_bytes bytes, int handles)
{
    if (mpe__lacks(bytes))
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__KIND(LIST)))
        return mpe__refusal(e, o, MPE__KIND(LIST));
    if (handles)
        mpe__note_stored(e, o, bytes.data, bytes.size);
    lock(e, o);
    int rc = set_locked(e, o, index, bytes, handles);
    mpe__iunlock(e, &o->ilock);
    if (rc == MPE_OK)
        mpe__trace_did(e, MPE_DID_SET, 1, o);
    return rc;
}

static int
insert_locked(mpe_engine *e, mpe_object *o, uint64_t index, uint64_t item)
{
    struct items old = items_of(vector_of(e, o));
    uint64_t off;
    if ((int64_t)index < 0)
        index = index + 1 + old.count > old.count ? 0
                                                  : index + 1 + old.count; /* before the first? */
    if (index >= old.count)
        return append_locked(e, o, item);
    int rc = rebuilt(e, old, index, 0, 1, old.count + 1 + old.count / 4, &off);
    if (rc != MPE_OK)
        return rc;
    mpe__store64(&((struct vector *)mpe__at(e, off))->at[index], item);
    struct mpe__change c = {.object = o,
                            .link = &o->body,
                            .value = off,
                            .new_block = {off, item},
                            .old_block = {mpe__load64(&o->body)}};
    raise_version(o);
    mpe__commit_change(e, &c);
    return MPE_OK;
}

int
mpe_list_insert(mpe_engine *e, mpe_object *o, uint64_t index, mpe_bytes bytes, int handles)
{
    if (mpe__lacks(bytes))
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__KIND(LIST)))
        return mpe__refusal(e, o, MPE__KIND(LIST));
    uint64_t item;
    if (handles)
        mpe__note_stored(e, o, bytes.data, bytes.size);
    int rc = new_item(e, bytes, handles, &item);
    if (rc != MPE_OK)
        return rc;
    lock(e, o);
    rc = insert_locked(e, o, index, item);
    mpe__iunlock(e, &o->ilock);
    if (rc != MPE_OK)
        mpe__free(e, item);
    else
        mpe__trace_did(e, MPE_DID_INSERT, 1, o);
    return rc;
}

static int
remove_locked(mpe_engine *e, mpe_object *o, uint64_t index, mpe_buf *out)
{
    struct vector *v = vector_of(e, o);
    struct items old = items_of(v);
    uint64_t off = 0;
    if ((int64_t)index < 0)
        index += old.count;
    if (index >= old.count)
        return MPE_ERANGE;
    uint64_t item = mpe__load64(&old.at[index]);
    int rc = copy_item(e, mpe__at(e, item), out);
    struct mpe__change c = {.object = o, .old_block = {item}};
    int is_end = index == 0 || index + 1 == old.count;
    if (rc == MPE_OK && (!is_end || old.count * 8 < v->capacity))
        rc = rebuilt(e, old, index, 1, 0, old.count < FIRST_CAPACITY ? FIRST_CAPACITY : old.count,
                     &off);
    if (rc == MPE_EARENA && is_end) /* then the vector just stays large */
        rc = MPE_OK;
    if (off) {
        c.link = &o->body;
        c.value = off;
        c.new_block[0] = off;
        c.old_block[1] = mpe__load64(&o->body);
    } else {
        c.link = &v->span;
        c.value = span(old.first + (index == 0), old.count - 1);
    }
    if (rc != MPE_OK)
        return rc;
    note_removed(e, mpe__at(e, item));
    raise_version(o);
    mpe__commit_change(e, &c);
    return MPE_OK;
}

int
mpe_list_remove(mpe_engine *e, mpe_object *o, uint64_t index, mpe_buf *out)
{
    if (!mpe__admits(e, o, MPE__KIND(LIST)))
        return mpe__refusal(e, o, MPE__KIND(LIST));
    if (out)
        mpe__buf_adopt(out, &e->memory);
    lock(e, o);
    int rc = remove_locked(e, o, index, out);
    mpe__iunlock(e, &o->ilock);
    if (rc == MPE_OK)
        mpe__trace_did(e, MPE_DID_REMOVE, 1, o);
    return rc;
}

int
mpe_list_remove_if(mpe_engine *e, mpe_object *o, uint64_t index, uint64_t version)
{
    if (!mpe__admits(e, o, MPE__KIND(LIST)))
        return mpe__refusal(e, o, MPE__KIND(LIST));
    lock(e, o);
    int rc = mpe__load64(&o->word) == version ? remove_locked(e, o, index, NULL) : MPE_EAGAIN;
    mpe__iunlock(e, &o->ilock);
    if (rc == MPE_OK)
        mpe__trace_did(e, MPE_DID_REMOVE, 1, o);
    return rc;
}

void
mpe_list_clear(mpe_engine *e, mpe_object *o)
{
    if (!mpe__admits(e, o, MPE__KIND(LIST)))
        return;
    lock(e, o);
    while (remove_locked(e, o, UINT64_MAX, NULL) == MPE_OK)
        ;
    mpe__iunlock(e, &o->ilock);
    mpe__trace_did(e, MPE_DID_CLEAR, 1, o);
}

/* Appends one after the other, and removes them again when one does not fit. Locked. */
static int
extend_locked(mpe_engine *e, mpe_object *o, const mpe_bytes *items, size_t count, int handles)
{
    uint64_t before = items_of(vector_of(e, o)).count;
    for (size_t i = 0; i < count; i++) {
        int rc = set_locked(e, o, before + i, items[i], handles);
        if (rc == MPE_OK)
            continue;
        while (i-- > 0 && remove_locked(e, o, UINT64_MAX, NULL) == MPE_OK)
            ;
        return rc;
    }
    return MPE_OK;
}

int
mpe_list_extend(mpe_engine *e, mpe_object *o, const mpe_bytes *items, size_t count, int handles)
{
    if (!mpe__admits(e, o, MPE__KIND(LIST)))
        return mpe__refusal(e, o, MPE__KIND(LIST));
    if (!items && count > 0)
        return MPE_EINVAL;
    for (size_t i = 0; handles && i < count; i++)
        mpe__note_stored(e, o, items[i].data, items[i].size);
    lock(e, o);
    int rc = extend_locked(e, o, items, count, handles);
    mpe__iunlock(e, &o->ilock);
    if (rc == MPE_OK)
        mpe__trace_did(e, MPE_DID_UPDATE, (uint32_t)count, o);
    return rc;
}

int
mpe_list_snapshot(mpe_engine *e, mpe_object *o, mpe_buf *out, uint64_t *count, uint64_t *version)
{
    if (!mpe__admits(e, o, MPE__KIND(LIST)))
        return mpe__refusal(e, o, MPE__KIND(LIST));
    if (out)
        mpe__buf_adopt(out, &e->memory);
    static const uint8_t zeros[8];
    int rc = MPE_OK;
    lock(e, o);
    struct items all = items_of(vector_of(e, o));
    for (uint64_t i = 0; out && i < all.count && rc == MPE_OK; i++) {
        struct item *item = mpe__at(e, mpe__load64(&all.at[i]));
        uint32_t head[2] = {0, item->size}; /* as of a dict, without a key */
        rc = mpe_buf_append(out, head, sizeof head);
        if (rc == MPE_OK)
            rc = copy_item(e, item, out);
        if (rc == MPE_OK)
            rc = mpe_buf_append(out, zeros, -(uint64_t)item->size & 7);
    }
    if (count)
        *count = all.count;
    if (version)
        *version = mpe__load64(&o->word);
    mpe__iunlock(e, &o->ilock);
    return rc;
}

static int
replace_locked(mpe_engine *e, mpe_object *o, uint64_t version, const uint64_t *order,
               uint64_t count)
{
    struct items old = items_of(vector_of(e, o));
    uint64_t off;
    if (mpe__load64(&o->word) != version || old.count != count)
        return MPE_EAGAIN;
    int rc = new_vector(e, count, &off);
    if (rc != MPE_OK)
        return rc;
    struct vector *v = mpe__at(e, off);
    for (uint64_t i = 0; i < count; i++)
        mpe__store64(&v->at[i], mpe__load64(&old.at[order[i]]));
    mpe__store64(&v->span, span(0, count));
    struct mpe__change c = {.object = o,
                            .link = &o->body,
                            .value = off,
                            .new_block = {off},
                            .old_block = {mpe__load64(&o->body)}};
    raise_version(o);
    mpe__commit_change(e, &c);
    return MPE_OK;
}

/* Each index once: a repeated item would be freed twice. */
static int
check_order(const mpe_engine *e, const uint64_t *order, uint64_t count)
{
    size_t bytes = count ? count : 1;
    uint8_t *seen = mpe__new_zeroed(&e->memory, bytes);
    int rc = seen ? MPE_OK : MPE_ENOMEM;
    for (uint64_t i = 0; i < count && rc == MPE_OK; i++)
        if (order[i] >= count || seen[order[i]]++)
            rc = MPE_ERANGE;
    mpe__delete(&e->memory, seen, bytes);
    return rc;
}

int
mpe_list_reorder(mpe_engine *e, mpe_object *o, uint64_t version, const uint64_t *order,
                 uint64_t count)
{
    if (!mpe__admits(e, o, MPE__KIND(LIST)))
        return mpe__refusal(e, o, MPE__KIND(LIST));
    int rc = check_order(e, order, count);
    if (rc != MPE_OK)
        return rc;
    lock(e, o);
    rc = replace_locked(e, o, version, order, count);
    mpe__iunlock(e, &o->ilock);
    if (rc == MPE_OK)
        mpe__trace_did(e, MPE_DID_UPDATE, (uint32_t)count, o);
    return rc;
}

/* ---- hooks ---- */

static void
destroy(mpe_engine *e, mpe_object *o)
{
    struct items all = items_of(vector_of(e, o));
    for (uint64_t i = 0; i < all.count; i++)
        mpe__free(e, mpe__load64(&all.at[i]));
}

static void
scan(mpe_engine *e, mpe_object *o, int (*visit)(void *ud, uint64_t h), void *ud)
{
    lock(e, o);
    struct items all = items_of(vector_of(e, o));
    for (uint64_t i = 0; i < all.count; i++) {
        struct item *n = mpe__at(e, mpe__load64(&all.at[i]));
        if (n->flags & HANDLES)
            mpe_wire_scan_handles(n->bytes, n->size, visit, ud);
    }
    mpe__iunlock(e, &o->ilock);
}

static void
measure(mpe_engine *e, mpe_object *o, uint64_t *depth, uint64_t *bytes)
{
    lock(e, o);
    struct items all = items_of(vector_of(e, o));
    *depth = all.count;
    *bytes = 0;
    for (uint64_t i = 0; i < all.count; i++)
        *bytes += mpe__block_bytes(e, mpe__load64(&all.at[i]));
    mpe__iunlock(e, &o->ilock);
}

const struct mpe__kind mpe__list_kind = {.destroy = destroy, .scan = scan, .measure = measure};
