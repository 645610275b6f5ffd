/* Death and recovery. A process that locks a dead slot's life mutex may reap it; if the reaper
 * dies, the kernel hands the same right to the next one. Recovery acts as the dead process: its
 * lock words keep naming it until its work is finished or undone, so every step may be repeated.
 *
 * The order of steps matters (each is repeatable, a reaper may die between any two):
 *   1 the arena lock, if held: the chunk table is made consistent, the lock released
 *   2 the operation record and the redo record: finish what was committed (what was not is undone
 *     by 4, or has not begun)
 *   3 the other locks: recompute what is derived, release, wake all sleepers
 *   4 blocks in flight and the object being made are freed
 *   5 the slot's bits leave every waiter and holder set; locks become abandoned, permits return...
 *   6 every live process is rung: it checks all it waits for (after 5, or a wake-up is lost);
 *     a process that leaves normally owes no wake-ups unless it still waited for something, and
 *     the hooks of 5 have woken all that must wake
 *   7 the slot becomes FREE
 */
#include "core/death.h"

#include "core/arena.h"
#include "core/bell.h"
#include "core/ilock.h"
#include "core/object.h"
#include "core/slot.h"
#include "core/trace.h"
#include "os/os.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>

#define LOCK_WAITERS 0x80000000u

/* Notes a block in a slot's journal of blocks in flight. */
static void
journal(struct mpe__slot *s, uint64_t block)
{
    for (uint32_t i = 0; i < MPE__INFLIGHT; i++) {
        if (mpe__load64(&s->inflight[i]) != 0)
            continue;
        mpe__store64(&s->inflight[i], block);
        return;
    }
    mpe__store32(&s->unlisted, 1);
}

static void
unjournal(struct mpe__slot *s, uint64_t block)
{
    for (uint32_t i = 0; i < MPE__INFLIGHT; i++)
        if (mpe__load64(&s->inflight[i]) == block)
            mpe__store64(&s->inflight[i], 0);
}

/* A block leaves the object for the slot: noted first, so that it always has an owner. */
static void
take_over(mpe_engine *e, struct mpe__slot *s, uint64_t block)
{
    unjournal(s, block);
    journal(s, block);
    mpe__own(e, block, (uint32_t)(s - e->slots) + 1);
}

/* The steps after a commit, for the slot whose record it is, alive or dead. Old blocks become
 * the slot's own before the record is closed and are freed after that: by the time one can
 * belong to another slot, nothing names it here any more. A taken block may still be owned by
 * the producer that has just stored it. After the commit only the taker may own it, so it is
 * owned unconditionally, and the producer's own attach then finds it gone. */
static void
finish(mpe_engine *e, struct mpe__slot *s)
{
    struct mpe__op *op = &s->op;
    uint32_t owner = (uint32_t)(s - e->slots) + 1;
    uint64_t old_block[2], block;
    for (int i = 0; i < 2; i++) {
        if ((block = mpe__load64(&op->new_block[i])) == 0)
            continue;
        mpe__take(e, block, owner, MPE__ATTACHED | mpe__load32(&op->object));
        unjournal(s, block);
    }
    for (int i = 0; i < 2; i++)
        if ((old_block[i] = mpe__load64(&op->old_block[i])) != 0)
            take_over(e, s, old_block[i]);
    if ((block = mpe__load64(&op->taken)) != 0)
        take_over(e, s, block);
    mpe__store32(&op->active, 0);
    for (int i = 0; i < 2; i++) {
        if (!old_block[i])
            continue;
        mpe__free(e, old_block[i]);
        unjournal(s, old_block[i]);
    }
}

void
mpe__commit_change(mpe_engine *e, const struct mpe__change *c)
{
    struct mpe__op *op = &e->self->op;
    atomic_store_explicit(&op->object, mpe__index_of(e, c->object), memory_order_relaxed);
    atomic_store_explicit(&op->link, mpe__offset(e, c->link), memory_order_relaxed);
    atomic_store_explicit(&op->value, c->value, memory_order_relaxed);
    for (int i = 0; i < 2; i++) {
        atomic_store_explicit(&op->new_block[i], c->new_block[i], memory_order_relaxed);
        atomic_store_explicit(&op->old_block[i], c->old_block[i], memory_order_relaxed);
    }
    atomic_store_explicit(&op->taken, c->taken, memory_order_relaxed);
    mpe__store32(&op->active, 1);
    mpe__store64(c->link, c->value); /* the commit */
    finish(e, e->self);
}

