/* Deadlocks of all processes together. There is no supervisor. Before a process blocks only on
 * shared objects and the ends of other processes, it marks its slot quiet; when it wakes it
 * removes the mark. A process that finds all slots quiet and no bell pending knows that nothing
 * inside the arena will ever wake one of them.
 *
 * Something from outside may still be in progress: a signal that ends one of them, or an exit
 * that its parent has not seen. So the finder starts a round: it increments the round and rings
 * all processes, and each process that wakes to nothing else marks itself in that round. A
 * signal sent before the round began has arrived by then. If all have answered, and none has
 * done anything in between, it is a deadlock. A process that is stopped or being killed never
 * answers, and one with a timer, a descriptor, a signal handler of the script or a thread of its
 * own was never quiet. Nor is one whose end is on its way, as what it is bound to has ended.
 *
 * quiet is even (round) when it is stored after the process has done something, odd when it is
 * stored in answer to the round. An answer counts for its round only if the last action was
 * before the round began.
 *
 * Death of a finder anywhere: its reaper rings all processes with MPE__BROADCAST, all check what
 * they wait for, and the last to become quiet again is the next finder. Until deadlock is stored
 * nothing has happened; the objects the finder had made are reaped with it.
 */
#include "loop/loop.h"

#include "core/slot.h"
#include "core/door.h"

#include <sys/syscall.h>
#include <unistd.h>

#define ASK 1u /* wakes; serves no waiter, as long as no bit is gone from a waiter set */

/* ---- ends of processes ---- */

/* Can all these processes still run, or have yet to begin? A process that has left its slot
 * counts as already exited. */
static int
all_there(mpe_engine *e)
{
    for (struct mpe__end *end = e->loop->ends; end; end = end->next) {
        struct mpe__slot *s = &e->slots[end->slot];
        if (mpe__load32(&s->state) == MPE__SLOT_FREE || mpe__is_dead(s) ||
            mpe__load32(&s->generation) != end->generation)
            return 0;
    }
    return 1;
}

/* Does libuv's loop have anything to wait for besides ends? */
static int
has_io(mpe_engine *e)
{
    if (!mpe__uv_alive(e))
        return 0;
    for (struct mpe__end *end = e->loop->ends; end; end = end->next)
        if (end->poll)
            uv_unref((uv_handle_t *)end->poll);
    int alive = mpe__uv_alive(e);
    for (struct mpe__end *end = e->loop->ends; end; end = end->next)
        if (end->poll)
            uv_ref((uv_handle_t *)end->poll);
    return alive;
}

/* ---- quiet ---- */

static uint32_t
said_in(uint32_t round)
{
    return (round << 1) + 2;
}

static uint32_t
answer_in(uint32_t round)
{
    return said_in(round) | 1;
}

/* 1 when every process is quiet and has no pending wake-up; how: whether each has answered. The
 * order makes the three checks consistent: a wake-up that was taken shows in quiet, one that was
 * not taken shows in the bell. */
static int
all_quiet(mpe_engine *e, uint32_t round, int *answered)
{
    uint32_t epoch = mpe__load32(&e->header->live_epoch), said[MPE__SLOTS];
    uint32_t top = mpe__load32(&e->header->slots_top);
    *answered = 1;
    for (uint32_t i = 0; i < top; i++) {
        struct mpe__slot *s = &e->slots[i];
        said[i] = 0;
        if (mpe__load32(&s->state) == MPE__SLOT_FREE)
            continue;
        if (!mpe__is_running(s) || (said[i] = atomic_load(&s->quiet)) == 0)
            return 0;
        *answered &= said[i] == answer_in(round);
    }
    for (uint32_t i = 0; i < top; i++)
        if (said[i] && atomic_load(&e->slots[i].bell) != 0)
            return 0;
    for (uint32_t i = 0; i < top; i++)
        if (said[i] &&
            (atomic_load(&e->slots[i].quiet) != said[i] || !mpe__is_running(&e->slots[i])))
            return 0;
    return mpe__load32(&e->header->live_epoch) == epoch &&
           mpe__load32(&e->header->quiet_round) == round;
}

static void
ring_others(mpe_engine *e)
{
    uint32_t top = mpe__load32(&e->header->slots_top);
    for (uint32_t i = 0; i < top; i++)
        if (i != e->slot && mpe__is_live(&e->slots[i]))
            mpe__ring(e, i, ASK);
}

static void
say(mpe_engine *e, uint32_t word)
{
    if (word & 1)
        syscall(SYS_getppid); /* a signal that was sent to this thread is delivered on return */
    e->loop->quiet = word;
    atomic_store(&e->self->quiet, word);
}

