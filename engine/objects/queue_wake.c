/* Waking the consumers of a queue.
 *
 * Waking a sleeper takes longer than a short message is worth. So one consumer is woken at a
 * time: `waking` names it and the time, and until it is awake no other is woken. When it is awake
 * it clears the name, and wakes the next if there is more than one message. When it has taken a
 * message, and there is another, it wakes the next once more (loop/waiter.c).
 *
 *   producer:  put; read `waking`: if that names a consumer without its bit, rely on it. Else choose
 *              a consumer, name it, take its bit, ring. If the bit was gone, or the consumer is one
 *              that runs its tasks and may look much later: clear the name, and start again.
 *   consumer:  set its bit, look, sleep. Woken (its bit is gone) or leaving (it has taken its bit
 *              itself): clear its name if it is there, then look.
 *
 * A message is never left beside a sleeping consumer. A producer that relies on a name has read
 * it after its put. If the process that wrote the name took the bit, the consumer has yet to clear
 * the name, and looks after that. If the bit was gone already, or the consumer runs, the writer
 * has yet to clear the name, and then starts again, with that message in the queue. A name that
 * is cleared or overwritten too early costs one more wake and nothing else, so plain stores are
 * sufficient. engine/models/queue_wake.pml tries all orders.
 *
 * A consumer that stays named is asleep or spins, so it is awake at once; a stopped one delays
 * others by no more than WAKE_TICKS of puts. A name is worth its store only while another
 * consumer waits: otherwise none is written.
 *
 * Death: a process that dies after naming, taking or before ringing leaves a name, or a consumer
 * without its bit that was not rung; a consumer that dies leaves its name. The reaper clears the
 * name after any death, before it rings all.
 */
#include "objects/queue_int.h"

#include "core/bell.h"

#define TICK_SHIFT 10u /* of about a microsecond */
#define WAKE_TICKS 100u
#define SLOT_BITS 16u

static uint32_t
named(uint64_t waking)
{
    return (uint32_t)waking & ((1u << SLOT_BITS) - 1);
}

static uint64_t
name_of(uint32_t slot)
{
    return mpe_now() >> TICK_SHIFT << SLOT_BITS | (slot + 1);
}

static int
is_coming(const struct mpe__slotset *consumers, uint64_t waking)
{
    uint32_t n = named(waking);
    if (n == 0 || n > MPE__SLOTS || mpe__set_has(consumers, n - 1))
        return 0;
    return (mpe_now() >> TICK_SHIFT) - (waking >> SLOT_BITS) < WAKE_TICKS;
}

/* The consumer that became idle last is first: it may still spin, and its memory is in the
 * cache. */
void
mpe__queue_wake(mpe_engine *e, mpe_object *o)
{
    struct mpe__queue *q = mpe__queue_body(e, o);
    struct mpe__slotset *consumers = &o->waiters[MPE_EVENT_READY];
    uint32_t bit = 1u << mpe__bucket(mpe__index_of(e, o));
    while (mpe__has_waiters(e, o, MPE_EVENT_READY)) {
        if (is_coming(consumers, atomic_load(&q->waking)))
            return;
        int next = mpe__set_next(consumers, mpe__load32(&q->last_idle));
        if (next < 0)
            return;
        uint32_t slot = (uint32_t)next;
        int names = mpe__set_has_others(consumers, slot);
        if (names)
            mpe__store64(&q->waking, name_of(slot));
        if (mpe__set_remove(consumers, slot) && mpe__ring(e, slot, bit))
            return;
        if (names)
            mpe__queue_wake_none(q);
    }
}

void
mpe__queue_leave(mpe_engine *e, mpe_object *o)
{
    mpe__a64 *waking = &mpe__queue_body(e, o)->waking;
    if (named(atomic_load(waking)) == e->slot + 1)
        mpe__store64(waking, 0);
    mpe__fence(); /* then the queue is checked */
}

void
mpe__queue_awake(mpe_engine *e, mpe_object *o)
{
    mpe__queue_leave(e, o);
    if (mpe_queue_size(e, o) > 1)
        mpe__queue_wake(e, o);
}

void
mpe__queue_wake_none(struct mpe__queue *q)
{
    mpe__store64(&q->waking, 0);
}