static void
recover_op(mpe_engine *e, uint32_t slot)
{
    struct mpe__op *op = &e->slots[slot].op;
    if (!mpe__load32(&op->active))
        return;
    const mpe__a64 *link = mpe__at(e, mpe__load64(&op->link));
    if (mpe__load64(link) == mpe__load64(&op->value))
        finish(e, &e->slots[slot]);
    mpe__store32(&op->active, 0);
}

/* For the slot whose record it is, alive or dead; may be repeated. */
static void
rewrite(mpe_engine *e, struct mpe__redo *r)
{
    mpe__a64 *head = mpe__at(e, mpe__load64(&r->head)), *to = mpe__at(e, mpe__load64(&r->to));
    mpe__store64(head, mpe__load64(head) | 1ull << 32);
    atomic_thread_fence(memory_order_release); /* is_at in objects/dict_read.c */
    for (uint32_t i = 0; i < mpe__load32(&r->count); i++)
        atomic_store_explicit(&to[i], r->words[i], memory_order_relaxed);
    mpe__store64(head, mpe__load64(&r->value));
    mpe__store32(&r->count, 0);
}

void
mpe__commit_rewrite(mpe_engine *e, mpe__a64 *head, uint64_t value, mpe__a64 *to, uint32_t count)
{
    struct mpe__redo *r = &e->self->redo;
    atomic_store_explicit(&r->head, mpe__offset(e, head), memory_order_relaxed);
    atomic_store_explicit(&r->value, value, memory_order_relaxed);
    atomic_store_explicit(&r->to, mpe__offset(e, to), memory_order_relaxed);
    mpe__store32(&r->count, count); /* the commit */
    rewrite(e, r);
}

static void
release_lock(uint32_t slot, mpe__a32 *word)
{
    uint32_t seen = mpe__load32(word);
    while ((seen & ~LOCK_WAITERS) == slot + 1 && !atomic_compare_exchange_weak(word, &seen, 0))
        ;
    mpe__futex_wake(word, INT_MAX);
}

/* Repairs and releases the locks named by the intents of a slot; the arena's own, or the others. */
static void
recover_locks(mpe_engine *e, uint32_t slot, int arena_lock)
{
    struct mpe__slot *s = &e->slots[slot];
    for (int k = MPE__INTENTS - 1; k >= 0; k--) {
        uint64_t intent = mpe__load64(&s->intents[k]);
        if (!intent)
            continue;
        mpe__a32 *word = mpe__at(e, mpe__intent_offset(intent));
        if ((word == &e->header->arena_lock) != arena_lock)
            continue;
        if ((mpe__load32(word) & ~LOCK_WAITERS) == slot + 1) {
            mpe_object *o = &e->objects[mpe__intent_object(intent)];
            const struct mpe__kind *kind = mpe__kind_of(e, o);
            if (arena_lock)
                mpe__arena_recover(e);
            else if (kind->recover)
                kind->recover(e, o, mpe__intent_offset(intent));
        }
        release_lock(slot, word);
        mpe__store64(&s->intents[k], 0);
    }
}

static void
free_in_flight(mpe_engine *e, uint32_t slot)
{
    struct mpe__slot *s = &e->slots[slot];
    for (uint32_t i = 0; i < MPE__INFLIGHT; i++) {
        uint64_t block = mpe__load64(&s->inflight[i]);
        if (block && mpe__take(e, block, slot + 1, slot + 1))
            mpe__free(e, block);
        else if (block)
            mpe__free_strays(e, block, slot + 1);
        mpe__store64(&s->inflight[i], 0);
    }
    if (mpe__load32(&s->unlisted))
        mpe__free_owned_by(e, slot + 1);
    mpe__store32(&s->unlisted, 0);
    uint32_t making = mpe__load32(&s->making);
    if (making)
        mpe__free_making(e, making, slot);
    mpe__store32(&s->making, 0);
}

int
mpe__object_settles_live(mpe_engine *e, mpe_object *o)
{
    for (;;) {
        uint32_t word = atomic_load(&o->state);
        if (MPE__OBJECT_STATE(word) != MPE__OBJECT_DOUBTED)
            return word == MPE__OBJECT_LIVE;
        uint32_t by = (word >> 8) - 1;
        if (mpe__is_dead(&e->slots[by]))
            mpe__reap(e, by);
        sched_yield();
    }
}

static void
give_up(mpe_engine *e, uint32_t slot, mpe_object *o)
{
    for (int event = 0; event < MPE_EVENTS; event++)
        mpe__set_remove(&o->waiters[event], slot);
    const struct mpe__kind *kind = mpe__kind_of(e, o);
    if (kind->death)
        kind->death(e, o, slot);
}

