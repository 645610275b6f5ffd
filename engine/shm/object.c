/* The object table. An entry is FREE, MAKING (being made or destroyed by the slot that journals
 * it), LIVE, or DOUBTED for the moment in which somebody finds out whether it may be destroyed. The
 * generation is bumped whenever an entry is freed, so a stale handle is an error value.
 *
 * Lifetime without counts, which could not be repaired after a crash: each object has a set of the
 * slots that hold it; containers hold by mention. An object is freed when no slot holds it and no
 * reachable container mentions it: at once when its handle was never stored, else by a sweep that
 * marks from the held objects through the containers, so cycles of containers go too. Bytes that
 * leave a container pin their objects first, so at every instant a holder or a container names an
 * object; one that found a new holder while a sweep ran carries TOUCHED and is spared.
 *
 * Holding sets the bit and then reads the state; destroying sets DOUBTED and then reads the bits:
 * one of the two sees the other. What would make the object worth sparing (STORED for a drop,
 * TOUCHED for a sweep) is set by somebody who holds it, so it too is read after DOUBTED.
 *
 * Death: between making's claim and the store of LIVE, or in a destruction, the journal names the
 * entry, the entry names the slot, and the reaper frees every block tagged with its index; that can
 * be repeated. What was only DOUBTED is live again.
 */
#include "shm/object.h"

#include "shm/arena.h"
#include "shm/pipe.h"
#include "sync/bell.h"
#include "sync/death.h"
#include "sync/ilock.h"
#include "sync/slot.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#define SWEEP_AFTER 64u            /* dropped candidates that make a sweep worth while */
#define SWEEP_NOW_BYTES (1u << 20) /* nor is more than this left lying about */
#define COMMIT_OBJECTS 512u

/* ---- making ---- */

/* Makes the table reach index top. Arena lock held. */
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

