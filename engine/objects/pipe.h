/* The body of a pipe. */
#ifndef MPE_OBJECTS_PIPE_H
#define MPE_OBJECTS_PIPE_H

#include "core/engine.h"

struct mpe__pipe {
    mpe__a64 queue[2];  /* handle of the queue that carries what end i sends, 0: it sends nothing */
    mpe__a32 closed[2]; /* nobody has end i any more, nor will */
    struct mpe__slotset users[2]; /* the processes that have end i */
};

#endif
