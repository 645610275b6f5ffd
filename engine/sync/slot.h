/* Slots: who is attached, and whether they live. */
#ifndef MPE_SYNC_SLOT_H
#define MPE_SYNC_SLOT_H

#include "sync/engine.h"

#include <linux/futex.h>

/* The futex word inside a life mutex; the kernel sets FUTEX_OWNER_DIED in it at the owner's death,
 * before the memory of the process is torn down, and wakes one sleeper. */
static inline mpe__a32 *
mpe__life_word(struct mpe__slot *s)
{
    return (mpe__a32 *)&s->life.__data.__lock;
}

/* Died, and not yet taken for reaping. One memory load. */
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

/* Initialises the life mutexes of a new arena. */
int mpe__slots_init(struct mpe__slot *slots);
/* Takes a free slot for this thread. Errors: ESLOTS. */
int mpe__slot_attach(mpe_engine *e, const char *name);
/* Reserves a free slot for a child that this process is about to start; generation is bumped by
 * its end, whatever that is. Errors: ESLOTS. */
int mpe__slot_reserve(mpe_engine *e, const char *name, uint32_t *slot);
/* The child takes its reserved slot, of the generation it was reserved with. Errors: ESTALE (the
 * starter has died meanwhile). */
int mpe__slot_take_reserved(mpe_engine *e, uint32_t slot, uint32_t generation);
/* Gives a reserved slot up again that no child has taken. Harmless when one has. */
void mpe__slot_unreserve(mpe_engine *e, uint32_t slot, uint32_t generation);
/* Leaves: gives up everything the slot holds, as its death would. */
void mpe__slot_detach(mpe_engine *e);

#endif
