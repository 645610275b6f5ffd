/* Queues: a chain of segments, each a byte ring with two cursors. Producers share the tail lock,
 * consumers the head lock, and neither side touches the other's. A full ring gets a successor of
 * twice the size; the consumers free it when they have emptied it. Large messages are in a block
 * of their own, and the ring holds its offset.
 *
 * put: copy the record behind the tail, store the tail (commit). get: copy the record at the
 * head out, store the head (commit). So a death before the store has changed nothing; after it
 * the message is there, whole, or gone. put_count, raised before the commit, and get_count,
 * raised after it, are recomputed by recovery. A block of a large message changes owner by the
 * operation record of its commit (core/death.c).
 *
 * Retiring a segment takes the head lock, then the tail lock: the chain's last segment may still
 * be named by a producer that died after linking its successor, which recovery of the tail lock
 * repairs.
 *
 * Order: each cursor has one writer at a time, and its store publishes the record behind it, or the room
 * that a copied record leaves. put_count may be seen before the tail: a consumer that finds nothing yet then
 * looks again, for the producer wakes it after the tail.
 *
 * Related files: queue_wake.c wakes consumers, queue_join.c counts completed messages,
 * queue_walk.c walks through everything in a queue.
 */
#include "objects/queue_int.h"

#include "core/arena.h"
#include "core/bell.h"
#include "core/death.h"
#include "core/ilock.h"
#include "core/trace.h"
#include "objects/doors.h"

#include <string.h>

#define INLINE_MAX MPE_MESSAGE_SMALL
#define SHORT_BYTES 64u
#define FIRST_BYTES 4096u /* block of a first segment */
#define LARGEST_BYTES (1u << 18)

/* ---- making ---- */

/* A new empty segment in flight whose cursors start at number. */
static int
new_segment(mpe_engine *e, uint64_t bytes, uint32_t n, uint64_t *off)
{
    int rc = mpe__alloc(e, bytes, off);
    if (rc != MPE_OK)
        return rc;
    struct mpe__segment *s = mpe__at(e, *off);
    s->capacity = (mpe__block_bytes(e, *off) - sizeof *s) & ~7ull;
    mpe__store64(&s->next, 0);
    mpe__store64(&s->tail, mpe__cursor_of(0, n));
    mpe__store64(&s->head, mpe__cursor_of(0, n));
    s->tail_seen = s->head_seen = mpe__cursor_of(0, n);
    return MPE_OK;
}

int
mpe_queue_create(mpe_engine *e, uint32_t max_items, unsigned flags, mpe_object **out)
{
    if (!out)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    mpe_object *o;
    int joinable = (flags & MPE_QUEUE_JOINABLE) != 0,
        kind = joinable ? MPE_KIND_JOINABLE : MPE_KIND_QUEUE;
    uint64_t off, taken = joinable ? MPE__SLOTS * sizeof(struct mpe__taken) : 0;
    int rc = mpe__object_begin(e, kind, taken, &o);
    if (rc != MPE_OK)
        return rc;
    if ((rc = new_segment(e, FIRST_BYTES, 0, &off)) != MPE_OK) {
        mpe__object_abandon(e, o);
        return rc;
    }
    mpe__attach(e, off, mpe__index_of(e, o));
    struct mpe__queue *q = mpe__queue_body(e, o);
    q->max_items = max_items;
    q->flags = flags;
    mpe__store64(&q->head_segment, off);
    mpe__store64(&q->tail_segment, off);
    return mpe__object_finish(e, o, out);
}

/* ---- put ---- */

static void
copy_parts(uint8_t *to, const mpe_bytes *parts, int count)
{
    for (int i = 0; i < count; i++) {
        if (parts[i].size > 0)
            memcpy(to, parts[i].data, parts[i].size);
        to += parts[i].size;
    }
}

/* Where a record of bytes may be written, given the head: its position, or -1 when the ring has
 * no room. Without messages the whole ring is free, but the cursors stay where they are. */