/* The dead slot holds the object while its hook runs, even if it did not before, so that no
 * process can destroy it meanwhile. The order is that of every hold: the bit, then the state. */
static void
leave_object(mpe_engine *e, uint32_t slot, mpe_object *o)
{
    mpe__set_add(&o->holders, slot);
    if (!mpe__object_settles_live(e, o)) {
        mpe__set_remove(&o->holders, slot);
        return;
    }
    give_up(e, slot, o);
    mpe__set_remove(&o->holders, slot);
    if (mpe__set_empty(&o->holders))
        mpe__store32(&e->header->sweep_wanted, 1);
}

static void
leave_objects(mpe_engine *e, uint32_t slot)
{
    uint32_t top = mpe__load32(&e->header->objects_top);
    give_up(e, slot, &e->objects[0]);
    for (uint32_t i = 1; i < top; i++) {
        mpe_object *o = &e->objects[i];
        if (mpe__load32(&o->state) & MPE__OBJECT_LIVE) /* DOUBTED too */
            leave_object(e, slot, o);
        else
            mpe__set_remove(&o->holders, slot); /* set by a process that found it freed, and died */
    }
}

/* Slots that the dead one had reserved for children that had not yet taken them. */
static void
release_reserved(mpe_engine *e, uint32_t slot)
{
    uint32_t top = mpe__load32(&e->header->slots_top);
    for (uint32_t i = 0; i < top; i++) {
        struct mpe__slot *s = &e->slots[i];
        if (mpe__load32(&s->state) == MPE__SLOT_STARTING && mpe__load32(&s->starter) == slot + 1)
            mpe__slot_unreserve(e, i, mpe__load32(&s->generation));
    }
}

void
mpe__retire(mpe_engine *e, uint32_t slot)
{
    struct mpe__slot *s = &e->slots[slot];
    recover_locks(e, slot, 1);
    recover_op(e, slot);
    if (mpe__load32(&s->redo.count))
        rewrite(e, &s->redo);
    recover_locks(e, slot, 0);
    free_in_flight(e, slot);
    leave_objects(e, slot);
    release_reserved(e, slot);
    mpe__store32(&s->parent, 0);
    mpe__store32(&s->starter, 0);
    if (slot != e->slot || e->owes_wakes || mpe__load32(&e->header->sweep_wanted))
        mpe__ring_all(e);
    mpe__store32(&s->generation, mpe__load32(&s->generation) + 1);
    atomic_fetch_add(&e->header->quiet_round, 1); /* waiters for its exit have yet to see it */
    mpe__store32(&s->state, MPE__SLOT_FREE);
    atomic_fetch_add(&e->header->live_epoch, 1);
    mpe__futex_wake(&e->header->live_epoch, INT_MAX); /* wakes sleepers whose last peer has left */
}

void
mpe__announce_membership(mpe_engine *e)
{
    atomic_fetch_add(&e->header->live_epoch, 1);
    mpe__futex_wake(&e->header->live_epoch, INT_MAX);
    uint32_t top = mpe__load32(&e->header->slots_top);
    for (uint32_t i = 0; i < top; i++) /* sleepers in the event loop watch descriptors instead */
        if (i != e->slot && mpe__is_live(&e->slots[i]) &&
            atomic_load(&e->slots[i].sleep) == MPE__IN_POLL)
            mpe__ring(e, i, MPE__BROADCAST);
}

int
mpe__reap(mpe_engine *e, uint32_t slot)
{
    struct mpe__slot *s = &e->slots[slot];
    int rc = pthread_mutex_trylock(&s->life);
    if (rc == EBUSY)
        return 0;
    if (rc == EOWNERDEAD)
        pthread_mutex_consistent(&s->life);
    else if (rc != 0)
        return 0;
    int mine = rc == EOWNERDEAD;
    if (mine && mpe__load32(&s->state) != MPE__SLOT_FREE) {
        mpe__trace(e, MPE_TRACE_DEATH, mpe__load32(&s->pid), NULL);
        mpe__retire(e, slot);
    }
    pthread_mutex_unlock(&s->life);
    return mine;
}

int
mpe__reap_all(mpe_engine *e)
{
    int count = 0;
    uint32_t top = mpe__load32(&e->header->slots_top);
    for (uint32_t i = 0; i < top; i++)
        if (mpe__is_dead(&e->slots[i]))
            count += mpe__reap(e, i);
    return count;
}
