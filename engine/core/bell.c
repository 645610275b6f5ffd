/* Doorbells. A slot's bell is a word of pending bits. Its owner sleeps only while the word is 0,
 * and takes all bits at once when it wakes. The process that changes the word from 0 owes the
 * wake-up; a process that finds bits there already owes nothing, which makes ringing cheap.
 *
 * Waiting for an object is a bit per slot in the object's waiter set. A waker clears the bit it
 * chooses by compare-and-swap: the process that clears a bit owes that slot a ring.
 *
 * Deaths: a waker that dies after the change, after clearing a bit, or after setting the bell
 * but before the wake, leaves a process asleep. The reaper's broadcast repairs all three, since
 * it rings every slot unconditionally after the dead slot's bits are gone from every set.
 *
 * Order, sleeper: set own bit, publish sleep state, check the condition and the bell, sleep.
 *        waker:   change, fence, read the set, clear a bit, set the bell, read the sleep state.
 * Both sides are sequentially consistent, so one of the two sees the other (Dekker). A process whose bit
 * was taken out, and that gives its turn to another, sees the change that the turn was for.
 */
#include "core/bell.h"

#include "os/os.h"
#include "core/slot.h"

#include <unistd.h>

int
mpe__bell_socket(mpe_engine *e)
{
    if (e->bell_fd >= 0)
        return e->bell_fd;
    e->bell_generation = mpe__load32(&e->self->generation);
    e->bell_fd = mpe__datagram_open(e->header->nonce, e->slot, e->bell_generation);
    if (e->bell_fd < 0 && e->spare_fd >= 0) { /* no descriptor is left but the reserved one */
        close(e->spare_fd);
        e->spare_fd = -1;
        e->bell_fd = mpe__datagram_open(e->header->nonce, e->slot, e->bell_generation);
    }
    return e->bell_fd;
}

static void
ring_datagram(mpe_engine *e, uint32_t slot)
{
    if (mpe__bell_socket(e) < 0)
        return; /* no memory in the kernel: its next wake-up finds the bell set */
    mpe__datagram_ring(e->bell_fd, e->header->nonce, slot, mpe__load32(&e->slots[slot].generation));
}

static void
wake_sleeper(mpe_engine *e, uint32_t slot, int even_if_rung)
{
    struct mpe__slot *s = &e->slots[slot];
    uint32_t state = atomic_load(&s->sleep);
    if (slot != e->slot) /* other threads ring the bell of their own process */
        e->has_rung = 1;
    if (state == MPE__IN_FUTEX) {
        mpe__futex_wake(&s->bell, 1);
    } else if (state == MPE__IN_POLL || state == MPE__IN_POLL_ALONE) {
        if (atomic_compare_exchange_strong(&s->sleep, &state, MPE__RUNG) || even_if_rung)
            ring_datagram(e, slot);
    } else if (state == MPE__RUNG && even_if_rung) {
        ring_datagram(e, slot);
    }
}

/* The bell first, then the state: a process that sleeps or spins after the bell is rung takes
 * it. */
int
mpe__ring(mpe_engine *e, uint32_t slot, uint32_t bits)
{
    struct mpe__slot *s = &e->slots[slot];
    if (slot != e->slot)
        mpe__store32(&s->rung_on, mpe__processor() + 1);
    uint32_t before = atomic_fetch_or(&s->bell, bits), state = atomic_load(&s->sleep);
    if (before == 0)
        wake_sleeper(e, slot, 0);
    return state != MPE__AWAKE;
}

void
mpe__ring_all(mpe_engine *e)
{
    mpe__fence(); /* a process that this does not see yet sees what was repaired */
    uint32_t top = mpe__load32(&e->header->slots_top);
    for (uint32_t i = 0; i < top; i++) {
        if (!mpe__is_live(&e->slots[i]))
            continue;
        atomic_fetch_or(&e->slots[i].bell, MPE__BROADCAST);
        wake_sleeper(e, i, 1);
    }
}

int
mpe__set_next(struct mpe__slotset *set, uint32_t from)
{
    from %= MPE__SLOTS;
    for (uint32_t k = 0; k <= MPE__SLOT_WORDS; k++) {
        uint32_t i = (from / 64 + k) % MPE__SLOT_WORDS;
        uint64_t bits = atomic_load(&set->bits[i]) & (k == 0 ? ~0ull << from % 64 : ~0ull);
        if (bits)
            return (int)(i * 64 + (uint32_t)__builtin_ctzll(bits));
    }
    return -1;
}

/* Clears one bit at or after position from of a set, round robin. The slot, or -1. */
static int
take_bit(struct mpe__slotset *set, uint32_t from)
{
    int slot;
    do
        slot = mpe__set_next(set, from);
    while (slot >= 0 && !mpe__set_remove(set, (uint32_t)slot));
    return slot;
}

void
mpe__wake_one_of(mpe_engine *e, mpe_object *o, int event)
{
    uint32_t bit = 1u << mpe__bucket(mpe__index_of(e, o));
    int slot;
    do {
        slot = take_bit(&o->waiters[event], e->wake_from);
        if (slot < 0)
            return;
        e->wake_from = (uint32_t)slot + 1;
    } while (!mpe__ring(e, (uint32_t)slot, bit));
}

void
mpe__wake_all_of(mpe_engine *e, mpe_object *o, int event)
{
    uint32_t bit = 1u << mpe__bucket(mpe__index_of(e, o));
    for (uint32_t i = 0; i < MPE__SLOT_WORDS; i++) {
        uint64_t bits = atomic_exchange(&o->waiters[event].bits[i], 0);
        for (; bits; bits &= bits - 1)
            mpe__ring(e, i * 64 + (uint32_t)__builtin_ctzll(bits), bit);
    }
}
