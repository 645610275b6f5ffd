/* SPDX-License-Identifier: MIT */
/* Private memory of an engine: malloc, or the allocator of its host (mpe_config.alloc). The
 * caller knows the size of each block that it gives back. A block may be freed by another engine
 * or thread that has the same allocator.
 *
 * Not from here, since it is not one engine's or ends with the process: what threads of the pool
 * for work use (offload.c, names.c), the table of passing.c, and an environment that becomes that of
 * the process. tools/memory.lua has the list.
 */
#ifndef MPE_BASE_MEMORY_H
#define MPE_BASE_MEMORY_H

#include "base/defs.h"
#include "mpengine.h"

#include <errno.h>
#include <stdlib.h>

struct mpe__memory {
    void *(*call)(void *ud, void *block, size_t old_size, size_t size); /* NULL: malloc */
    void *ud;
};

/* Calls the allocator of the host; sets errno when there is no memory. */
MPE__COLD void *mpe__memory_call(const struct mpe__memory *m, void *block, size_t old_size,
                                 size_t size);
/* Zeroed. */
void *mpe__new_zeroed(const struct mpe__memory *m, size_t size);
/* Of other size; block NULL, of size 0: a new one. NULL leaves the old block as it was. */
void *mpe__renew(const struct mpe__memory *m, void *block, size_t old_size, size_t size);

static inline void *
mpe__new(const struct mpe__memory *m, size_t size)
{
    return MPE__LIKELY(!m->call) ? malloc(size) : mpe__memory_call(m, NULL, 0, size);
}

/* block may be NULL. */
static inline void
mpe__delete(const struct mpe__memory *m, void *block, size_t size)
{
    if (MPE__LIKELY(!m->call))
        free(block);
    else if (block)
        mpe__memory_call(m, block, size, 0);
}

/* The status of a call that has failed with errno: no memory, or the system. */
static inline int
mpe__failure(void)
{
    return errno == ENOMEM ? MPE_ENOMEM : MPE_ESYS;
}

#endif
