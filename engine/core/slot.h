/* Slots: the attached processes, and whether they live. */
#ifndef MPE_CORE_SLOT_H
#define MPE_CORE_SLOT_H

#include "os/os.h"
#include "core/engine.h"

#include <linux/futex.h>

/* The futex word inside a life mutex; the kernel sets FUTEX_OWNER_DIED in it at the owner's death,
 * before the memory of the process is torn down, and wakes one sleeper. */
static inline mpe__a32 *
mpe__life_word(struct mpe__slot *s)
{
    return (mpe__a32 *)&s->life.__data.__lock;
}

/* Died, and not yet locked by a reaper. One memory load. */
static inline int
mpe__is_dead(struct mpe__slot *s)
{
    return (mpe__load32(mpe__life_word(s)) & FUTEX_OWNER_DIED) != 0;
}

static inline int
mpe__is_live(struct mpe__slot *s)
{
    return mpe__load32(&s->state) == MPE__SLOT_LIVE;
}

/* The thread that owns a live slot, by its number in the system; 0: none lives. */
static inline uint32_t
mpe__slot_thread(struct mpe__slot *s)
{
    return mpe__load32(mpe__life_word(s)) & FUTEX_TID_MASK;
}

/* Does the thread that attached still run? While a slot is reaped its life is the reaper's, and the
 * mutex says nothing of a death any more. */
static inline int
mpe__is_running(struct mpe__slot *s)
{
    return mpe__is_live(s) && mpe__slot_thread(s) == mpe__load32(&s->thread);
}

/* Has the process ended whose end ends this one? Its signal is on the way: the kernel marks a life
 * word before it closes the descriptors. */
static inline int
mpe__is_orphan(mpe_engine *e)
{
    uint64_t bound = mpe__load64(&e->self->bound);
    if (!bound)
        return 0;
    struct mpe__slot *s = &e->slots[(uint32_t)bound - 1];
    return !mpe__is_running(s) || mpe__load32(&s->generation) != bound >> 32;
}

/* Has another thread of this process a slot? */
int mpe__other_threads_attached(mpe_engine *e);
/* Adds the life words of all others to the n words to be slept on, so that any death wakes a
 * sleeper, and returns the new number of words. If there are more than a sleep can watch, it
 * lowers the deadline instead. live_epoch in the header shows later arrivals. */
int mpe__watch_lives(mpe_engine *e, struct mpe__futex_wait *words, int n, uint64_t *deadline);

/* Takes a free slot for this thread. Errors: ESLOTS, ENOMEM. */
int mpe__slot_attach(mpe_engine *e, const char *name);
/* Reserves a free slot for a child that this process is about to start; generation is bumped
 * when the child's life ends, however it ends. Errors: ESLOTS, ENOMEM. */
int mpe__slot_reserve(mpe_engine *e, const char *name, uint32_t *slot);
/* The child takes its reserved slot, of the generation it was reserved with. Errors: ESTALE (the
 * starter died in the meantime). */
int mpe__slot_take_reserved(mpe_engine *e, uint32_t slot, uint32_t generation);
/* Notes which process is to take a reserved slot. */
void mpe__slot_started(mpe_engine *e, uint32_t slot, uint32_t generation, int pid);
/* Frees the reserved slots whose processes have exited without taking them; returns how many. A
 * starter that waits for its child does so by itself, but nothing makes it wait. */
int mpe__slots_free_unborn(mpe_engine *e);
/* Releases a reserved slot that no child has taken. Harmless when one has. */
void mpe__slot_unreserve(mpe_engine *e, uint32_t slot, uint32_t generation);
/* Leaves: releases everything the slot holds, as its death would. */
void mpe__slot_detach(mpe_engine *e);

#endif