static int64_t
room_behind(const struct mpe__segment *s, uint64_t head, uint64_t bytes)
{
    uint64_t tail = mpe__load64(&s->tail);
    uint32_t t = mpe__cursor_position(tail), h = mpe__cursor_position(head);
    int empty = mpe__cursor_number(tail) == mpe__cursor_number(head);
    if (t > h || (t == h && empty)) {
        if (s->capacity - t >= bytes)
            return t;
        return (empty ? t : h) > bytes ? 0 : (int64_t)-1; /* strictly: t == h means empty or full */
    }
    return h - t > bytes ? (int64_t)t : -1;
}

static int64_t
find_room(struct mpe__segment *s, uint64_t bytes)
{
    int64_t at = room_behind(s, s->head_seen, bytes);
    if (at >= 0)
        return at;
    s->head_seen = mpe__load64(&s->head);
    return room_behind(s, s->head_seen, bytes);
}

/* Links a successor behind the last segment. Tail lock held. */
static int
add_segment(mpe_engine *e, mpe_object *o, struct mpe__queue *q, uint64_t need)
{
    struct mpe__segment *last = mpe__segment_at(e, &q->tail_segment);
    uint64_t off, bytes = 2 * mpe__block_bytes(e, mpe__load64(&q->tail_segment));
    if (bytes > LARGEST_BYTES)
        bytes = LARGEST_BYTES;
    while (bytes < sizeof *last + 4 * need)
        bytes *= 2;
    int rc = new_segment(e, bytes, mpe__cursor_number(mpe__load64(&last->tail)), &off);
    if (rc != MPE_OK)
        return rc;
    struct mpe__change c = {.object = o, .link = &last->next, .value = off, .new_block = {off}};
    mpe__commit_change(e, &c);
    mpe__store64(&q->tail_segment, off);
    return MPE_OK;
}

/* Appends a record; for an out-of-line one block is its offset. Tail lock held. */
static int
append(mpe_engine *e, mpe_object *o, struct mpe__queue *q, const mpe_bytes *parts, int count,
       uint64_t size, uint64_t block, uint32_t flags)
{
    uint64_t bytes = mpe__record_bytes(block ? sizeof block : size);
    struct mpe__segment *s = mpe__segment_at(e, &q->tail_segment);
    int64_t at = find_room(s, bytes);
    if (at < 0) {
        int rc = add_segment(e, o, q, bytes);
        if (rc != MPE_OK)
            return rc;
        s = mpe__segment_at(e, &q->tail_segment);
        at = find_room(s, bytes);
    }
    uint64_t tail = mpe__load64(&s->tail);
    if (at == 0 && mpe__cursor_position(tail) != 0 &&
        s->capacity - mpe__cursor_position(tail) >= sizeof(struct mpe__record))
        ((struct mpe__record *)(s->data + mpe__cursor_position(tail)))->size = MPE__RECORD_WRAP;
    struct mpe__record *r = (struct mpe__record *)(s->data + at);
    r->size = (uint32_t)size;
    r->flags = flags;
    if (block)
        memcpy(r->bytes, &block, sizeof block);
    else
        copy_parts(r->bytes, parts, count);
    uint64_t next = mpe__cursor_of((uint64_t)at + bytes, mpe__cursor_number(tail) + 1);
    mpe__trace(e, MPE_TRACE_PUT, mpe__cursor_number(tail), o); /* before a consumer sees it */
    mpe__store32(&q->put_count, mpe__cursor_number(next));
    if (block) {
        struct mpe__change c = {.object = o, .link = &s->tail, .value = next, .new_block = {block}};
        mpe__commit_change(e, &c);
    } else {
        mpe__store64(&s->tail, next);
    }
    return MPE_OK;
}

/* Tail lock held. */
static int
is_full(struct mpe__queue *q)
{
    uint32_t put = mpe__load32(&q->put_count);
    if (q->max_items == 0 || put - q->got_seen < q->max_items)
        return 0;
    q->got_seen = mpe__load32(&q->get_count);
    return put - q->got_seen >= q->max_items;
}

