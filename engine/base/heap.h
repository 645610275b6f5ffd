/* An intrusive binary min-heap of deadlines. Index 0 of the array is unused, so that an element
 * whose heap_index is 0 is on no heap. The heap borrows its elements. */
#ifndef MPE_BASE_HEAP_H
#define MPE_BASE_HEAP_H

#include "base/memory.h"
#include "mpengine_core.h"

struct mpe__heap {
    mpe_waiter **at; /* 1 .. count */
    uint32_t count, capacity;
};

/* Errors: ENOMEM. */
int mpe__heap_push(struct mpe__heap *h, const struct mpe__memory *m, mpe_waiter *w);
void mpe__heap_remove(struct mpe__heap *h, mpe_waiter *w);
void mpe__heap_free(struct mpe__heap *h, const struct mpe__memory *m);

static inline mpe_waiter *
mpe__heap_first(const struct mpe__heap *h)
{
    return h->count ? h->at[1] : NULL;
}

#endif
