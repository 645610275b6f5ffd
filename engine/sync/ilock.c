/* Intent locks. The word is 0 (free) or slot + 1 of the owner, with WAITERS when somebody may sleep
 * on it. Before trying, the taker journals the lock in its slot; after releasing, it clears the
 * journal. So whoever dies near a lock is found to be its owner by two facts that agree: the word
 * names the slot, and the slot names the word.
 *
 * Death between the stores:
 *   journal written, word not taken    the reaper wakes the lock's sleepers, nothing else
 *   word taken                         the reaper repairs the object, releases, wakes all
 *   word released, waiter not woken    the journal still names the lock: the reaper wakes
 *   (clearing the journal first would lose the last case)
 * Sleepers look at the owner's life word before every sleep, and sleep on it too.
 */
#include "sync/ilock.h"

#include "os/os.h"
#include "sync/death.h"
#include "sync/slot.h"

#define WAITERS 0x80000000u
#define SPINS 100
#define BACKSTOP_NS MPE_NS_PER_S

static int
try_take(mpe__a32 *word, uint32_t from, uint32_t to)
{
    return atomic_compare_exchange_strong_explicit(word, &from, to, memory_order_seq_cst,
                                                   memory_order_relaxed);
}

/* Sleeps until the word changes or its owner dies. */
static void
sleep_on(mpe_engine *e, mpe__a32 *word, uint32_t seen)
{
    struct mpe__slot *owner = &e->slots[mpe__ilock_owner(seen)];
    struct mpe__futex_wait w[2] = {{word, seen}, {mpe__life_word(owner), 0}};
    w[1].value = mpe__load32(w[1].word);
    if (mpe__is_dead(owner)) {
        if (!mpe__reap(e, mpe__ilock_owner(seen))) /* somebody else is at it: it will wake us */
            mpe__futex_wait(word, seen, 1000000);
        return;
    }
    /* the one sleeper that the kernel wakes may die before it has reaped */
    mpe__futex_wait_any(w, 2, mpe_now() + BACKSTOP_NS);
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

void
mpe__iunlock(mpe_engine *e, mpe__a32 *word)
{
    atomic_signal_fence(memory_order_seq_cst);
    uint32_t seen = atomic_exchange_explicit(word, 0, memory_order_seq_cst);
    if (MPE__UNLIKELY(seen & WAITERS))
        mpe__futex_wake(word, 1);
    mpe__store64(&e->self->intents[--e->depth], 0);
}
