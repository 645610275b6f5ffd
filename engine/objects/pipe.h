/* The body of a pipe. */
#ifndef MPE_OBJECTS_PIPE_H
#define MPE_OBJECTS_PIPE_H

#include "core/engine.h"

struct mpe__pipe {
    mpe__a64 queue[2];  /* handle of the queue into which end i sends, 0: it sends nothing */
    mpe__a32 closed[2]; /* no process holds end i, now or later */
    struct mpe__slotset users[2]; /* the processes that hold end i */
};

#endif
