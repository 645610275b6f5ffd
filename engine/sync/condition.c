/* Conditions. Two counts per slot: waits under way, and notifications assigned to them. A notifier
 * assigns to slots that have a wait without one and rings them; the slot gives it to its first
 * waiter. So a notification is always owed to somebody who was waiting, a wait that ends by its
 * timeout finds out whether one had come for it, and the notifications of a slot that dies are
 * assigned again to others.
 *
 * Death of a notifier between assigning and ringing: the reaper's broadcast makes the slot look.
 */
#include "sync/condition.h"

#include "sync/bell.h"
#include "sync/ilock.h"
#include "sync/lock.h"

static struct mpe__condition *
body(mpe_engine *e, const mpe_object *o)
{
    return mpe__at(e, mpe__load64(&o->body));
}

static void
add(mpe__a32 *count, int32_t n)
{
    mpe__store32(count, mpe__load32(count) + (uint32_t)n);
}

mpe_handle
mpe_condition_lock(mpe_engine *e, mpe_object *o)
{
    mpe_handle h = mpe__load64(&body(e, o)->lock);
    return h ? h : mpe_lock_facet(e, o);
}

int
mpe_condition_enlist(mpe_engine *e, mpe_object *o)
{
    mpe__ilock(e, &o->ilock, mpe__index_of(e, o));
    add(&body(e, o)->waiting[e->slot], 1);
    mpe__iunlock(e, &o->ilock);
    return MPE_OK;
}

int
mpe_condition_notified(mpe_engine *e, mpe_object *o)
{
    struct mpe__condition *c = body(e, o);
    int rc = MPE_EAGAIN;
    if (mpe__load32(&c->woken[e->slot]) == 0)
        return rc;
    mpe__ilock(e, &o->ilock, mpe__index_of(e, o));
    if (mpe__load32(&c->woken[e->slot]) > 0) {
        add(&c->woken[e->slot], -1); /* first: never more notifications than waits */
        add(&c->waiting[e->slot], -1);
        rc = MPE_OK;
    }
    mpe__iunlock(e, &o->ilock);
    return rc;
}

int
mpe_condition_leave(mpe_engine *e, mpe_object *o)
{
    struct mpe__condition *c = body(e, o);
    int rc = mpe_condition_notified(e, o);
    if (rc == MPE_OK)
        return rc;
    mpe__ilock(e, &o->ilock, mpe__index_of(e, o));
    rc = MPE_ETIMEDOUT;
    if (mpe__load32(&c->woken[e->slot]) > 0) {
        add(&c->woken[e->slot], -1);
        rc = MPE_OK;
    }
    add(&c->waiting[e->slot], -1);
    mpe__iunlock(e, &o->ilock);
    return rc;
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
    struct mpe__condition *c = body(e, o);
    uint32_t top = mpe__load32(&e->header->slots_top), from = e->wake_from;
    for (uint32_t k = 0; k < top && count > 0; k++) {
        uint32_t i = (from + k) % top;
        uint32_t open = mpe__load32(&c->waiting[i]) - mpe__load32(&c->woken[i]);
        if (open == 0)
            continue;
        uint32_t n = open < count ? open : count;
        add(&c->woken[i], (int32_t)n);
        count -= n;
        mpe__fence();
        wake_slot(e, o, i);
        e->wake_from = i + 1;
    }
}

void
mpe_condition_notify(mpe_engine *e, mpe_object *o, uint32_t count)
{
    mpe__ilock(e, &o->ilock, mpe__index_of(e, o));
    assign(e, o, count);
    mpe__iunlock(e, &o->ilock);
}

void
mpe__condition_death(mpe_engine *e, mpe_object *o, uint32_t slot)
{
    struct mpe__condition *c = body(e, o);
    mpe__lock_death(e, o, slot);
    if (mpe__load32(&c->waiting[slot]) == 0)
        return;
    mpe__ilock(e, &o->ilock, mpe__index_of(e, o));
    uint32_t lost = mpe__load32(&c->woken[slot]);
    mpe__store32(&c->waiting[slot], mpe__load32(&c->woken[slot]));
    assign(e, o, lost); /* a reaper that dies here assigns them once more: spurious, not lost */
    mpe__store32(&c->woken[slot], 0);
    mpe__store32(&c->waiting[slot], 0);
    mpe__iunlock(e, &o->ilock);
}

int
mpe__condition_ready(mpe_engine *e, mpe_object *o, int event)
{
    if (event == MPE_EVENT_READY)
        return mpe__lock_ready(e, o, event);
    mpe__fence();
    return mpe__load32(&body(e, o)->woken[e->slot]) > 0;
}
