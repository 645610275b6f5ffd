/* SPDX-License-Identifier: MIT */
/* What a pool and its workers say to each other. The heads stand at the end of a message, behind
 * what the bytes are of: the arguments begin a task, a result its message, so that shared objects
 * in them are found there. */
#ifndef MPE_PROC_POOL_H
#define MPE_PROC_POOL_H

#include "proc/function.h"

#include "mpengine_wire.h"

/* What a worker is started with. */
struct mpe__pool_birth {
    mpe_handle tasks, results, board;
    uint64_t index;
};

/* A task: arguments, the name of the function with its zero, this. */
struct mpe__pool_message {
    uint32_t place, name_size;
};

/* A result: bytes, this. */
struct mpe__pool_result {
    uint32_t place, number;
    int32_t status;
};

#endif