/* Has a deadlock been found since this process last did something? It was then asked and has
 * answered, though it may have woken for nothing and become quiet again since. */
static int
is_in_deadlock(mpe_engine *e)
{
    struct mpe__loop *l = e->loop;
    l->in_deadlock = l->quiet != 0 &&
                     (int32_t)(atomic_load(&e->header->deadlock) - l->still_since) > 0;
    if (l->in_deadlock)
        l->quiet = 0;
    return l->in_deadlock;
}

/* The right to continue a round. Its owner is not quiet, so no other process can find a
 * deadlock. */
static int
claim(mpe_engine *e, uint32_t round)
{
    uint32_t word = atomic_exchange(&e->self->quiet, 0);
    if (atomic_compare_exchange_strong(&e->header->quiet_round, &round, round + 1))
        return 1;
    atomic_store(&e->self->quiet, word); /* another process has it, and rings this one */
    return 0;
}

/* ---- found ---- */

/* The queue for the report lives with the finder, until it sleeps again. 0: no memory for it. */
static mpe_handle
make_queue(mpe_engine *e)
{
    if (mpe_queue_create(e, 0, MPE_QUEUE_JOINABLE, &e->loop->report_queue) != MPE_OK)
        return 0;
    return mpe_handle_of(e, e->loop->report_queue);
}

void
mpe__deadlock_over(mpe_engine *e)
{
    struct mpe__loop *l = e->loop;
    l->in_deadlock = 0;
    if (l->report_queue)
        mpe_drop(e, l->report_queue);
    l->report_queue = NULL;
}

static void
tell_everybody(mpe_engine *e, uint32_t round)
{
    struct mpe__header *h = e->header;
    uint32_t count = 0, first = e->slot;
    for (uint32_t i = mpe__load32(&h->slots_top); i-- > 0;)
        if (mpe__is_running(&e->slots[i]))
            first = i, count++;
    mpe__store64(&h->deadlock_queue, make_queue(e));
    mpe__store32(&h->deadlock_teller, first);
    mpe__store32(&h->deadlock_count, count);
    atomic_store(&h->deadlock, answer_in(round));
    ring_others(e);
}

/* ---- around a sleep ---- */

static int
looks_for_deadlocks(mpe_engine *e, uint64_t deadline)
{
    struct mpe__loop *l = e->loop;
    return deadline == MPE_FOREVER && atomic_load(&e->header->finds_deadlocks) &&
           l->keep_alive == 0 && (l->entries > 0 || l->ends) && all_there(e) && !has_io(e) &&
           !mpe__is_orphan(e);
}

int
mpe__quiet_begin(mpe_engine *e, uint64_t deadline)
{
    struct mpe__loop *l = e->loop;
    int answered;
    if (l->in_deadlock)
        mpe__deadlock_over(e);
    /* read first: an end that is not seen below raises it */
    uint32_t round = atomic_load(&e->header->quiet_round), last = l->quiet;
    if (!looks_for_deadlocks(e, deadline)) {
        l->quiet = 0;
        return 0;
    }
    if (is_in_deadlock(e))
        return 1;
    if (last == 0)
        say(e, l->still_since = said_in(round));
    else
        say(e, (last | 1) == answer_in(round) ? last : answer_in(round));
    while (all_quiet(e, round, &answered) && claim(e, round)) {
        if (answered) {
            tell_everybody(e, round);
            l->quiet = 0;
            l->in_deadlock = 1;
            return 1;
        }
        ring_others(e);
        say(e, answer_in(++round));
    }
    return 0;
}

int
mpe__quiet_end(mpe_engine *e)
{
    if (mpe__load32(&e->self->quiet) == 0)
        return 0;
    atomic_store(&e->self->quiet, 0); /* before the bell is taken */
    return is_in_deadlock(e);
}

/* ---- public ---- */

void
mpe_find_deadlocks(mpe_engine *e, int on)
{
    if (!mpe__is_ours(e))
        return;
    mpe__store32(&e->header->finds_deadlocks, on != 0);
}

int
mpe_deadlock_get(mpe_engine *e, mpe_deadlock *out)
{
    if (!out)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    struct mpe__header *h = e->header;
    if (!e->loop->in_deadlock)
        return MPE_ENOENT;
    *out = (mpe_deadlock){.queue = mpe__load64(&h->deadlock_queue),
                          .teller = mpe__load32(&h->deadlock_teller),
                          .processes = mpe__load32(&h->deadlock_count)};
    return MPE_OK;
}