static int
put_locked(mpe_engine *e, mpe_object *o, const mpe_bytes *parts, int count, uint64_t size,
           uint64_t block, uint32_t flags)
{
    struct mpe__queue *q = mpe__queue_body(e, o);
    mpe__ilock(e, &q->tail_lock, mpe__index_of(e, o));
    int rc = mpe__load32(&q->closed) ? MPE_ECLOSED
             : is_full(q)            ? MPE_EAGAIN
                                     : append(e, o, q, parts, count, size, block, flags);
    mpe__iunlock(e, &q->tail_lock);
    return rc;
}

int
mpe_queue_put(mpe_engine *e, mpe_object *o, const mpe_bytes *parts, int count, int handles)
{
    if (count < 0 || (count > 0 && !parts))
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__QUEUES))
        return mpe__refusal(e, o, MPE__QUEUES);
    uint64_t size = 0, block = 0;
    uint32_t flags = handles ? MPE__RECORD_HANDLES : 0;
    struct mpe__queue *q = mpe__queue_body(e, o);
    for (int i = 0; i < count; i++) {
        if (mpe__lacks(parts[i]))
            return MPE_EINVAL;
        size += parts[i].size;
    }
    if (size > INLINE_MAX && (mpe__load32(&q->closed) || mpe__queue_is_full(q)))
        return mpe__load32(&q->closed) ? MPE_ECLOSED : MPE_EAGAIN; /* saves the copy */
    if (size >= MPE__RECORD_WRAP)
        return MPE_EARENA;
    for (int i = 0; handles && i < count; i++)
        if (mpe__note_stored(e, o, parts[i].data, parts[i].size) != MPE_OK)
            return MPE_ECORRUPT;
    if (size > INLINE_MAX) {
        int rc = mpe__alloc(e, size, &block);
        if (rc != MPE_OK)
            return rc;
        copy_parts(mpe__at(e, block), parts, count);
        flags |= MPE__RECORD_OUT_OF_LINE;
    }
    int rc = put_locked(e, o, parts, count, size, block, flags);
    if (rc == MPE_OK)
        mpe__queue_wake(e, o);
    else if (block)
        mpe__free(e, block);
    return rc;
}

/* ---- get ---- */

/* Leaves an emptied segment for its successor. Head lock held. */
static void
retire_segment(mpe_engine *e, mpe_object *o, struct mpe__queue *q, uint64_t next)
{
    uint64_t old = mpe__load64(&q->head_segment);
    mpe__ilock(e, &q->tail_lock, mpe__index_of(e, o));
    struct mpe__change c = {
        .object = o, .link = &q->head_segment, .value = next, .old_block = {old}};
    mpe__commit_change(e, &c);
    mpe__iunlock(e, &q->tail_lock);
}

/* The first record, moving on to later segments; NULL when there is none. Head lock held. */
static struct mpe__record *
first_record(mpe_engine *e, mpe_object *o, struct mpe__queue *q, struct mpe__segment **segment,
             uint64_t *at)
{
    for (;;) {
        struct mpe__segment *s = mpe__segment_at(e, &q->head_segment);
        uint64_t next = mpe__load64(&s->next); /* before the tail: after it, nothing is put here */
        uint64_t head = mpe__load64(&s->head);
        if (mpe__cursor_number(head) == mpe__cursor_number(s->tail_seen)) {
            s->tail_seen = mpe__load64(&s->tail);
            mpe__store32(&q->put_seen, mpe__cursor_number(s->tail_seen));
        }
        if (mpe__cursor_number(head) != mpe__cursor_number(s->tail_seen)) {
            *segment = s;
            *at = mpe__cursor_position(head);
            return mpe__record_at(s, at);
        }
        if (!next)
            return NULL;
        retire_segment(e, o, q, next);
    }
}

static void
note_lease(mpe_engine *e, struct mpe__queue *q, mpe__a64 *lease, uint32_t n)
{
    if (lease)
        mpe__store64(lease, (uint64_t)n + 1);
    if (q->flags & MPE_QUEUE_JOINABLE)
        mpe__store64(&q->taken[e->slot].lease, (uint64_t)n + 1);
}

/* Records are padded to whole words. A short one is copied by them: the copy loop that compilers make
 * of a memcpy of bounded size takes longer to begin. */
