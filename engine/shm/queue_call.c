/* Waking the consumers of a queue.
 *
 * Waking a sleeper takes longer than a short message is worth. So one is woken at a time: `called`
 * names it, and while it is on its way, asleep with the bell rung, nobody else is called. When it
 * arrives it answers, and calls the next if there is more than one message (loop/waiter.c).
 *
 * A message put while one is on its way is not lost: the bell was seen rung after the message had
 * been put, so who takes the bell afterwards sees the message. `called` is never out of date: it
 * changes by compare-and-swap with a version, and a process that has arrived, or leaves by itself,
 * raises the version; so when the swap succeeds the slot's bit was still there, and when the bit is
 * gone the slot was woken and has not answered. Who dies between swap and ring leaves the bit, or a
 * broadcast to come, and may have named one that has left meanwhile, and will not come; so after any
 * death the reaper clears the name before the broadcast. One that is stopped delays the others by
 * no more than CALL_NS of puts.
 */
#include "shm/queue_int.h"

#include "sync/bell.h"

#define CALL_NS 100000u

static uint64_t
name_called(uint64_t before, uint32_t who)
{
    return ((before >> 32) + 1) << 32 | who;
}

static int
is_coming(mpe_engine *e, mpe_object *o, const struct mpe__queue *q, uint64_t called)
{
    uint32_t who = (uint32_t)called;
    if (who == 0 || who > MPE__SLOTS || mpe__set_has(&o->waiters[MPE_EVENT_READY], who - 1))
        return 0;
    uint32_t sleep = atomic_load(&e->slots[who - 1].sleep);
    return (sleep == MPE__IN_FUTEX || sleep == MPE__RUNG) &&
           atomic_load(&e->slots[who - 1].bell) >> mpe__bucket(mpe__index_of(e, o)) & 1 &&
           mpe_now() - mpe__load64(&q->called_ns) < CALL_NS;
}

/* Who became idle last: it may still spin, and its memory is in the cache. */
void
mpe__queue_call(mpe_engine *e, mpe_object *o)
{
    struct mpe__queue *q = mpe__queue_body(e, o);
    while (mpe__has_waiters(e, o, MPE_EVENT_READY)) {
        uint64_t called = atomic_load(&q->called);
        if (is_coming(e, o, q, called))
            return;
        int slot = mpe__set_next(&o->waiters[MPE_EVENT_READY], mpe__load32(&q->last_idle));
        if (slot < 0)
            return;
        uint64_t mine = name_called(called, (uint32_t)slot + 1);
        if (!atomic_compare_exchange_strong(&q->called, &called, mine))
            continue;
        mpe__store64(&q->called_ns, mpe_now());
        if (mpe__set_remove(&o->waiters[MPE_EVENT_READY], (uint32_t)slot)) {
            mpe__ring(e, (uint32_t)slot, 1u << mpe__bucket(mpe__index_of(e, o)));
            return;
        }
        atomic_compare_exchange_strong(&q->called, &mine, name_called(mine, 0));
    }
}

void
mpe__queue_answer(mpe_engine *e, mpe_object *o)
{
    struct mpe__queue *q = mpe__queue_body(e, o);
    uint64_t called = atomic_load(&q->called);
    uint32_t who;
    do
        who = (uint32_t)called == e->slot + 1 ? 0 : (uint32_t)called;
    while (!atomic_compare_exchange_weak(&q->called, &called, name_called(called, who)));
    mpe__fence(); /* then the queue is looked at */
}

void
mpe__queue_call_nobody(struct mpe__queue *q)
{
    uint64_t called = atomic_load(&q->called);
    while (!atomic_compare_exchange_weak(&q->called, &called, name_called(called, 0)))
        ;
}
