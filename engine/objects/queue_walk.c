/* Traversal of everything in a queue: destroying, the sweep, measuring. */
#include "objects/queue_int.h"

#include "core/arena.h"
#include "core/ilock.h"

#include <string.h>

/* Calls f for every record in the queue. No other process may use it meanwhile. */
static void
each_record(mpe_engine *e, mpe_object *o, void (*f)(mpe_engine *e, struct mpe__record *r, void *ud),
            void *ud)
{
    struct mpe__queue *q = mpe__queue_body(e, o);
    for (uint64_t off = mpe__load64(&q->head_segment); off;) {
        struct mpe__segment *s = mpe__at(e, off);
        uint64_t head = mpe__load64(&s->head), tail = mpe__load64(&s->tail),
                 p = mpe__cursor_position(head);
        for (uint32_t n = mpe__cursor_number(head); n != mpe__cursor_number(tail); n++) {
            struct mpe__record *r = mpe__record_at(s, &p);
            f(e, r, ud);
            p += mpe__record_bytes(r->flags & MPE__RECORD_OUT_OF_LINE ? sizeof(uint64_t) : r->size);
        }
        off = mpe__load64(&s->next);
    }
}

static uint64_t
block_of(const struct mpe__record *r)
{
    uint64_t block = 0;
    if (r->flags & MPE__RECORD_OUT_OF_LINE)
        memcpy(&block, r->bytes, sizeof block);
    return block;
}

static void
free_record(mpe_engine *e, struct mpe__record *r, void *ud)
{
    (void)ud;
    if (block_of(r))
        mpe__free(e, block_of(r));
}

void
mpe__queue_destroy(mpe_engine *e, mpe_object *o)
{
    each_record(e, o, free_record, NULL);
    for (uint64_t off = mpe__load64(&mpe__queue_body(e, o)->head_segment); off;) {
        uint64_t next = mpe__load64(&((struct mpe__segment *)mpe__at(e, off))->next);
        mpe__free(e, off);
        off = next;
    }
}

struct scan {
    int (*visit)(void *ud, uint64_t h);
    void *ud;
};

static void
scan_record(mpe_engine *e, struct mpe__record *r, void *ud)
{
    struct scan *s = ud;
    if (r->flags & MPE__RECORD_HANDLES)
        mpe_wire_scan_handles(block_of(r) ? mpe__at(e, block_of(r)) : r->bytes, r->size, s->visit,
                              s->ud);
}

void
mpe__queue_scan(mpe_engine *e, mpe_object *o, int (*visit)(void *ud, uint64_t h), void *ud)
{
    struct mpe__queue *q = mpe__queue_body(e, o);
    struct scan s = {visit, ud};
    mpe__ilock(e, &q->head_lock, mpe__index_of(e, o));
    mpe__ilock(e, &q->tail_lock, mpe__index_of(e, o));
    each_record(e, o, scan_record, &s);
    mpe__iunlock(e, &q->tail_lock);
    mpe__iunlock(e, &q->head_lock);
}

static void
add_block(mpe_engine *e, struct mpe__record *r, void *ud)
{
    if (block_of(r))
        *(uint64_t *)ud += mpe__block_bytes(e, block_of(r));
}

void
mpe__queue_measure(mpe_engine *e, mpe_object *o, uint64_t *depth, uint64_t *bytes)
{
    struct mpe__queue *q = mpe__queue_body(e, o);
    *depth = mpe_queue_size(e, o);
    *bytes = 0;
    mpe__ilock(e, &q->head_lock, mpe__index_of(e, o));
    mpe__ilock(e, &q->tail_lock, mpe__index_of(e, o));
    each_record(e, o, add_block, bytes);
    for (uint64_t off = mpe__load64(&q->head_segment); off;) {
        *bytes += mpe__block_bytes(e, off);
        off = mpe__load64(&((struct mpe__segment *)mpe__at(e, off))->next);
    }
    mpe__iunlock(e, &q->tail_lock);
    mpe__iunlock(e, &q->head_lock);
}
