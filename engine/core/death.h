/* The one recovery path. See death.c. */
#ifndef MPE_CORE_DEATH_H
#define MPE_CORE_DEATH_H

#include "core/engine.h"

/* Owner words of blocks: 0 free, slot + 1 in flight, MPE__ATTACHED | object index in use. */
#define MPE__ATTACHED 0x80000000u

/* Repairs after a dead slot and frees it. 1 when done here, 0 when it lives or another reaper
 * has it. */
int mpe__reap(mpe_engine *e, uint32_t slot);
/* Reaps every dead slot; returns how many. */
int mpe__reap_all(mpe_engine *e);
/* Releases everything a slot holds and frees it; the caller has its life mutex locked. */
void mpe__retire(mpe_engine *e, uint32_t slot);
/* For a process that has set its holder's bit of o: 1 when the object is live and stays so while
 * the bit is set. Waits for the end of a doubt about it. */
int mpe__object_settles_live(mpe_engine *e, mpe_object *o);
/* Tells sleepers that the set of live slots has changed, so that they watch the right ones. */
void mpe__announce_membership(mpe_engine *e);

/* A mutation around its committing store (see struct mpe__op). Blocks that are 0 are none. */
struct mpe__change {
    mpe_object *object;
    mpe__a64 *link;        /* the word whose store commits */
    uint64_t value;        /* what is stored */
    uint64_t new_block[2]; /* in flight; become the object's */
    uint64_t old_block[2]; /* the object's; freed */
    uint64_t taken;        /* the object's; becomes this slot's, in flight */
};

/* Announces, commits and finishes a change; the lock that guards link is held. */
void mpe__commit_change(mpe_engine *e, const struct mpe__change *c);

/* Writes the first count of the words in the redo record of this slot over those at `to`, as one
 * step, with a version in head (see struct mpe__redo), which becomes value; the lock that guards
 * them is held. A reader without the lock finds the same even version before and after, or must
 * read again. */
void mpe__commit_rewrite(mpe_engine *e, mpe__a64 *head, uint64_t value, mpe__a64 *to,
                         uint32_t count);

#endif
