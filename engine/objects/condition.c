/* Conditions. Each slot has counts of its current waits, and of the notifications assigned to
 * them. A notifier assigns to slots that have a wait without a notification and rings them; the
 * slot gives it to its first waiter. So a notification always goes to a process that was
 * waiting, and a wait that ends by its timeout learns whether one had arrived for it. The
 * notifications of a slot that dies are assigned again to others. A wait takes only
 * notifications assigned after it had begun: its ticket is the number assigned before.
 *
 * The counts of a slot are one word, whose store commits. Death of a notifier between assigning
 * and ringing: the reaper's broadcast makes the slot check.
 */
#include "objects/condition.h"

#include "core/bell.h"
#include "core/ilock.h"
#include "core/object.h"
#include "core/trace.h"
#include "objects/lock.h"
#include "objects/doors.h"

static struct mpe__condition *
body(mpe_engine *e, const mpe_object *o)
{
    return mpe__body(e, o);
}

int
mpe_condition_create(mpe_engine *e, mpe_handle lock, mpe_object **out)
{
    if (!out)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    mpe_object *o, *held = NULL;
    int rc = lock ? mpe_hold(e, lock, &held) : MPE_OK;
    if (held && !mpe__admits(e, held, MPE__RLOCKS | MPE__KIND(LOCK)))
        rc = MPE_ETYPE;
    if (rc == MPE_OK)
        rc = mpe__object_begin(e, MPE_KIND_CONDITION, 0, &o);
    if (rc == MPE_OK) {
        mpe__store64(&body(e, o)->lock, lock);
        if (held) { /* as if its handle were stored in the condition */
            atomic_fetch_or(&held->flags, MPE__OBJECT_STORED);
            atomic_fetch_or(&o->flags, MPE__OBJECT_CONTAINS);
        }
        rc = mpe__object_finish(e, o, out);
    }
    if (held)
        mpe_drop(e, held);
    return rc;
}

static struct mpe__condition_counts
counts_of(mpe_engine *e, const mpe_object *o, uint32_t slot)
{
    return mpe__condition_counts(body(e, o), slot);
}

static void
store(mpe_engine *e, mpe_object *o, uint32_t slot, struct mpe__condition_counts n)
{
    mpe__store64(&body(e, o)->counts[slot], n.waiting | (uint64_t)n.woken << MPE__CONDITION_BITS |
                                                (uint64_t)n.assigned << 2 * MPE__CONDITION_BITS);
}

/* Is there a notification that a wait with this ticket may take? */
static int
is_notified(struct mpe__condition_counts n, uint32_t ticket)
{
    uint32_t since = (n.assigned - ticket) << 10; /* of 22 bits */
    return n.woken > 0 && (int32_t)since > 0;
}

mpe_handle
mpe_condition_lock(mpe_engine *e, mpe_object *o)
{
    if (!mpe__admits(e, o, MPE__KIND(CONDITION)))
        return 0;
    mpe_handle h = mpe__load64(&body(e, o)->lock);
    return h ? h : mpe_lock_facet(e, o);
}

int
mpe_condition_enlist(mpe_engine *e, mpe_object *o, uint32_t *ticket)
{
    if (!ticket)
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__KIND(CONDITION)))
        return mpe__refusal(e, o, MPE__KIND(CONDITION));
    mpe__ilock(e, &o->ilock, mpe__index_of(e, o));
    struct mpe__condition_counts n = counts_of(e, o, e->slot);
    int rc = n.waiting < MPE__CONDITION_MAX ? MPE_OK : MPE_ERANGE;
    if (rc == MPE_OK) {
        *ticket = n.assigned;
        n.waiting++;
        store(e, o, e->slot, n);
    }
    mpe__iunlock(e, &o->ilock);
    return rc;
}

