/* The deadline heap: sift up, sift down, nothing else. */
#include "base/heap.h"

static void
place(struct mpe__heap *h, uint32_t i, mpe_waiter *w)
{
    h->at[i] = w;
    w->heap_index = i;
}

static void
sift_up(struct mpe__heap *h, uint32_t i)
{
    mpe_waiter *w = h->at[i];
    for (; i > 1 && h->at[i / 2]->deadline > w->deadline; i /= 2)
        place(h, i, h->at[i / 2]);
    place(h, i, w);
}

static void
sift_down(struct mpe__heap *h, uint32_t i)
{
    mpe_waiter *w = h->at[i];
    for (;;) {
        uint32_t child = 2 * i;
        if (child > h->count)
            break;
        if (child < h->count && h->at[child + 1]->deadline < h->at[child]->deadline)
            child++;
        if (h->at[child]->deadline >= w->deadline)
            break;
        place(h, i, h->at[child]);
        i = child;
    }
    place(h, i, w);
}

int
mpe__heap_push(struct mpe__heap *h, const struct mpe__memory *m, mpe_waiter *w)
{
    if (h->count + 1 >= h->capacity) {
        uint32_t capacity = h->capacity ? h->capacity * 2 : 64;
        mpe_waiter **at = mpe__renew(m, h->at, h->capacity * sizeof *at, capacity * sizeof *at);
        if (!at)
            return MPE_ENOMEM;
        h->at = at;
        h->capacity = capacity;
    }
    h->at[++h->count] = w;
    sift_up(h, h->count);
    return MPE_OK;
}

void
mpe__heap_remove(struct mpe__heap *h, mpe_waiter *w)
{
    uint32_t i = w->heap_index;
    if (i == 0)
        return;
    w->heap_index = 0;
    mpe_waiter *last = h->at[h->count--];
    if (last == w)
        return;
    place(h, i, last);
    sift_up(h, i);
    sift_down(h, last->heap_index);
}

void
mpe__heap_free(struct mpe__heap *h, const struct mpe__memory *m)
{
    mpe__delete(m, h->at, h->capacity * sizeof *h->at);
    *h = (struct mpe__heap){0};
}