/* The table is searched only when somebody has freed an entry since a search found none. */
static int
claim_freed(mpe_engine *e, uint32_t top, uint32_t *index)
{
    mpe__a32 *flag = &e->header->objects_free;
    if (!mpe__load32(flag))
        return 0;
    if (claim_below(e, top, index))
        return 1;
    atomic_store(flag, 0);
    if (!claim_below(e, top, index)) /* one may have been freed between */
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

int
mpe__object_begin(mpe_engine *e, int kind, mpe_object **out)
{
    uint32_t index;
    mpe__sweep_if_wanted(e);
    int rc = claim_any(e, &index);
    if (rc != MPE_OK)
        return rc;
    mpe_object *o = &e->objects[index];
    atomic_store_explicit(&o->kind, (uint16_t)kind, memory_order_relaxed);
    atomic_store_explicit(&o->flags, 0, memory_order_relaxed);
    mpe__store64(&o->word, 0);
    mpe__store64(&o->body, 0);
    *out = o;
    return MPE_OK;
}

int
mpe__object_begin_with_body(mpe_engine *e, int kind, uint64_t bytes, mpe_object **out)
{
    mpe_object *o;
    int rc = mpe__object_begin(e, kind, &o);
    if (rc != MPE_OK)
        return rc;
    uint64_t off;
    if ((rc = mpe__alloc_zeroed(e, bytes, &off)) != MPE_OK) {
        mpe__object_abandon(e, o);
        return rc;
    }
    mpe__attach(e, off, mpe__index_of(e, o));
    mpe__store64(&o->body, off);
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
    uint32_t *holds = realloc(e->holds, capacity * sizeof *holds);
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
    atomic_fetch_or(&o->flags, MPE__OBJECT_TOUCHED); /* a sweep under way has not seen it */
    mpe__store32(&o->state, MPE__OBJECT_LIVE);
    mpe__store32(&e->self->making, 0);
    *out = o;
    return MPE_OK;
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
    e->object_hint = mpe__index_of(e, o) - 1; /* still warm: next out */
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

/* Frees an object unless somebody holds it or it has one of the flags that spare it. 1 when it is
 * gone. */
static int
destroy(mpe_engine *e, mpe_object *o, uint16_t spare)
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
    const struct mpe__kind_ops *ops = e->kinds[atomic_load(&o->kind)];
    if (ops->destroy)
        ops->destroy(e, o);
    uint64_t body = mpe__load64(&o->body);
    if (body)
        mpe__free(e, body);
    free_entry(e, o);
    mpe__store32(&e->self->making, 0);
    return 1;
}

/* ---- holding ---- */

mpe_handle
mpe_handle_of(mpe_engine *e, const mpe_object *o)
{
    return (uint64_t)atomic_load_explicit(&o->kind, memory_order_relaxed) << 56 |
           (uint64_t)(atomic_load_explicit(&o->generation, memory_order_relaxed) & 0xffffff) << 32 |
           mpe__index_of(e, o);
}

mpe_handle
mpe_lock_facet(mpe_engine *e, const mpe_object *o)
{
    return (mpe_handle_of(e, o) & ~(0xffull << 56)) | (uint64_t)MPE_KIND_RLOCK << 56;
}

int
mpe_kind_of(const mpe_object *o)
{
    return atomic_load_explicit(&o->kind, memory_order_relaxed);
}

/* Does the handle name what the entry is now? An RLock handle may name the lock facet of an array,
 * a value or a condition. */
static int
names(mpe_handle h, const mpe_object *o)
{
    int kind = mpe_kind_of(o), named = mpe_handle_kind(h);
    if ((mpe__load32(&o->generation) & 0xffffff) != (uint32_t)(h >> 32 & 0xffffff))
        return 0;
    return kind == named || (named == MPE_KIND_PIPE_OTHER && kind == MPE_KIND_PIPE) ||
           (named == MPE_KIND_RLOCK &&
            (kind == MPE_KIND_ARRAY || kind == MPE_KIND_VALUE || kind == MPE_KIND_CONDITION));
}

int
mpe_hold(mpe_engine *e, mpe_handle h, mpe_object **out)
{
    uint32_t index = (uint32_t)h;
    if (index == 0 || index >= mpe__load32(&e->header->objects_top))
        return MPE_ESTALE;
    if (holds_reach(e, index) != MPE_OK)
        return MPE_ENOMEM;
    mpe_object *o = &e->objects[index];
    if (e->holds[index] > 0) {
        if (!names(h, o))
            return MPE_ESTALE;
        e->holds[index]++;
        *out = o;
        return MPE_OK;
    }
    for (;;) {
        uint32_t state = mpe__load32(&o->state);
        if (state == MPE__OBJECT_FREE || !names(h, o))
            return MPE_ESTALE;
        mpe__set_add(&o->holders, e->slot);
        atomic_fetch_or(&o->flags, MPE__OBJECT_TOUCHED);
        if (atomic_load(&o->state) == MPE__OBJECT_LIVE && names(h, o))
            break;
        mpe__set_remove(&o->holders, e->slot); /* somebody is destroying it: see how that ends */
        mpe__reap_all(e);
        sched_yield();
    }
    e->holds[index] = 1;
    *out = o;
    return MPE_OK;
}

/* What may have become garbage, by its number and its size. */
static void
add_candidate(mpe_engine *e, uint64_t bytes)
{
    uint64_t weight = 1 + bytes / (SWEEP_NOW_BYTES / SWEEP_AFTER);
    atomic_fetch_add(&e->header->candidates, weight < SWEEP_AFTER ? (uint32_t)weight : SWEEP_AFTER);
}

void
mpe_drop(mpe_engine *e, mpe_object *o)
{
    uint32_t index = mpe__index_of(e, o);
    if (index >= e->holds_capacity || e->holds[index] == 0 || --e->holds[index] > 0)
        return;
    uint64_t body = mpe__load64(&o->body), bytes = body ? mpe__block_bytes(e, body) : 0;
    mpe__set_remove(&o->holders, e->slot);
    if (!mpe__set_empty(&o->holders))
        return;
    uint16_t flags = atomic_load(&o->flags); /* now: it may have been stored since */
    if (!(flags & MPE__OBJECT_STORED))
        destroy(e, o, MPE__OBJECT_STORED);
    if (flags & (MPE__OBJECT_STORED | MPE__OBJECT_CONTAINS))
        add_candidate(e, bytes);
    mpe__sweep_if_wanted(e);
}

void
mpe__holds_copy_bits(mpe_engine *e, uint32_t to_slot)
{
    for (uint32_t i = 1; i < e->holds_capacity; i++)
        if (e->holds[i])
            mpe__set_add(&e->objects[i].holders, to_slot);
}

/* ---- handles in bytes ---- */

uint32_t
mpe_pin_mark(mpe_engine *e)
{
    return e->pins_count;
}

void
mpe_unpin(mpe_engine *e, uint32_t mark)
{
    while (e->pins_count > mark)
        mpe_drop(e, e->pins[--e->pins_count]);
}

static int
pin(void *ud, uint64_t handle)
{
    mpe_engine *e = ud;
    mpe_object *o;
    if (e->pins_count == e->pins_capacity) {
        uint32_t capacity = e->pins_capacity ? e->pins_capacity * 2 : 16;
        mpe_object **pins = realloc(e->pins, capacity * sizeof *pins);
        if (!pins)
            return 0; /* the receiver will find a stale handle at worst */
        e->pins = pins;
        e->pins_capacity = capacity;
    }
    if (mpe_hold(e, handle, &o) != MPE_OK)
        return 0;
    e->pins[e->pins_count++] = o;
    if (mpe__pipe_end(handle) >= 0) /* before the message that mentions it is gone */
        mpe_pipe_use(e, o, mpe__pipe_end(handle));
    return 0;
}

void
mpe__pin_handles(mpe_engine *e, const void *bytes, size_t size)
{
    mpe_wire_scan_handles(bytes, size, pin, e);
}

static int
mark_stored(void *ud, uint64_t handle)
{
    mpe_engine *e = ud;
    uint32_t index = (uint32_t)handle;
    if (index && index < mpe__load32(&e->header->objects_top))
        atomic_fetch_or(&e->objects[index].flags, MPE__OBJECT_STORED);
    return 0;
}

void
mpe__note_stored(mpe_engine *e, mpe_object *o, const void *bytes, size_t size)
{
    atomic_fetch_or(&o->flags, MPE__OBJECT_CONTAINS);
    mpe_wire_scan_handles(bytes, size, mark_stored, e);
}

static int
add_removed(void *ud, uint64_t handle)
{
    mpe_engine *e = ud;
    uint32_t index = (uint32_t)handle;
    if (index == 0 || index >= mpe__load32(&e->header->objects_top))
        return 0;
    uint64_t body = mpe__load64(&e->objects[index].body);
    add_candidate(e, body ? mpe__block_bytes(e, body) : 0);
    return 0;
}

void
mpe__note_removed(mpe_engine *e, const void *bytes, size_t size)
{
    mpe_wire_scan_handles(bytes, size, add_removed, e);
}

/* ---- the sweep ---- */

enum { MARKED = 1, END_MENTIONED = 2 }; /* for end 0 of a pipe; the next bit for end 1 */

struct sweep {
    mpe_engine *e;
    uint8_t *marked;
    uint32_t *todo; /* marked containers not yet scanned */
    uint32_t count, top;
};

static void
mark(struct sweep *s, uint32_t index)
{
    if (index == 0 || index >= s->top || s->marked[index] & MARKED)
        return;
    s->marked[index] |= MARKED;
    if (atomic_load(&s->e->objects[index].flags) & MPE__OBJECT_CONTAINS)
        s->todo[s->count++] = index;
}

static int
mark_handle(void *ud, uint64_t handle)
{
    struct sweep *s = ud;
    uint32_t index = (uint32_t)handle;
    if (mpe__pipe_end(handle) >= 0 && index < s->top)
        s->marked[index] |= (uint8_t)(END_MENTIONED << mpe__pipe_end(handle));
    mark(s, index);
    return 0;
}

static int
is_live(mpe_object *o)
{
    return mpe__load32(&o->state) == MPE__OBJECT_LIVE;
}

/* Visits the contents of a container, which this slot holds meanwhile, so that nobody frees it. */
static void
scan(struct sweep *s, uint32_t index)
{
    mpe_engine *e = s->e;
    mpe_object *o = &e->objects[index];
    int is_held = index < e->holds_capacity && e->holds[index] > 0;
    mpe__set_add(&o->holders, e->slot);
    if (mpe__object_settles_live(e, o)) {
        const struct mpe__kind_ops *ops = e->kinds[mpe_kind_of(o)];
        if (ops->scan)
            ops->scan(e, o, mark_handle, s);
    }
    if (is_held)
        return;
    mpe__set_remove(&o->holders, e->slot);
    if (is_live(o) && mpe__set_empty(&o->holders))
        destroy(e, o, MPE__OBJECT_STORED); /* its last holder may have left meanwhile */
}

/* TOUCHED is cleared before the holders are read: who takes hold after that leaves it set. */
static void
mark_reachable(struct sweep *s)
{
    mpe_engine *e = s->e;
    for (uint32_t i = 1; i < s->top; i++) {
        mpe_object *o = &e->objects[i];
        if (!(mpe__load32(&o->state) & MPE__OBJECT_LIVE)) /* DOUBTED may become live again */
            continue;
        atomic_fetch_and(&o->flags, (uint16_t)~MPE__OBJECT_TOUCHED);
        if (!mpe__set_empty(&o->holders))
            mark(s, i);
    }
    while (s->count > 0)
        scan(s, s->todo[--s->count]);
}

static void
sweep(mpe_engine *e)
{
    struct sweep s = {.e = e, .top = mpe__load32(&e->header->objects_top)};
    s.marked = calloc(s.top, 1);
    s.todo = malloc(s.top * sizeof *s.todo);
    if (s.marked && s.todo) {
        mark_reachable(&s);
        for (uint32_t i = 1; i < s.top; i++) {
            mpe_object *o = &e->objects[i];
            if (!(s.marked[i] & MARKED) && is_live(o))
                destroy(e, o, MPE__OBJECT_TOUCHED);
            else if (is_live(o) && mpe_kind_of(o) == MPE_KIND_PIPE)
                mpe__pipe_sweep(e, o, s.marked[i] / END_MENTIONED);
        }
    }
    free(s.marked);
    free(s.todo);
}

void
mpe__sweep_if_wanted(mpe_engine *e)
{
    struct mpe__header *h = e->header;
    if (MPE__LIKELY(mpe__load32(&h->candidates) < SWEEP_AFTER && !mpe__load32(&h->sweep_wanted)))
        return;
    if (e->depth > 0 || mpe__load32(&e->self->making) || mpe__load32(&h->sweep_lock))
        return;
    mpe__slots_free_unborn(e); /* or what they would have held is kept for them */
    mpe__ilock(e, &h->sweep_lock, 0);
    mpe__store32(&h->candidates, 0);
    mpe__store32(&h->sweep_wanted, 0);
    sweep(e);
    mpe__iunlock(e, &h->sweep_lock);
}

/* The recovery of kind NONE, that of object 0, to which the locks of the header belong. */
void
mpe__sweep_recover(mpe_engine *e, mpe_object *o, uint64_t lock_off)
{
    (void)o;
    if (mpe__at(e, lock_off) == (void *)&e->header->sweep_lock)
        mpe__store32(&e->header->sweep_wanted, 1);
}

/* ---- looking at objects ---- */

void
mpe_object_info_get(mpe_engine *e, mpe_object *o, mpe_object_info *out)
{
    *out = (mpe_object_info){.handle = mpe_handle_of(e, o), .kind = mpe_kind_of(o)};
    out->holders = mpe__set_count(&o->holders);
    struct mpe__slotset both;
    for (uint32_t i = 0; i < MPE__SLOT_WORDS; i++)
        atomic_init(&both.bits[i], mpe__load64(&o->waiters[0].bits[i]) |
                                       mpe__load64(&o->waiters[1].bits[i]) |
                                       mpe__load64(&o->waiters[2].bits[i]));
    out->waiters = mpe__set_count(&both);
    const struct mpe__kind_ops *ops = e->kinds[out->kind];
    if (ops->measure)
        ops->measure(e, o, &out->depth, &out->bytes);
    out->bytes += sizeof *o;
    uint64_t body = mpe__load64(&o->body);
    if (body)
        out->bytes += mpe__block_bytes(e, body);
}

int
mpe_object_next(mpe_engine *e, uint32_t *index, mpe_object_info *out)
{
    uint32_t top = mpe__load32(&e->header->objects_top);
    for (uint32_t i = *index + 1; i < top; i++) {
        mpe_object *o;
        if (mpe__load32(&e->objects[i].state) != MPE__OBJECT_LIVE ||
            mpe_hold(e, mpe_handle_of(e, &e->objects[i]), &o) != MPE_OK)
            continue;
        mpe_object_info_get(e, o, out);
        out->holders -= e->holds[i] == 1; /* this call's own hold */
        mpe_drop(e, o);
        *index = i;
        return MPE_OK;
    }
    return MPE_ENOENT;
}
