/* Semaphores. Each slot has a count of the permits it holds; the value is derived: all permits
 * minus the held ones. Every operation is one store of one word, so a death tears nothing, and
 * the permits of the dead return when their count is zeroed.
 *
 * A release by a process that holds none ends a hold of another process, as when one process
 * acquires and another releases. When no process holds any it makes a new permit, up to the
 * bound if there is one. */
#include "core/bell.h"
#include "core/ilock.h"
#include "core/object.h"
#include "core/trace.h"
#include "objects/doors.h"

/* The word of the object is the number of all permits, held or not. */
struct semaphore {
    mpe__a32 initial;
    mpe__a32 bounded;
    mpe__a16 held[MPE__SLOTS]; /* permits held per slot; ilock */
};

static struct semaphore *
body(mpe_engine *e, const mpe_object *o)
{
    return mpe__body(e, o);
}

int
mpe_semaphore_create(mpe_engine *e, uint32_t permits, int bounded, mpe_object **out)
{
    if (!out)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    mpe_object *o;
    int rc = mpe__object_begin(e, bounded ? MPE_KIND_BOUNDED : MPE_KIND_SEMAPHORE, 0, &o);
    if (rc != MPE_OK)
        return rc;
    struct semaphore *s = body(e, o);
    mpe__store32(&s->initial, permits);
    mpe__store32(&s->bounded, bounded != 0);
    mpe__store64(&o->word, permits);
    return mpe__object_finish(e, o, out);
}

static uint64_t
held_by_all(mpe_engine *e, const struct semaphore *s)
{
    uint64_t sum = 0;
    uint32_t top = mpe__load32(&e->header->slots_top);
    for (uint32_t i = 0; i < top; i++)
        sum += atomic_load_explicit(&s->held[i], memory_order_relaxed);
    return sum;
}

uint32_t
mpe_semaphore_value(mpe_engine *e, mpe_object *o)
{
    if (!mpe__admits(e, o, MPE__SEMAPHORES))
        return 0;
    uint64_t all = mpe__load64(&o->word), held = held_by_all(e, body(e, o));
    return (uint32_t)(all > held ? all - held : 0);
}

int
mpe_semaphore_acquire(mpe_engine *e, mpe_object *o)
{
    if (!mpe__admits(e, o, MPE__SEMAPHORES))
        return mpe__refusal(e, o, MPE__SEMAPHORES);
    struct semaphore *s = body(e, o);
    int rc = MPE_EAGAIN;
    mpe__ilock(e, &o->ilock, mpe__index_of(e, o));
    if (mpe_semaphore_value(e, o) > 0) {
        uint16_t mine = mpe__load16(&s->held[e->slot]);
        if (mine == UINT16_MAX) {
            rc = MPE_ERANGE;
        } else {
            mpe__store16(&s->held[e->slot], (uint16_t)(mine + 1));
            rc = MPE_OK;
        }
    }
    mpe__iunlock(e, &o->ilock);
    if (rc == MPE_OK)
        mpe__trace_did(e, MPE_DID_ACQUIRE, 1, o);
    return rc;
}

/* The slot whose hold a release by this process ends, or -1. */
static int
whose_hold(mpe_engine *e, const struct semaphore *s)
{
    if (mpe__load16(&s->held[e->slot]) > 0)
        return (int)e->slot;
    uint32_t top = mpe__load32(&e->header->slots_top);
    for (uint32_t i = 0; i < top; i++)
        if (mpe__load16(&s->held[i]) > 0)
            return (int)i;
    return -1;
}

int
mpe_semaphore_release(mpe_engine *e, mpe_object *o)
{
    if (!mpe__admits(e, o, MPE__SEMAPHORES))
        return mpe__refusal(e, o, MPE__SEMAPHORES);
    struct semaphore *s = body(e, o);
    int rc = MPE_OK;
    mpe__ilock(e, &o->ilock, mpe__index_of(e, o));
    int holder = whose_hold(e, s);
    uint64_t all = mpe__load64(&o->word);
    if (holder >= 0)
        mpe__store16(&s->held[holder], (uint16_t)(mpe__load16(&s->held[holder]) - 1));
    else if (mpe__load32(&s->bounded) && all >= mpe__load32(&s->initial))
        rc = MPE_EOVER;
    else if (all == UINT32_MAX)
        rc = MPE_ERANGE;
    else
        mpe__store64(&o->word, all + 1);
    if (rc == MPE_OK)
        mpe__trace_did(e, MPE_DID_RELEASE, 1, o);
    mpe__iunlock(e, &o->ilock);
    if (rc == MPE_OK)
        mpe__wake_one(e, o, MPE_EVENT_READY);
    return rc;
}

/* The permits of a process that was killed return. One that leaves normally keeps the permits it
 * has acquired, as with Python, where acquiring may be how a process learns of something. The
 * total is lowered before its count is zeroed, so a death in between gives the same value in the
 * end. */
static void
death(mpe_engine *e, mpe_object *o, uint32_t slot)
{
    struct semaphore *s = body(e, o);
    mpe__ilock(e, &o->ilock, mpe__index_of(e, o));
    uint16_t permits = mpe__load16(&s->held[slot]);
    if (permits && slot == e->slot)
        mpe__store64(&o->word, mpe__load64(&o->word) - permits);
    mpe__store16(&s->held[slot], 0);
    mpe__iunlock(e, &o->ilock);
    if (permits)
        mpe__wake_all(e, o, MPE_EVENT_READY);
}

static int
ready(mpe_engine *e, mpe_object *o, int event)
{
    (void)event;
    mpe__fence();
    return mpe_semaphore_value(e, o) > 0;
}

const struct mpe__kind mpe__semaphore_kind = {
    .body_bytes = sizeof(struct semaphore),
    .death = death,
    .ready = ready,
    .wake = {[MPE_EVENT_READY] = {.turn = MPE__TURN_ONE}},
};