/* Ends a wait that is notified, and any other that gives up. */
static int
end_wait(mpe_engine *e, mpe_object *o, uint32_t ticket, int gives_up)
{
    mpe__ilock(e, &o->ilock, mpe__index_of(e, o));
    struct mpe__condition_counts n = counts_of(e, o, e->slot);
    int notified = is_notified(n, ticket);
    n.woken -= (uint32_t)notified;
    n.waiting -= notified || gives_up;
    store(e, o, e->slot, n);
    mpe__iunlock(e, &o->ilock);
    return notified ? MPE_OK : gives_up ? MPE_ETIMEDOUT : MPE_EAGAIN;
}

int
mpe_condition_notified(mpe_engine *e, mpe_object *o, uint32_t ticket)
{
    if (!mpe__admits(e, o, MPE__KIND(CONDITION)))
        return mpe__refusal(e, o, MPE__KIND(CONDITION));
    return is_notified(counts_of(e, o, e->slot), ticket) ? end_wait(e, o, ticket, 0) : MPE_EAGAIN;
}

int
mpe_condition_leave(mpe_engine *e, mpe_object *o, uint32_t ticket)
{
    if (!mpe__admits(e, o, MPE__KIND(CONDITION)))
        return mpe__refusal(e, o, MPE__KIND(CONDITION));
    return end_wait(e, o, ticket, 1);
}

static void
wake_slot(mpe_engine *e, mpe_object *o, uint32_t slot)
{
    mpe__set_remove(&o->waiters[MPE_EVENT_NOTIFIED], slot);
    mpe__ring(e, slot, 1u << mpe__bucket(mpe__index_of(e, o)));
}

/* Assigns up to count notifications, starting after the slot that was served last. ilock held. */
static void
assign(mpe_engine *e, mpe_object *o, uint32_t count)
{
    uint32_t top = mpe__load32(&e->header->slots_top), from = e->wake_from;
    for (uint32_t k = 0; k < top && count > 0; k++) {
        uint32_t i = (from + k) % top;
        struct mpe__condition_counts n = counts_of(e, o, i);
        uint32_t open = n.waiting - n.woken;
        if (open == 0)
            continue;
        open = open < count ? open : count;
        n.woken += open;
        n.assigned += open;
        store(e, o, i, n);
        count -= open;
        mpe__fence();
        wake_slot(e, o, i);
        e->wake_from = i + 1;
    }
}

void
mpe_condition_notify(mpe_engine *e, mpe_object *o, uint32_t count)
{
    if (!mpe__admits(e, o, MPE__KIND(CONDITION)))
        return;
    mpe__trace_did(e, MPE_DID_NOTIFY, count, o);
    mpe__ilock(e, &o->ilock, mpe__index_of(e, o));
    assign(e, o, count);
    mpe__iunlock(e, &o->ilock);
}

static void
death(mpe_engine *e, mpe_object *o, uint32_t slot)
{
    mpe__lock_death(e, o, slot);
    if (counts_of(e, o, slot).waiting == 0)
        return;
    mpe__ilock(e, &o->ilock, mpe__index_of(e, o));
    struct mpe__condition_counts n = counts_of(e, o, slot);
    n.waiting = n.woken;
    store(e, o, slot, n);
    assign(e, o, n.woken); /* a reaper that dies here assigns them once more: spurious, not lost */
    n.waiting = n.woken = 0;
    store(e, o, slot, n);
    mpe__iunlock(e, &o->ilock);
}

static int
ready(mpe_engine *e, mpe_object *o, int event)
{
    if (event == MPE_EVENT_READY)
        return mpe__lock_ready(e, o, event);
    mpe__fence();
    return counts_of(e, o, e->slot).woken > 0;
}

/* A condition mentions its lock. */
static void
scan(mpe_engine *e, mpe_object *o, int (*visit)(void *ud, uint64_t h), void *ud)
{
    visit(ud, mpe_condition_lock(e, o));
}

const struct mpe__kind mpe__condition_kind = {
    .body_bytes = sizeof(struct mpe__condition),
    .death = death,
    .ready = ready,
    .scan = scan,
    .wake = {[MPE_EVENT_READY] = {.turn = MPE__TURN_ONE},
             [MPE_EVENT_NOTIFIED] = {.turn = MPE__TURN_ASSIGNED}},
    .facets = 1u << MPE_KIND_RLOCK,
};
