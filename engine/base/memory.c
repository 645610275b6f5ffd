/* SPDX-License-Identifier: MIT */
/* The allocator of a host has the contract of lua_Alloc: exact old sizes, 0 and NULL for a new
 * block, size 0 to free, and a block that shrinks never fails.
 */
#include "base/memory.h"

#include <string.h>

void *
mpe__memory_call(const struct mpe__memory *m, void *block, size_t old_size, size_t size)
{
    void *found = m->call(m->ud, block, old_size, size);
    if (!found && size > 0)
        errno = ENOMEM;
    return found;
}

void *
mpe__new_zeroed(const struct mpe__memory *m, size_t size)
{
    if (!m->call)
        return calloc(1, size);
    void *block = mpe__memory_call(m, NULL, 0, size);
    return block ? memset(block, 0, size) : NULL;
}

void *
mpe__renew(const struct mpe__memory *m, void *block, size_t old_size, size_t size)
{
    return m->call ? mpe__memory_call(m, block, old_size, size) : realloc(block, size);
}
