/* The object table. An entry is FREE, MAKING (being made or destroyed by the slot that journals
 * it), LIVE, or DOUBTED while a process finds out whether it may be destroyed. The generation is
 * bumped whenever an entry is freed, so a stale handle is an error value.
 *
 * Lifetime without counts, which could not be repaired after a crash: each object has a set of the
 * slots that hold it; containers hold by mention. An object is freed when no slot holds it and no
 * reachable container mentions it: at once when its handle was never stored, else by a sweep
 * (sweep.c). Bytes that leave a container pin their objects first (handles.c), so at every instant
 * a holder or a container names an object.
 *
 * Holding sets the bit and then reads the state; destroying sets DOUBTED and then reads the
 * bits: one of the two sees the other. The flags that spare the object (STORED for a drop,
 * TOUCHED for a sweep) are set by a process that holds it, so they too are read after DOUBTED.
 *
 * Each of these is a read-modify-write and then a sequentially consistent load.
 *
 * Death: between making's claim and the store of LIVE, or in a destruction, the journal names
 * the entry, the entry names the slot, and the reaper frees every block tagged with its index;
 * that can be repeated. An entry that was only DOUBTED is live again.
 */
#include "core/object.h"

#include "core/arena.h"
#include "core/bell.h"
#include "core/death.h"
#include "core/door.h"
#include "core/ilock.h"

#include <sched.h>
#include <string.h>

#define COMMIT_OBJECTS 512u

/* ---- making ---- */

/* Extends the table to index top. Arena lock held. */
static int
raise_top(mpe_engine *e, uint32_t top)
{
    struct mpe__header *h = e->header;
    if (top > h->objects_max)
        return MPE_EARENA;
    uint32_t backed = mpe__load32(&h->objects_committed);
    if (top > backed) {
        int rc = mpe__commit(e, h->objects_off + (uint64_t)backed * sizeof(mpe_object),
                             COMMIT_OBJECTS * sizeof(mpe_object));
        if (rc != MPE_OK)
            return rc;
        mpe__store32(&h->objects_committed, backed + COMMIT_OBJECTS);
    }
    mpe__store32(&h->objects_top, top);
    return MPE_OK;
}

static int
claim(mpe_engine *e, uint32_t index)
{
    uint32_t state = MPE__OBJECT_FREE;
    mpe__store32(&e->self->making, index);
    if (atomic_compare_exchange_strong(&e->objects[index].state, &state,
                                       MPE__OBJECT_BY(MPE__OBJECT_MAKING, e->slot)))
        return 1;
    mpe__store32(&e->self->making, 0);
    return 0;
}

/* Claims a free entry below top, starting behind the hint. */
static int
claim_below(mpe_engine *e, uint32_t top, uint32_t *index)
{
    for (uint32_t k = 1; k <= top; k++) {
        uint32_t i = (e->object_hint + k) % top;
        if (i == 0 || mpe__load32(&e->objects[i].state) != MPE__OBJECT_FREE || !claim(e, i))
            continue;
        e->object_hint = i;
        *index = i;
        return 1;
    }
    return 0;
}

/* The table is searched only when an entry was freed since a search found none. */
static int
claim_freed(mpe_engine *e, uint32_t top, uint32_t *index)
{
    mpe__a32 *flag = &e->header->objects_free;
    if (!mpe__load32(flag))
        return 0;
    if (claim_below(e, top, index))
        return 1;
    atomic_store(flag, 0);
    if (!claim_below(e, top, index)) /* one may have been freed in the meantime */
        return 0;
    atomic_store(flag, 1);
    return 1;
}

static int
claim_any(mpe_engine *e, uint32_t *index)
{
    for (;;) {
        uint32_t top = mpe__load32(&e->header->objects_top);
        if (claim_freed(e, top, index))
            return MPE_OK;
        mpe__ilock(e, &e->header->arena_lock, 0);
        int rc = MPE_OK;
        if (mpe__load32(&e->header->objects_top) == top)
            rc = raise_top(e, top + 1);
        mpe__iunlock(e, &e->header->arena_lock);
        if (rc != MPE_OK)
            return rc;
        if (mpe__load32(&e->objects[top].state) == MPE__OBJECT_FREE && claim(e, top)) {
            *index = top;
            return MPE_OK;
        }
    }
}

/* The body of an entry that is being made. */
static int
give_body(mpe_engine *e, mpe_object *o, uint64_t bytes)
{
    uint64_t off;
    int rc = mpe__alloc_zeroed(e, bytes, &off);
    if (rc != MPE_OK)
        return rc;
    mpe__attach(e, off, mpe__index_of(e, o));
    mpe__store64(&o->body, off);
    return MPE_OK;
}

