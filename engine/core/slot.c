/* Slots. A slot's life mutex is robust and locked by its owner from attach to death, so liveness
 * is one load for every process, needs no pid, and cannot be fooled by a reused one. Only
 * trylock is ever used on it. Having it locked is also the right to change the slot's state.
 *
 * A slot that was never used is all zeros, and may have no memory yet: all below slots_top are
 * ready.
 *
 * FREE -> LIVE by the owner (attach); FREE -> STARTING by a parent for its child (reserve),
 * STARTING -> LIVE by the child; back to FREE by the owner (detach) or by the reaper.
 *
 * Death: attaching writes everything under the locked mutex, so a death leaves an OWNER_DIED
 * slot that the next process reaps. A parent that dies leaves its STARTING slots to its reaper.
 * The reaper and the child both lock the mutex first, so exactly one of the two finds the slot
 * still reserved. A child that dies before it has taken its slot leaves it to its parent's wait,
 * or to a process that needs a slot.
 */
#include "core/slot.h"

#include "os/os.h"
#include "core/bell.h"
#include "core/death.h"
#include "core/trace.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#define BACKSTOP_NS MPE_NS_PER_S /* when more peers live than a futex wait can watch */

/* The one word in which a new robust mutex differs from zeros. */
static uint32_t
robust_kind(void)
{
    pthread_mutex_t m;
    pthread_mutexattr_t a;
    pthread_mutexattr_init(&a);
    pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&m, &a);
    pthread_mutexattr_destroy(&a);
    return (uint32_t)m.__data.__kind;
}

/* Before anything else of a slot is read: commits its memory and initialises its mutex, if it
 * was never used. Every process would store the same one word, so several may do it at once, and
 * one that dies before slots_top is raised leaves it to the next. */
static int
prepare(mpe_engine *e, uint32_t slot)
{
    struct mpe__slot *s = &e->slots[slot];
    mpe__a32 *kind = (mpe__a32 *)&s->life.__data.__kind;
    if (slot < mpe__load32(&e->header->slots_top))
        return MPE_OK;
    if (mpe__memfd_commit(e->fd, mpe__offset(e, s), sizeof *s) != 0)
        return MPE_ENOMEM;
    if (mpe__load32(kind) == 0)
        mpe__store32(kind, robust_kind());
    return MPE_OK;
}

int
mpe__watch_lives(mpe_engine *e, struct mpe__futex_wait *words, int n, uint64_t *deadline)
{
    uint32_t top = mpe__load32(&e->header->slots_top);
    for (uint32_t i = 0; i < top; i++) {
        struct mpe__slot *s = &e->slots[i];
        if (i == e->slot || !mpe__is_live(s))
            continue;
        if (n == MPE__FUTEX_MAX) {
            uint64_t limit = mpe_now() + BACKSTOP_NS;
            *deadline = *deadline < limit ? *deadline : limit;
            break;
        }
        words[n++] = (struct mpe__futex_wait){mpe__life_word(s), mpe__load32(mpe__life_word(s))};
    }
    return n;
}

int
mpe__other_threads_attached(mpe_engine *e)
{
    uint32_t top = mpe__load32(&e->header->slots_top), me = mpe__slot_thread(e->self);
    uint32_t pid = mpe__load32(&e->self->pid);
    for (uint32_t i = 0; i < top; i++) {
        struct mpe__slot *s = &e->slots[i];
        if (mpe__is_running(s) && mpe__load32(&s->pid) == pid && mpe__load32(&s->thread) != me)
            return 1;
    }
    return 0;
}

static void
raise_top(mpe_engine *e, uint32_t slot)
{
    uint32_t top = mpe__load32(&e->header->slots_top);
    while (top <= slot && !atomic_compare_exchange_weak(&e->header->slots_top, &top, slot + 1))
        ;
}

/* Locks the life mutex of a slot if it is FREE, reaping a corpse first. 1 when locked. */
static int
lock_if_free(mpe_engine *e, uint32_t slot)
{
    struct mpe__slot *s = &e->slots[slot];
    if (mpe__is_dead(s) && e->self)
        mpe__reap(e, slot);
    if (mpe__load32(&s->state) != MPE__SLOT_FREE)
        return 0;
    int rc = pthread_mutex_trylock(&s->life);
    if (rc == EOWNERDEAD) /* died before it had set LIVE: nothing to repair */
        rc = pthread_mutex_consistent(&s->life);
    if (rc != 0)
        return 0;
    if (mpe__load32(&s->state) == MPE__SLOT_FREE)
        return 1;
    pthread_mutex_unlock(&s->life);
    return 0;
}

/* Locks the first slot that is FREE, and names it. */
static int
lock_free_slot(mpe_engine *e, const char *name, uint32_t *slot)
{
    do {
        for (uint32_t i = 0; i < MPE__SLOTS; i++) {
            int rc = prepare(e, i);
            if (rc != MPE_OK)
                return rc;
            if (!lock_if_free(e, i))
                continue;
            raise_top(e, i);
            snprintf(e->slots[i].name, sizeof e->slots[i].name, "%s", name);
            *slot = i;
            return MPE_OK;
        }
    } while (e->self && mpe__slots_free_unborn(e) > 0);
    return MPE_ESLOTS;
}

