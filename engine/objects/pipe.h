/* Pipe layout and hooks. */
#ifndef MPE_OBJECTS_PIPE_H
#define MPE_OBJECTS_PIPE_H

#include "core/engine.h"

struct mpe__pipe {
    mpe__a64 queue[2];  /* handle of the queue that carries what end i sends, 0: it sends nothing */
    mpe__a32 closed[2]; /* nobody has end i any more, nor will */
    struct mpe__slotset users[2]; /* the processes that have end i */
};

/* The end that a handle of a pipe names, or -1. */
int mpe__pipe_end(mpe_handle h);
/* A message brought a handle of end 0, of end 1. */
void mpe__pipe_arrived(mpe_engine *e, mpe_object *o);
void mpe__pipe_other_arrived(mpe_engine *e, mpe_object *o);
void mpe__pipe_death(mpe_engine *e, mpe_object *o, uint32_t slot);
void mpe__pipe_scan(mpe_engine *e, mpe_object *o, int (*visit)(void *ud, uint64_t h), void *ud);
/* At the end of a sweep: mentioned has bit i set when some container mentions end i. */
void mpe__pipe_swept(mpe_engine *e, mpe_object *o, uint32_t mentioned);
/* A child that is being started is given an end. */
void mpe__pipe_give(mpe_engine *e, mpe_object *o, int end, uint32_t slot);

#endif
