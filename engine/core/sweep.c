/* The sweep: marks from the held objects through the containers, and frees objects that were not
 * marked, so cycles of containers are freed too. It runs when enough was dropped or removed, or a
 * death has left an object without a holder, at points where the caller holds no lock; and before a
 * call fails for lack of memory.
 *
 * Other processes take objects out of containers and put them into others meanwhile, so the scan
 * may find an object in neither. But the object had a holder on the way, and carries TOUCHED. Such
 * objects are marked after the others, with all that they contain, until there are no more. The
 * rest cannot be reached: a process that could reach it would have taken it from an object that is
 * marked, scanned and still mentions it.
 *
 * A sweep that is wanted while another runs is left to that one, which begins again.
 *
 * The size of a dropped container is not known without a walk through it. But its contents are
 * part of the arena's growth since the last sweep: when that is large, one candidate is enough.
 *
 * Death: garbage is freed object by object, each as in object.c. A death makes a sweep wanted
 * when it leaves an object that no slot holds (leave_object in death.c), which includes all
 * garbage.
 */
#include "core/object.h"

#include "core/bell.h"
#include "core/death.h"
#include "core/ilock.h"
#include "core/slot.h"
#include "core/door.h"

#define SWEEP_AFTER 64u            /* dropped candidates that make a sweep worthwhile */
#define SWEEP_NOW_BYTES (1u << 20) /* the limit of unfreed garbage */
#define GROWN_PART 8u /* ... or this part of the arena, in the contents of containers */

/* Has the arena grown by so much since the last sweep that one is worthwhile for any candidate?
 * In proportion to its size, so that sweeps stay rare while a program fills it. */
static int
has_grown(const mpe_engine *e)
{
    const struct mpe__header *h = e->header;
    uint64_t much = mpe__load64(&h->committed_bytes) / GROWN_PART;
    uint64_t grown = mpe__load64(&h->grown_bytes) - mpe__load64(&h->swept_at);
    return grown > (much > SWEEP_NOW_BYTES ? much : SWEEP_NOW_BYTES);
}

void
mpe__sweep_note(mpe_engine *e, uint64_t bytes)
{
    if (has_grown(e))
        bytes += SWEEP_NOW_BYTES;
    uint64_t weight = 1 + bytes / (SWEEP_NOW_BYTES / SWEEP_AFTER);
    atomic_fetch_add(&e->header->candidates, weight < SWEEP_AFTER ? (uint32_t)weight : SWEEP_AFTER);
}

void
mpe__sweep_soon(mpe_engine *e)
{
    atomic_fetch_add(&e->header->candidates, SWEEP_AFTER);
}

enum { MARKED = 1, PART_MENTIONED = 2 }; /* for part 0 of an object; the next bits for others */

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
    uint32_t index = mpe__handle_index(s->e, handle);
    if (index < s->top)
        s->marked[index] |= (uint8_t)(PART_MENTIONED << mpe__kind_named(s->e, handle)->part);
    mark(s, index);
    return 0;
}

static int
is_live(mpe_object *o)
{
    return mpe__load32(&o->state) == MPE__OBJECT_LIVE;
}

/* Visits the contents of a container. */
static void
scan(struct sweep *s, uint32_t index)
{
    mpe_engine *e = s->e;
    mpe_object *o = &e->objects[index];
    int was_held = mpe__object_borrow(e, o);
    if (mpe__object_settles_live(e, o)) {
        const struct mpe__kind *kind = mpe__kind_of(e, o);
        if (kind->scan)
            kind->scan(e, o, mark_handle, s);
    }
    mpe__object_return(e, o, was_held);
}

/* Has it got a holder since the sweep began? Read in this order: TOUCHED is set while it is held. */
static int
was_touched(mpe_object *o)
{
    return !mpe__set_empty(&o->holders) || atomic_load(&o->flags) & MPE__OBJECT_TOUCHED;
}