static void
become_owner(mpe_engine *e, uint32_t slot)
{
    struct mpe__slot *s = &e->slots[slot];
    e->slot = slot;
    e->self = s;
    e->depth = 0;
    mpe__store32(&s->pid, (uint32_t)getpid());
    mpe__store32(&s->thread, mpe__slot_thread(s));
    mpe__store32(&s->tasks, 0);
    mpe__store32(&s->answers, 0);
    mpe__store64(&s->bound, 0);
    mpe__store32(&s->bell, 0);
    mpe__store32(&s->sleep, MPE__AWAKE);
    mpe__store32(&s->quiet, 0);
    mpe__store32(&s->rung_on, 0);
    /* so that the kernel wakes a process that sleeps on the life word when this thread dies */
    atomic_fetch_or(mpe__life_word(s), FUTEX_WAITERS);
    e->trace.word = 0; /* after a fork: the parent's */
}

int
mpe__slot_attach(mpe_engine *e, const char *name)
{
    uint32_t slot;
    int rc = lock_free_slot(e, name, &slot);
    if (rc != MPE_OK)
        return rc;
    struct mpe__slot *s = &e->slots[slot];
    mpe__store32(&s->parent, 0); /* one that died while it reserved the slot may have left these */
    mpe__store32(&s->starter, 0);
    become_owner(e, slot);
    mpe__store32(&s->state, MPE__SLOT_LIVE);
    mpe__announce_membership(e);
    mpe__trace_enter(e);
    return MPE_OK;
}

int
mpe__slot_reserve(mpe_engine *e, const char *name, uint32_t *slot)
{
    int rc = lock_free_slot(e, name, slot);
    if (rc != MPE_OK)
        return rc;
    struct mpe__slot *s = &e->slots[*slot];
    mpe__store32(&s->parent, e->slot + 1);
    mpe__store32(&s->starter, e->slot + 1);
    mpe__store32(&s->state, MPE__SLOT_STARTING);
    pthread_mutex_unlock(&s->life);
    mpe__trace(e, MPE_TRACE_START, *slot, NULL);
    return MPE_OK;
}

static int
is_reserved(struct mpe__slot *s, uint32_t generation)
{
    return mpe__load32(&s->state) == MPE__SLOT_STARTING &&
           mpe__load32(&s->generation) == generation;
}

/* Locks the life mutex of a slot while it is reserved. A process that looks for a free slot may
 * have it locked for a moment. 1 when locked. */
static int
lock_reserved(struct mpe__slot *s, uint32_t generation)
{
    while (is_reserved(s, generation)) {
        int rc = pthread_mutex_trylock(&s->life);
        if (rc == EOWNERDEAD)
            rc = pthread_mutex_consistent(&s->life);
        if (rc == 0 && is_reserved(s, generation))
            return 1;
        if (rc == 0)
            pthread_mutex_unlock(&s->life);
        sched_yield();
    }
    return 0;
}

int
mpe__slot_take_reserved(mpe_engine *e, uint32_t slot, uint32_t generation)
{
    struct mpe__slot *s = &e->slots[slot];
    if (!lock_reserved(s, generation))
        return MPE_ESTALE;
    become_owner(e, slot);
    mpe__store32(&s->state, MPE__SLOT_LIVE);
    mpe__announce_membership(e);
    mpe__trace_enter(e);
    return MPE_OK;
}

void
mpe__slot_unreserve(mpe_engine *e, uint32_t slot, uint32_t generation)
{
    struct mpe__slot *s = &e->slots[slot];
    if (!lock_reserved(s, generation))
        return;
    mpe__retire(e, slot);
    pthread_mutex_unlock(&s->life);
}

/* A late note, when the slot has been reserved again, has another generation. */
void
mpe__slot_started(mpe_engine *e, uint32_t slot, uint32_t generation, int pid)
{
    mpe__store64(&e->slots[slot].child, (uint64_t)generation << 32 | (uint32_t)pid);
}

int
mpe__slots_free_unborn(mpe_engine *e)
{
    int count = 0;
    uint32_t top = mpe__load32(&e->header->slots_top);
    for (uint32_t i = 0; i < top; i++) {
        struct mpe__slot *s = &e->slots[i];
        uint32_t generation = mpe__load32(&s->generation);
        uint64_t child = mpe__load64(&s->child);
        if (!is_reserved(s, generation) || child >> 32 != generation ||
            !mpe__process_is_over((pid_t)child))
            continue;
        mpe__slot_unreserve(e, i, generation);
        count++;
    }
    return count;
}

void
mpe__slot_detach(mpe_engine *e)
{
    mpe__trace_leave(e);
    mpe__retire(e, e->slot);
    pthread_mutex_unlock(&e->slots[e->slot].life);
}
