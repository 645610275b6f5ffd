/* Lock and RLock, for users: one word names the owner.
 *
 *   bits 0-15   slot + 1 of the owner; 0 free; 0xffff abandoned: free, and the last owner died
 *   bits 16-31  levels of a recursive lock
 *   bits 32-63  the owner's task
 *
 * A free or abandoned word is taken by compare-and-swap. Nothing is handed over, so nothing is
 * in transit when a process dies. Every kind of object with MPE_EVENT_READY unused has this
 * word; so arrays and conditions have a lock of their own.
 *
 * Death: the word either names the dead slot, and its reaper marks it abandoned, or it does not.
 * A releaser that dies before its wake leaves a free word, and the reaper's broadcast makes
 * every waiter check.
 */
#include "objects/lock.h"

#include "core/bell.h"
#include "core/object.h"
#include "core/trace.h"
#include "objects/doors.h"

#define FREE 0ull
#define ABANDONED 0xffffull
#define LEVELS_ONE (1ull << 16)

static uint32_t
slot_of(uint64_t word)
{
    return (uint32_t)(word & 0xffff);
}

static uint32_t
levels_of(uint64_t word)
{
    return (uint32_t)(word >> 16 & 0xffff);
}

static uint64_t
owned(const mpe_engine *e, uint32_t task)
{
    return (uint64_t)task << 32 | LEVELS_ONE | (e->slot + 1);
}

static int
is_mine(const mpe_engine *e, uint64_t word, uint32_t task)
{
    return slot_of(word) == e->slot + 1 && word >> 32 == task;
}

int
mpe_lock_create(mpe_engine *e, int recursive, mpe_object **out)
{
    if (!out)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    return mpe__object_create(e, recursive ? MPE_KIND_RLOCK : MPE_KIND_LOCK, out);
}

mpe_handle
mpe_lock_facet(mpe_engine *e, const mpe_object *o)
{
    if (!mpe__admits(e, o, MPE__RLOCKS))
        return 0;
    return mpe__handle_as(e, o, MPE_KIND_RLOCK);
}

/* What a traced program does is apart, so that the way of the others saves no registers. */
static MPE__COLD int
note_taken(mpe_engine *e, const mpe_object *o, uint32_t task, int rc)
{
    mpe__trace(e, MPE_TRACE_LOCK, task, o);
    return rc;
}

static inline int
taken(mpe_engine *e, const mpe_object *o, uint32_t task, int rc)
{
    return mpe__is_traced(e) ? note_taken(e, o, task, rc) : rc;
}

int
mpe__lock_take(mpe_engine *e, mpe_object *o, uint32_t task)
{
    uint64_t seen = FREE;
    if (MPE__LIKELY(atomic_compare_exchange_strong(&o->word, &seen, owned(e, task))))
        return taken(e, o, task, MPE_OK);
    while (seen == FREE || seen == ABANDONED) {
        if (atomic_compare_exchange_weak(&o->word, &seen, owned(e, task)))
            return taken(e, o, task, seen == ABANDONED ? MPE_OWNER_DIED : MPE_OK);
    }
    return MPE_EAGAIN;
}

int
mpe__rlock_take(mpe_engine *e, mpe_object *o, uint32_t task)
{
    uint64_t word = mpe__load64(&o->word);
    if (!is_mine(e, word, task))
        return mpe__lock_take(e, o, task);
    if (levels_of(word) == 0xffff)
        return MPE_ERANGE;
    mpe__store64(&o->word, word + LEVELS_ONE);
    return MPE_OK;
}

static inline int
give(mpe_engine *e, mpe_object *o)
{
    uint64_t seen = mpe__load64(&o->word);
    do {
        if (seen == FREE || seen == ABANDONED)
            return MPE_EOVER;
    } while (!atomic_compare_exchange_weak(&o->word, &seen, FREE));
    mpe__wake_one(e, o, MPE_EVENT_READY);
    return MPE_OK;
}

static MPE__COLD int
note_and_give(mpe_engine *e, mpe_object *o)
{
    uint64_t seen = mpe__load64(&o->word);
    if (seen != FREE && seen != ABANDONED)
        mpe__trace(e, MPE_TRACE_UNLOCK, (uint32_t)(seen >> 32), o); /* before the next owner's */
    return give(e, o);
}

int
mpe__lock_give(mpe_engine *e, mpe_object *o)
{
    return mpe__is_traced(e) ? note_and_give(e, o) : give(e, o);
}

int
mpe__rlock_give(mpe_engine *e, mpe_object *o, uint32_t task)
{
    uint64_t word = mpe__load64(&o->word);
    if (!is_mine(e, word, task))
        return MPE_EPERM;
    if (levels_of(word) > 1) {
        mpe__store64(&o->word, word - LEVELS_ONE);
        return MPE_OK;
    }
    return mpe__lock_give(e, o);
}