int
mpe__object_begin(mpe_engine *e, int kind, uint64_t more, mpe_object **out)
{
    uint32_t index;
    uint64_t bytes = e->kinds[kind]->body_bytes + more;
    mpe__sweep_if_wanted(e);
    int rc = claim_any(e, &index);
    if (rc != MPE_OK)
        return rc;
    mpe_object *o = &e->objects[index];
    atomic_store_explicit(&o->kind, (uint16_t)kind, memory_order_relaxed);
    atomic_store_explicit(&o->flags, 0, memory_order_relaxed);
    mpe__store64(&o->word, 0);
    mpe__store64(&o->body, 0);
    atomic_store_explicit(&o->label, 0, memory_order_relaxed);
    if (bytes > 0 && (rc = give_body(e, o, bytes)) != MPE_OK) {
        mpe__object_abandon(e, o);
        return rc;
    }
    *out = o;
    return MPE_OK;
}

static int
holds_reach(mpe_engine *e, uint32_t index)
{
    if (index < e->holds_capacity)
        return MPE_OK;
    uint32_t capacity = e->holds_capacity ? e->holds_capacity : 256;
    while (capacity <= index)
        capacity *= 2;
    uint32_t *holds = mpe__renew(&e->memory, e->holds, e->holds_capacity * sizeof *holds,
                                 capacity * sizeof *holds);
    if (!holds)
        return MPE_ENOMEM;
    memset(holds + e->holds_capacity, 0, (capacity - e->holds_capacity) * sizeof *holds);
    e->holds = holds;
    e->holds_capacity = capacity;
    return MPE_OK;
}

int
mpe__object_finish(mpe_engine *e, mpe_object *o, mpe_object **out)
{
    uint32_t index = mpe__index_of(e, o);
    if (holds_reach(e, index) != MPE_OK) {
        mpe__object_abandon(e, o);
        return MPE_ENOMEM;
    }
    e->holds[index] = 1;
    mpe__set_add(&o->holders, e->slot);
    atomic_fetch_or(&o->flags, MPE__OBJECT_TOUCHED); /* a sweep in progress has not seen it */
    mpe__store32(&o->state, MPE__OBJECT_LIVE);
    mpe__store32(&e->self->making, 0);
    *out = o;
    return MPE_OK;
}

int
mpe__object_create(mpe_engine *e, int kind, mpe_object **out)
{
    mpe_object *o;
    int rc = mpe__object_begin(e, kind, 0, &o);
    return rc == MPE_OK ? mpe__object_finish(e, o, out) : rc;
}

/* ---- freeing ---- */

static void
free_entry(mpe_engine *e, mpe_object *o)
{
    for (uint32_t i = 0; i < MPE__SLOT_WORDS; i++) {
        mpe__store64(&o->holders.bits[i], 0);
        for (int event = 0; event < MPE_EVENTS; event++)
            mpe__store64(&o->waiters[event].bits[i], 0);
    }
    mpe__store64(&o->body, 0);
    mpe__store32(&o->generation, (mpe__load32(&o->generation) + 1) & 0xffffff);
    atomic_store(&o->state, MPE__OBJECT_FREE);
    atomic_store(&e->header->objects_free, 1);
    e->object_hint = mpe__index_of(e, o) - 1; /* still in the cache: used next */
}

void
mpe__object_abandon(mpe_engine *e, mpe_object *o)
{
    mpe__free_making(e, mpe__index_of(e, o), e->slot);
    mpe__store32(&e->self->making, 0);
}

void
mpe__free_making(mpe_engine *e, uint32_t index, uint32_t slot)
{
    mpe_object *o = &e->objects[index];
    uint32_t doubted = MPE__OBJECT_BY(MPE__OBJECT_DOUBTED, slot);
    if (atomic_compare_exchange_strong(&o->state, &doubted, MPE__OBJECT_LIVE))
        mpe__store32(&e->header->sweep_wanted, 1);
    if (mpe__load32(&o->state) != MPE__OBJECT_BY(MPE__OBJECT_MAKING, slot))
        return;
    mpe__free_owned_by(e, MPE__ATTACHED | index);
    free_entry(e, o);
}

int
mpe__object_destroy(mpe_engine *e, mpe_object *o, uint16_t spare)
{
    uint32_t state = MPE__OBJECT_LIVE;
    mpe__store32(&e->self->making, mpe__index_of(e, o));
    if (!atomic_compare_exchange_strong(&o->state, &state,
                                        MPE__OBJECT_BY(MPE__OBJECT_DOUBTED, e->slot))) {
        mpe__store32(&e->self->making, 0);
        return 0;
    }
    if (!mpe__set_empty(&o->holders) || atomic_load(&o->flags) & spare) {
        atomic_store(&o->state, MPE__OBJECT_LIVE);
        mpe__store32(&e->self->making, 0);
        return 0;
    }
    mpe__store32(&o->state, MPE__OBJECT_BY(MPE__OBJECT_MAKING, e->slot));
    const struct mpe__kind *kind = mpe__kind_of(e, o);
    if (kind->destroy)
        kind->destroy(e, o);
    uint64_t body = mpe__load64(&o->body), name = MPE__LABEL_NAME(mpe__load64(&o->label));
    if (body)
        mpe__free(e, body);
    if (name)
        mpe__free(e, name);
    free_entry(e, o);
    mpe__store32(&e->self->making, 0);
    return 1;
}

