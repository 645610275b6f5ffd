/* Shared by the files of queues. queue.c describes how they work together. */
#ifndef MPE_OBJECTS_QUEUE_INT_H
#define MPE_OBJECTS_QUEUE_INT_H

#include "objects/queue.h"

#include "core/object.h"

#define MPE__RECORD_WRAP UINT32_MAX /* size of the record that means: continue at position 0 */
#define MPE__RECORD_OUT_OF_LINE 1u  /* flags of a record */
#define MPE__RECORD_HANDLES 2u

struct mpe__record {
    uint32_t size;
    uint32_t flags;
    uint8_t bytes[]; /* or the offset of a block */
};

static inline struct mpe__queue *
mpe__queue_body(mpe_engine *e, const mpe_object *o)
{
    return mpe__body(e, o);
}

static inline struct mpe__segment *
mpe__segment_at(mpe_engine *e, const mpe__a64 *link)
{
    return mpe__at(e, mpe__load64(link));
}

static inline uint32_t
mpe__cursor_position(uint64_t cursor)
{
    return (uint32_t)cursor;
}

static inline uint32_t
mpe__cursor_number(uint64_t cursor)
{
    return (uint32_t)(cursor >> 32);
}

static inline uint64_t
mpe__cursor_of(uint64_t position, uint32_t number)
{
    return (uint64_t)number << 32 | position;
}

static inline uint64_t
mpe__record_bytes(uint64_t size)
{
    return mpe__round_up(sizeof(struct mpe__record) + size, 8);
}

/* The record at a position, which becomes 0 when the ring continues there. */
static inline struct mpe__record *
mpe__record_at(struct mpe__segment *s, uint64_t *position)
{
    if (s->capacity - *position < sizeof(struct mpe__record) ||
        ((struct mpe__record *)(s->data + *position))->size == MPE__RECORD_WRAP)
        *position = 0;
    return (struct mpe__record *)(s->data + *position);
}

static inline int
mpe__queue_is_full(const struct mpe__queue *q)
{
    return q->max_items && mpe__load32(&q->put_count) - mpe__load32(&q->get_count) >= q->max_items;
}

/* queue_wake.c. Wakes a consumer, unless one is being woken. */
void mpe__queue_wake(mpe_engine *e, mpe_object *o);
/* This process was woken, and is about to check: wakes the next if there is more than one
 * message. */
void mpe__queue_awake(mpe_engine *e, mpe_object *o);
/* This process is awake, or waits no longer: clears its name. The queue is checked after it. */
void mpe__queue_leave(mpe_engine *e, mpe_object *o);
/* No process is being woken any more. */
void mpe__queue_wake_none(struct mpe__queue *q);

/* queue_walk.c: moves of the kind. */
void mpe__queue_destroy(mpe_engine *e, mpe_object *o);
void mpe__queue_scan(mpe_engine *e, mpe_object *o, int (*visit)(void *ud, uint64_t h), void *ud);
void mpe__queue_measure(mpe_engine *e, mpe_object *o, uint64_t *depth, uint64_t *bytes);

/* queue_join.c. Counts the message named by the lease of a slot as taken. Head lock held. */
void mpe__queue_count_taken(struct mpe__taken *t);
/* Recovery, on behalf of the dead owner of the head lock: counts the message it had taken but
 * not yet counted. */
void mpe__queue_settle_lease(struct mpe__taken *t, uint32_t got);

#endif