/* ---- in steps ---- */

uint32_t
mpe_owner_new(mpe_engine *e)
{
    if (!mpe__is_ours(e))
        return 0;
    return MPE_OWNER_FIRST | (++e->owners & (MPE_OWNER_FIRST - 1));
}

static int
is_owner(uint32_t task)
{
    return MPE__LIKELY(task != 0 && task < MPE__OWNER_HOST);
}

int
mpe_lock_acquire(mpe_engine *e, mpe_object *o, uint32_t task)
{
    if (!mpe__admits(e, o, MPE__KIND(LOCK)))
        return mpe__refusal(e, o, MPE__KIND(LOCK));
    return is_owner(task) ? mpe__lock_take(e, o, task) : MPE_EINVAL;
}

int
mpe_rlock_acquire(mpe_engine *e, mpe_object *o, uint32_t task)
{
    if (!mpe__admits(e, o, MPE__RLOCKS))
        return mpe__refusal(e, o, MPE__RLOCKS);
    return is_owner(task) ? mpe__rlock_take(e, o, task) : MPE_EINVAL;
}

int
mpe_lock_release(mpe_engine *e, mpe_object *o)
{
    if (!mpe__admits(e, o, MPE__KIND(LOCK)))
        return mpe__refusal(e, o, MPE__KIND(LOCK));
    return mpe__lock_give(e, o);
}

int
mpe_rlock_release(mpe_engine *e, mpe_object *o, uint32_t task)
{
    if (!mpe__admits(e, o, MPE__RLOCKS))
        return mpe__refusal(e, o, MPE__RLOCKS);
    return mpe__rlock_give(e, o, task);
}

int
mpe_rlock_release_all(mpe_engine *e, mpe_object *o, uint32_t task, uint32_t *levels)
{
    if (!levels)
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__RLOCKS))
        return mpe__refusal(e, o, MPE__RLOCKS);
    uint64_t word = mpe__load64(&o->word);
    if (!is_mine(e, word, task))
        return MPE_EPERM;
    *levels = levels_of(word);
    return mpe__lock_give(e, o);
}

void
mpe_rlock_set_levels(mpe_engine *e, mpe_object *o, uint32_t levels)
{
    if (!mpe__admits(e, o, MPE__RLOCKS))
        return;
    uint64_t word = mpe__load64(&o->word);
    if (slot_of(word) == e->slot + 1)
        mpe__store64(&o->word, (word & ~(0xffffull << 16)) | (uint64_t)levels << 16);
}

void
mpe_lock_state_get(mpe_engine *e, const mpe_object *o, mpe_lock_state *out)
{
    if (!out)
        return;
    *out = (mpe_lock_state){0};
    if (!mpe__admits(e, o, MPE__RLOCKS | MPE__KIND(LOCK)))
        return;
    uint64_t word = mpe__load64(&o->word);
    out->abandoned = word == ABANDONED;
    if (word == FREE || word == ABANDONED)
        return;
    out->locked = 1;
    out->slot = slot_of(word) - 1;
    out->levels = levels_of(word);
    out->task = (uint32_t)(word >> 32);
}

int
mpe__lock_is_of(const mpe_object *o, uint32_t slot)
{
    uint64_t word = mpe__load64(&o->word);
    return word != ABANDONED && slot_of(word) == slot + 1;
}

int
mpe_rlock_abandon(mpe_engine *e, mpe_object *o, uint32_t task)
{
    if (!mpe__admits(e, o, MPE__RLOCKS))
        return mpe__refusal(e, o, MPE__RLOCKS);
    uint64_t word = mpe__load64(&o->word);
    if (!is_mine(e, word, task) || levels_of(word) != 1)
        return MPE_EPERM;
    mpe__trace(e, MPE_TRACE_UNLOCK, task, o);
    mpe__store64(&o->word, ABANDONED);
    mpe__wake_one(e, o, MPE_EVENT_READY);
    return MPE_OK;
}

void
mpe__lock_death(mpe_engine *e, mpe_object *o, uint32_t slot)
{
    uint64_t seen = mpe__load64(&o->word);
    while (seen != ABANDONED && slot_of(seen) == slot + 1) {
        if (!atomic_compare_exchange_weak(&o->word, &seen, ABANDONED))
            continue;
        mpe__wake_one(e, o, MPE_EVENT_READY);
        return;
    }
}

int
mpe__lock_ready(mpe_engine *e, mpe_object *o, int event)
{
    uint64_t word = atomic_load(&o->word);
    (void)e;
    return event != MPE_EVENT_READY || word == FREE || word == ABANDONED;
}

const struct mpe__kind mpe__lock_kind = {.death = mpe__lock_death,
                                         .ready = mpe__lock_ready,
                                         .wake = {[MPE_EVENT_READY] = {.turn = MPE__TURN_ONE}}};
