/* The body of a queue. */
#ifndef MPE_OBJECTS_QUEUE_H
#define MPE_OBJECTS_QUEUE_H

#include "core/engine.h"

/* Each side has cache lines of its own: the fields it writes for every message, and the last
 * value it read of the other side's, which it reads again only when that is not sufficient. A
 * value read earlier is a bound, since cursors and counts only grow, so it may be arbitrarily
 * old.
 *
 * A cursor: byte position in its segment in the low half, number of messages ever in the high. */
struct mpe__segment {
    mpe__a64 next;     /* offset of the segment after this one; set once, under the tail lock */
    uint64_t capacity; /* bytes of data */
    _Alignas(64) mpe__a64 tail; /* cursor; tail lock */
    uint64_t head_seen;         /* tail lock */
    _Alignas(64) mpe__a64 head; /* cursor; head lock */
    uint64_t tail_seen;         /* head lock */
    _Alignas(64) uint8_t data[];
};

struct mpe__queue {
    mpe__a32 closed;                 /* tail lock */
    uint32_t max_items;              /* 0: no bound */
    uint32_t flags;                  /* MPE_QUEUE_... */
    _Alignas(64) mpe__a32 tail_lock; /* intent lock of producers */
    mpe__a32 put_count;    /* derived from the last segment's tail; raised before it, so that no
                            * message seems to be taken before it was put */
    uint32_t got_seen;     /* tail lock */
    mpe__a64 tail_segment; /* offset; tail lock (and head lock to retire a segment) */
    _Alignas(64) mpe__a32 head_lock; /* intent lock of consumers */
    mpe__a32 get_count;              /* derived from the first segment's head */
    mpe__a32 put_seen;               /* head lock */
    mpe__a64 head_segment;           /* offset; head lock */
    _Alignas(64) mpe__a64 waking;    /* time << 16 | slot + 1 of a consumer: queue_wake.c */
    mpe__a32 last_idle;              /* slot that found it empty last: a hint, woken next */
    _Alignas(64) mpe__a32 early; /* joinable: done without a taken message; the object's ilock */
    struct mpe__taken {
        mpe__a64 lease;   /* number + 1 of the message being taken; head lock */
        mpe__a64 counted; /* messages taken and not done << 32 | lease of the last one counted */
    } taken[];            /* joinable: per slot */
};

/* Moves of the kind. */
void mpe__queue_recover(mpe_engine *e, mpe_object *o, uint64_t lock_off);
void mpe__queue_death(mpe_engine *e, mpe_object *o, uint32_t slot);
#endif