/* 1 when there was one to be marked. */
static int
mark_touched(struct sweep *s)
{
    int found = 0;
    for (uint32_t i = 1; i < s->top; i++) {
        mpe_object *o = &s->e->objects[i];
        if (s->marked[i] & MARKED || !(mpe__load32(&o->state) & MPE__OBJECT_LIVE) ||
            !was_touched(o))
            continue;
        mark(s, i);
        found = 1;
    }
    return found;
}

/* TOUCHED is cleared before the holders are read: a process that takes hold later leaves it set. */
static void
mark_reachable(struct sweep *s)
{
    mpe_engine *e = s->e;
    for (uint32_t i = 1; i < s->top; i++) {
        mpe_object *o = &e->objects[i];
        if (!(mpe__load32(&o->state) & MPE__OBJECT_LIVE)) /* DOUBTED may become live again */
            continue;
        atomic_fetch_and(&o->flags, (uint16_t)~MPE__OBJECT_SINCE_SWEEP);
        if (!mpe__set_empty(&o->holders))
            mark(s, i);
    }
    uint64_t directory = mpe__load64(&e->header->directory);
    mark(s, MPE__DIRECTORY_DICT(directory));
    mark(s, MPE__DIRECTORY_EVENT(directory));
    do
        while (s->count > 0)
            scan(s, s->todo[--s->count]);
    while (mark_touched(s));
}

/* Frees an object that was not marked, and tells a marked one which of its parts are mentioned. */
static void
settle(mpe_engine *e, mpe_object *o, uint8_t marked)
{
    if (!is_live(o))
        return;
    const struct mpe__kind *kind = mpe__kind_of(e, o);
    if (!(marked & MARKED)) {
        mpe__object_destroy(e, o, MPE__OBJECT_TOUCHED);
    } else if (kind->swept) {
        int was_held = mpe__object_borrow(e, o);
        if (mpe__object_settles_live(e, o) && mpe__kind_of(e, o) == kind)
            kind->swept(e, o, marked / PART_MENTIONED);
        mpe__object_return(e, o, was_held);
    }
}

static void
sweep(mpe_engine *e)
{
    struct sweep s = {.e = e, .top = mpe__load32(&e->header->objects_top)};
    s.marked = mpe__new_zeroed(&e->memory, s.top);
    s.todo = mpe__new(&e->memory, s.top * sizeof *s.todo);
    if (s.marked && s.todo) {
        mark_reachable(&s);
        for (uint32_t i = 1; i < s.top; i++)
            settle(e, &e->objects[i], s.marked[i]);
    }
    mpe__delete(&e->memory, s.marked, s.top);
    mpe__delete(&e->memory, s.todo, s.top * sizeof *s.todo);
}

static void
sweep_now(mpe_engine *e)
{
    struct mpe__header *h = e->header;
    mpe__slots_free_unborn(e); /* otherwise the objects reserved for them are kept */
    do {
        mpe__ilock(e, &h->sweep_lock, 0);
        mpe__store32(&h->candidates, 0);
        mpe__store32(&h->sweep_wanted, 0);
        mpe__store64(&h->swept_at, mpe__load64(&h->grown_bytes));
        sweep(e);
        mpe__iunlock(e, &h->sweep_lock);
    } while (mpe__load32(&h->sweep_wanted));
}

void
mpe__sweep_if_wanted(mpe_engine *e)
{
    struct mpe__header *h = e->header;
    if (MPE__LIKELY(mpe__load32(&h->candidates) < SWEEP_AFTER && !mpe__load32(&h->sweep_wanted)))
        return;
    mpe__fence(); /* wanted, then the lock is looked at; the one that has it does the reverse */
    if (e->depth > 0 || mpe__load32(&e->self->making) || mpe__load32(&h->sweep_lock))
        return;
    sweep_now(e);
}

void
mpe_sweep(mpe_engine *e)
{
    if (!mpe__is_ours(e))
        return;
    if (e->depth == 0 && !mpe__load32(&e->self->making))
        sweep_now(e);
}

uint64_t
mpe_growth(const mpe_engine *e)
{
    if (!mpe__is_ours(e))
        return 0;
    return mpe__load64(&e->header->grown_bytes);
}
