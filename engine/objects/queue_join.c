/* Joinable queues: messages that were put and are not done.
 *
 * Each slot counts messages that it has taken and not done. Those of a dead process count as
 * done, so that join ends. The number of unfinished messages is derived from these counts, so
 * each step is one store: taking, done, death. The lease written before the commit of a get
 * shows recovery of the head lock whether the last message was taken but not counted.
 */
#include "objects/queue_int.h"

#include "core/bell.h"
#include "core/ilock.h"
#include "objects/doors.h"

/* ---- taken ---- */

/* Others may count one of the slot's messages as done at the same time. */
void
mpe__queue_count_taken(struct mpe__taken *t)
{
    uint64_t seen = mpe__load64(&t->counted), lease = (uint32_t)mpe__load64(&t->lease);
    while (!atomic_compare_exchange_weak(&t->counted, &seen, ((seen >> 32) + 1) << 32 | lease))
        ;
}

void
mpe__queue_settle_lease(struct mpe__taken *t, uint32_t got)
{
    uint32_t lease = (uint32_t)mpe__load64(&t->lease);
    uint32_t last = (uint32_t)mpe__load64(&t->counted);
    if (mpe__load64(&t->lease) == 0 || lease == last)
        return;
    if ((int32_t)(got - lease) >= 0)
        mpe__queue_count_taken(t);
}

/* ---- done ---- */

/* Messages put and not done. May be too high while others work, never too low: a message taken
 * is counted before get_count is raised, and put_count is read last. */
static uint32_t
unfinished(mpe_engine *e, const struct mpe__queue *q)
{
    uint32_t got = mpe__load32(&q->get_count), taken = 0, top = mpe__load32(&e->header->slots_top);
    for (uint32_t i = 0; i < top; i++)
        taken += (uint32_t)(mpe__load64(&q->taken[i].counted) >> 32);
    return taken - mpe__load32(&q->early) - got + mpe__load32(&q->put_count);
}

/* Ends one hold of a taken message, preferably the caller's own. ilock held. */
static void
count_done(mpe_engine *e, struct mpe__queue *q)
{
    uint32_t top = mpe__load32(&e->header->slots_top);
    for (uint32_t k = 0; k < top; k++) {
        mpe__a64 *counted = &q->taken[(e->slot + k) % top].counted;
        uint64_t seen = mpe__load64(counted);
        while (seen >> 32)
            if (atomic_compare_exchange_weak(counted, &seen, seen - (1ull << 32)))
                return;
    }
    mpe__store32(&q->early, mpe__load32(&q->early) + 1);
}

int
mpe_queue_task_done(mpe_engine *e, mpe_object *o)
{
    if (!mpe__admits(e, o, MPE__QUEUES))
        return mpe__refusal(e, o, MPE__QUEUES);
    struct mpe__queue *q = mpe__queue_body(e, o);
    if (!(q->flags & MPE_QUEUE_JOINABLE))
        return MPE_EINVAL;
    mpe__ilock(e, &o->ilock, mpe__index_of(e, o));
    int rc = unfinished(e, q) == 0 ? MPE_EOVER : MPE_OK;
    if (rc == MPE_OK)
        count_done(e, q);
    int ended = unfinished(e, q) == 0;
    mpe__iunlock(e, &o->ilock);
    if (ended)
        mpe__wake_all(e, o, MPE_EVENT_DONE);
    return rc;
}

int
mpe_queue_join(mpe_engine *e, mpe_object *o)
{
    if (!mpe__admits(e, o, MPE__QUEUES))
        return mpe__refusal(e, o, MPE__QUEUES);
    struct mpe__queue *q = mpe__queue_body(e, o);
    if (!(q->flags & MPE_QUEUE_JOINABLE))
        return MPE_EINVAL;
    return unfinished(e, q) == 0 ? MPE_OK : MPE_EAGAIN;
}

void
mpe__queue_death(mpe_engine *e, mpe_object *o, uint32_t slot)
{
    struct mpe__queue *q = mpe__queue_body(e, o);
    mpe__queue_wake_none(q);
    if (!(q->flags & MPE_QUEUE_JOINABLE))
        return;
    mpe__ilock(e, &o->ilock, mpe__index_of(e, o));
    mpe__store64(&q->taken[slot].counted, 0);
    mpe__store64(&q->taken[slot].lease, 0);
    int ended = unfinished(e, q) == 0;
    mpe__iunlock(e, &o->ilock);
    if (ended)
        mpe__wake_all(e, o, MPE_EVENT_DONE);
}