static void
copy_out(uint8_t *to, const struct mpe__record *r, uint32_t size)
{
    if (size > SHORT_BYTES) {
        memcpy(to, r->bytes, size);
        return;
    }
    for (uint32_t i = 0; i < size; i += 8)
        memcpy(to + i, r->bytes + i, 8);
}

/* Copies the first message out and commits. Head lock held. */
static int
take_first(mpe_engine *e, mpe_object *o, struct mpe__queue *q, mpe__a64 *lease, mpe_message *m)
{
    struct mpe__segment *s;
    uint64_t at;
    int closed = mpe__load32(&q->closed) != 0; /* first: nothing is put after it */
    struct mpe__record *r = first_record(e, o, q, &s, &at);
    if (!r)
        return closed ? MPE_ECLOSED : MPE_EAGAIN;
    uint64_t head = mpe__load64(&s->head), block = 0;
    uint32_t size = r->size, flags = r->flags;
    if (flags & MPE__RECORD_OUT_OF_LINE)
        memcpy(&block, r->bytes, sizeof block);
    else if (size > INLINE_MAX || at + mpe__record_bytes(size) > s->capacity)
        return MPE_ECORRUPT;
    else
        copy_out(m->small, r, size);
    m->data = block ? mpe__at(e, block) : m->small;
    m->size = size;
    m->block = block;
    m->seq = mpe__cursor_number(head);
    if (flags & MPE__RECORD_HANDLES)
        mpe__pin_handles(e, m->data, size);
    note_lease(e, q, lease, mpe__cursor_number(head));
    uint64_t bytes = mpe__record_bytes(block ? sizeof block : size);
    uint64_t next = mpe__cursor_of(at + bytes, mpe__cursor_number(head) + 1);
    if (block) {
        struct mpe__change c = {.object = o, .link = &s->head, .value = next, .taken = block};
        mpe__commit_change(e, &c);
    } else {
        mpe__store64(&s->head, next);
    }
    if (q->flags & MPE_QUEUE_JOINABLE)
        mpe__queue_count_taken(&q->taken[e->slot]);
    mpe__store32(&q->get_count, mpe__cursor_number(next));
    return MPE_OK;
}

static int
is_empty(struct mpe__queue *q)
{
    uint32_t got = mpe__load32(&q->get_count);
    return got == mpe__load32(&q->put_seen) && got == mpe__load32(&q->put_count);
}

int
mpe_queue_get_leased(mpe_engine *e, mpe_object *o, uint64_t *lease, mpe_message *out)
{
    if (!out)
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__QUEUES))
        return mpe__refusal(e, o, MPE__QUEUES);
    struct mpe__queue *q = mpe__queue_body(e, o);
    if (is_empty(q) && !mpe__load32(&q->closed)) {
        if (mpe__load32(&q->last_idle) != e->slot)
            mpe__store32(&q->last_idle, e->slot);
        return MPE_EAGAIN;
    }
    out->pins = mpe_pin_mark(e);
    mpe__ilock(e, &q->head_lock, mpe__index_of(e, o));
    int rc = take_first(e, o, q, (mpe__a64 *)lease, out);
    mpe__iunlock(e, &q->head_lock);
    if (rc == MPE_OK)
        mpe__trace(e, MPE_TRACE_GET, out->seq, o);
    if (rc == MPE_OK && q->max_items)
        mpe__wake_one(e, o, MPE_EVENT_SPACE);
    return rc;
}

int
mpe_queue_get(mpe_engine *e, mpe_object *o, mpe_message *out)
{
    return mpe_queue_get_leased(e, o, NULL, out);
}

void
mpe_message_free(mpe_engine *e, mpe_message *m)
{
    if (!m || !mpe__is_ours(e))
        return;
    mpe_unpin(e, m->pins);
    if (m->block)
        mpe__free(e, m->block);
    m->block = 0;
}

/* ---- state ---- */

uint32_t
mpe_queue_size(mpe_engine *e, mpe_object *o)
{
    if (!mpe__admits(e, o, MPE__QUEUES))
        return 0;
    struct mpe__queue *q = mpe__queue_body(e, o);
    uint32_t got = mpe__load32(&q->get_count); /* first, or it may look negative */
    return mpe__load32(&q->put_count) - got;
}