/* ---- holding ---- */

static mpe_handle
sealed(const mpe_engine *e, const mpe_object *o)
{
    return ((uint64_t)atomic_load_explicit(&o->kind, memory_order_relaxed) << 56 |
            (uint64_t)(atomic_load_explicit(&o->generation, memory_order_relaxed) & 0xffffff)
                << 32 |
            mpe__index_of(e, o)) ^
           e->seal;
}

mpe_handle
mpe_handle_of(mpe_engine *e, const mpe_object *o)
{
    if (!mpe__admits(e, o, MPE__ANY_KIND))
        return 0;
    return sealed(e, o);
}

mpe_handle
mpe__handle_as(mpe_engine *e, const mpe_object *o, int kind)
{
    return (sealed(e, o) & ~(0xffull << 56)) | (uint64_t)kind << 56;
}

int
mpe_kind_of(const mpe_object *o)
{
    return !o ? MPE_EINVAL : atomic_load_explicit(&o->kind, memory_order_relaxed);
}

/* Does the handle name the entry's current object, or a facet of it? */
static int
names(const mpe_engine *e, mpe_handle h, const mpe_object *o)
{
    int named = mpe_handle_kind(h);
    if ((mpe__load32(&o->generation) & 0xffffff) != (uint32_t)((h ^ e->seal) >> 32 & 0xffffff))
        return 0;
    return mpe_kind_of(o) == named ||
           (named < MPE_KIND_COUNT && mpe__kind_of(e, o)->facets >> named & 1);
}

int
mpe_hold(mpe_engine *e, mpe_handle h, mpe_object **out)
{
    if (!out || !mpe__is_ours(e))
        return out ? mpe__refusal(e, NULL, 0) : MPE_EINVAL;
    uint32_t index = mpe__handle_index(e, h);
    if (index == 0 || index >= mpe__load32(&e->header->objects_top))
        return MPE_ESTALE;
    if (holds_reach(e, index) != MPE_OK)
        return MPE_ENOMEM;
    mpe_object *o = &e->objects[index];
    if (e->holds[index] > 0) {
        if (!names(e, h, o))
            return MPE_ESTALE;
        e->holds[index]++;
        *out = o;
        return MPE_OK;
    }
    for (;;) {
        uint32_t state = mpe__load32(&o->state);
        if (state == MPE__OBJECT_FREE || !names(e, h, o))
            return MPE_ESTALE;
        mpe__set_add(&o->holders, e->slot);
        atomic_fetch_or(&o->flags, MPE__OBJECT_TOUCHED);
        if (atomic_load(&o->state) == MPE__OBJECT_LIVE && names(e, h, o))
            break;
        mpe__set_remove(&o->holders, e->slot); /* it is being destroyed: wait for the outcome */
        mpe__reap_all(e);
        sched_yield();
    }
    e->holds[index] = 1;
    *out = o;
    return MPE_OK;
}

void
mpe_drop(mpe_engine *e, mpe_object *o)
{
    if (!mpe__admits(e, o, MPE__ANY_KIND))
        return;
    uint32_t index = mpe__index_of(e, o);
    if (index >= e->holds_capacity || e->holds[index] == 0 || --e->holds[index] > 0)
        return;
    uint64_t body = mpe__load64(&o->body), bytes = body ? mpe__block_bytes(e, body) : 0;
    mpe__set_remove(&o->holders, e->slot);
    if (!mpe__set_empty(&o->holders))
        return;
    uint16_t flags = atomic_load(&o->flags); /* now: it may have been stored since */
    if (!(flags & MPE__OBJECT_STORED))
        mpe__object_destroy(e, o, MPE__OBJECT_STORED);
    if (flags & (MPE__OBJECT_STORED | MPE__OBJECT_CONTAINS))
        mpe__sweep_note(e, bytes);
    if (flags & MPE__OBJECT_URGENT)
        mpe__sweep_soon(e);
    mpe__sweep_if_wanted(e);
}

int
mpe__object_borrow(mpe_engine *e, mpe_object *o)
{
    int was_held = mpe__set_has(&o->holders, e->slot);
    mpe__set_add(&o->holders, e->slot);
    return was_held;
}

void
mpe__object_return(mpe_engine *e, mpe_object *o, int was_held)
{
    if (was_held)
        return;
    mpe__set_remove(&o->holders, e->slot);
    if (mpe__load32(&o->state) == MPE__OBJECT_LIVE && mpe__set_empty(&o->holders))
        mpe__object_destroy(e, o, MPE__OBJECT_STORED); /* its last holder may have left meanwhile */
}

void
mpe__holds_copy_bits(mpe_engine *e, uint32_t to_slot)
{
    for (uint32_t i = 1; i < e->holds_capacity; i++)
        if (e->holds[i])
            mpe__set_add(&e->objects[i].holders, to_slot);
}
