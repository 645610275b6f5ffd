/* Intent locks. The word is 0 (free) or slot + 1 of the owner, with WAITERS when a process may
 * sleep on it. Before trying, the taker journals the lock in its slot; after releasing, it
 * clears the journal. So a process that dies near a lock is recognized as its owner by two facts
 * that agree: the word names the slot, and the slot names the word.
 *
 * Death between the stores:
 *   journal written, word not taken    the reaper wakes the lock's sleepers, nothing else
 *   word taken                         the reaper repairs the object, releases, wakes all
 *   word released, waiter not woken    the journal still names the lock: the reaper wakes
 *   (clearing the journal first would lose the last case)
 * Sleepers check the owner's life word before every sleep. They also sleep on the life words:
 * the owner's, because its death must wake one of them, and those of all others, because the
 * process that is woken may die before it takes or repairs the lock: then that death wakes the
 * next.
 */
#include "core/ilock.h"

#include "os/os.h"
#include "core/death.h"
#include "core/slot.h"

#define WAITERS 0x80000000u
#define SPINS 100

static int
try_take(mpe__a32 *word, uint32_t from, uint32_t to)
{
    return atomic_compare_exchange_strong(word, &from, to);
}

/* Sleeps until the word changes or a process dies; repairs when its owner has died. */
static void
sleep_on(mpe_engine *e, mpe__a32 *word, uint32_t seen)
{
    struct mpe__futex_wait w[MPE__FUTEX_MAX];
    struct mpe__slot *owner = &e->slots[mpe__ilock_owner(seen)];
    uint64_t deadline = MPE_FOREVER;
    w[0] = (struct mpe__futex_wait){word, seen};
    w[1] = (struct mpe__futex_wait){&e->header->live_epoch, mpe__load32(&e->header->live_epoch)};
    w[2] = (struct mpe__futex_wait){mpe__life_word(owner), mpe__load32(mpe__life_word(owner))};
    int n = mpe__watch_lives(e, w, 3, &deadline);
    if (w[2].value & FUTEX_OWNER_DIED)
        mpe__reap(e, mpe__ilock_owner(seen)); /* or another process does: watched next time */
    else
        mpe__futex_wait_any(w, n, deadline);
}

static MPE__COLD void
take_slowly(mpe_engine *e, mpe__a32 *word)
{
    uint32_t me = e->slot + 1;
    for (int i = 0; i < SPINS && e->cpus > 1; i++) {
        if (atomic_load_explicit(word, memory_order_relaxed) == 0 && try_take(word, 0, me))
            return;
        mpe__pause();
    }
    for (;;) {
        uint32_t seen = mpe__load32(word);
        if ((seen & ~WAITERS) == 0) {
            if (try_take(word, seen, me | WAITERS)) /* others may still sleep */
                return;
            continue;
        }
        if (!(seen & WAITERS) && !try_take(word, seen, seen | WAITERS))
            continue;
        sleep_on(e, word, seen | WAITERS);
    }
}

void
mpe__ilock(mpe_engine *e, mpe__a32 *word, uint32_t object)
{
    uint64_t intent = mpe__offset(e, word) >> 2 | (uint64_t)object << 34;
    mpe__store64(&e->self->intents[e->depth++], intent);
    if (!try_take(word, 0, e->slot + 1))
        take_slowly(e, word);
}

int
mpe__ilock_try(mpe_engine *e, mpe__a32 *word, uint32_t object)
{
    uint64_t intent = mpe__offset(e, word) >> 2 | (uint64_t)object << 34;
    mpe__store64(&e->self->intents[e->depth++], intent);
    if (try_take(word, 0, e->slot + 1))
        return 1;
    mpe__store64(&e->self->intents[--e->depth], 0);
    return 0;
}

void
mpe__iunlock(mpe_engine *e, mpe__a32 *word)
{
    atomic_signal_fence(memory_order_seq_cst);
    uint32_t seen = atomic_exchange_explicit(word, 0, memory_order_seq_cst);
    if (MPE__UNLIKELY(seen & WAITERS))
        mpe__futex_wake(word, 1);
    mpe__store64(&e->self->intents[--e->depth], 0);
}
