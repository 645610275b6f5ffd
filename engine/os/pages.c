/* Faults in advance. A fault costs many times as much as its page, most of all where page tables
 * are virtual, so a range that will be needed is requested at once. A kernel that cannot do so
 * (before 5.14) reports an error, and the faults occur one by one. */
#include "os/os.h"

#include <sys/mman.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#define PAGE ((uintptr_t)4096)

void
mpe__will_read(const void *from, const void *to)
{
    uintptr_t first = (uintptr_t)from & ~(PAGE - 1);
    uintptr_t last = ((uintptr_t)to + PAGE - 1) & ~(PAGE - 1);
    madvise((void *)first, last - first, MADV_POPULATE_READ);
}