uint32_t
mpe_queue_bound(mpe_engine *e, mpe_object *o)
{
    if (!mpe__admits(e, o, MPE__QUEUES))
        return 0;
    return mpe__queue_body(e, o)->max_items;
}

void
mpe_queue_seqs(mpe_engine *e, mpe_object *o, uint32_t *put_seq, uint32_t *get_seq)
{
    if (!mpe__admits(e, o, MPE__QUEUES))
        return;
    if (get_seq)
        *get_seq = mpe__load32(&mpe__queue_body(e, o)->get_count);
    if (put_seq)
        *put_seq = mpe__load32(&mpe__queue_body(e, o)->put_count);
}

int
mpe_queue_is_closed(mpe_engine *e, mpe_object *o)
{
    if (!mpe__admits(e, o, MPE__QUEUES))
        return 0;
    return mpe__load32(&mpe__queue_body(e, o)->closed) != 0;
}

void
mpe_queue_close(mpe_engine *e, mpe_object *o)
{
    if (!mpe__admits(e, o, MPE__QUEUES))
        return;
    struct mpe__queue *q = mpe__queue_body(e, o);
    mpe__ilock(e, &q->tail_lock, mpe__index_of(e, o));
    if (!mpe__load32(&q->closed))
        mpe__trace_did(e, MPE_DID_CLOSE, 1, o);
    mpe__store32(&q->closed, 1);
    mpe__iunlock(e, &q->tail_lock);
    mpe__wake_all(e, o, MPE_EVENT_READY);
    mpe__wake_all(e, o, MPE_EVENT_SPACE);
}

static int
ready(mpe_engine *e, mpe_object *o, int event)
{
    struct mpe__queue *q = mpe__queue_body(e, o);
    mpe__fence();
    if (event == MPE_EVENT_DONE)
        return mpe_queue_join(e, o) != MPE_EAGAIN;
    if (mpe__load32(&q->closed))
        return 1;
    return event == MPE_EVENT_READY ? mpe_queue_size(e, o) != 0 : !mpe__queue_is_full(q);
}

/* ---- death ---- */

void
mpe__queue_recover(mpe_engine *e, mpe_object *o, uint64_t lock_off)
{
    struct mpe__queue *q = mpe__queue_body(e, o);
    if (mpe__at(e, lock_off) == (void *)&q->tail_lock) {
        struct mpe__segment *s = mpe__segment_at(e, &q->tail_segment);
        while (mpe__load64(&s->next)) {
            mpe__store64(&q->tail_segment, mpe__load64(&s->next));
            s = mpe__segment_at(e, &q->tail_segment);
        }
        mpe__store32(&q->put_count, mpe__cursor_number(mpe__load64(&s->tail)));
    } else if (mpe__at(e, lock_off) == (void *)&q->head_lock) {
        struct mpe__segment *s = mpe__segment_at(e, &q->head_segment);
        uint32_t got = mpe__cursor_number(mpe__load64(&s->head));
        if (q->flags & MPE_QUEUE_JOINABLE)
            mpe__queue_settle_lease(&q->taken[mpe__ilock_owner(mpe__load32(&q->head_lock))], got);
        mpe__store32(&q->get_count, got);
    }
}

const struct mpe__kind mpe__queue_kind = {
    .body_bytes = sizeof(struct mpe__queue),
    .recover = mpe__queue_recover,
    .death = mpe__queue_death,
    .ready = ready,
    .destroy = mpe__queue_destroy,
    .scan = mpe__queue_scan,
    .measure = mpe__queue_measure,
    .wake = {[MPE_EVENT_READY] = {.turn = MPE__TURN_ONE,
                                  .wake = mpe__queue_wake,
                                  .awake = mpe__queue_awake,
                                  .leave = mpe__queue_leave},
             [MPE_EVENT_SPACE] = {.turn = MPE__TURN_ONE},
             [MPE_EVENT_DONE] = {.turn = MPE__TURN_ALL}},
};
