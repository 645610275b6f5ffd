/* Queues: a chain of segments, each a byte ring with two cursors. Producers share the tail lock,
 * consumers the head lock, and they never touch each other's. A ring that is full gets a successor
 * of twice the size; the consumers free it when they have emptied it. Large messages lie in a
 * block of their own, and the ring holds its offset.
 *
 * put: copy the record behind the tail, store the tail (commit). get: copy the record at the head
 * out, store the head (commit). So whatever dies before the store has done nothing, and after it
 * the message is there, whole, or gone; put_count, raised before the commit, and get_count, raised
 * after it, are recomputed by recovery. A block
 * of a large message changes owner by the operation record of its commit (sync/death.c).
 *
 * Retiring a segment takes head lock, then tail lock: the chain's last segment may still be named
 * by a producer that died after linking its successor, which recovery of the tail lock mends.
 *
 * A joinable queue counts per slot what was taken and not done; what a dead process had taken
 * counts as done, so that join ends. What is unfinished is derived from these counts, so each step
 * is one store: taking, done, death. The lease written before the commit tells recovery of the head
 * lock whether the last message had been taken but not counted.
 */
#include "shm/queue.h"

#include "shm/arena.h"
#include "shm/object.h"
#include "sync/bell.h"
#include "sync/death.h"
#include "sync/ilock.h"

#include <string.h>

#define INLINE_MAX MPE_MESSAGE_SMALL
#define FIRST_BYTES 4096u /* block of a first segment */
#define LARGEST_BYTES (1u << 18)
#define WRAP UINT32_MAX /* size of the record that says: go on at position 0 */
#define OUT_OF_LINE 1u  /* flags of a record */
#define HANDLES 2u

struct record {
    uint32_t size;
    uint32_t flags;
    uint8_t bytes[]; /* or the offset of a block */
};

static struct mpe__queue *
body(mpe_engine *e, const mpe_object *o)
{
    return mpe__body(e, o);
}

static struct mpe__segment *
segment_at(mpe_engine *e, const mpe__a64 *link)
{
    return mpe__at(e, mpe__load64(link));
}

static uint32_t
position(uint64_t cursor)
{
    return (uint32_t)cursor;
}

static uint32_t
number(uint64_t cursor)
{
    return (uint32_t)(cursor >> 32);
}

static uint64_t
cursor(uint64_t position, uint32_t number)
{
    return (uint64_t)number << 32 | position;
}

static uint64_t
record_bytes(uint64_t size)
{
    return mpe__round_up(sizeof(struct record) + size, 8);
}

/* ---- making ---- */

/* A new empty segment in flight whose cursors stand at number. */
static int
new_segment(mpe_engine *e, uint64_t bytes, uint32_t n, uint64_t *off)
{
    int rc = mpe__alloc(e, bytes, off);
    if (rc != MPE_OK)
        return rc;
    struct mpe__segment *s = mpe__at(e, *off);
    s->capacity = (mpe__block_bytes(e, *off) - sizeof *s) & ~7ull;
    mpe__store64(&s->next, 0);
    mpe__store64(&s->tail, cursor(0, n));
    mpe__store64(&s->head, cursor(0, n));
    return MPE_OK;
}

int
mpe_queue_create(mpe_engine *e, uint32_t max_items, unsigned flags, mpe_object **out)
{
    mpe_object *o;
    int joinable = (flags & MPE_QUEUE_JOINABLE) != 0,
        kind = joinable ? MPE_KIND_JOINABLE : MPE_KIND_QUEUE;
    uint64_t off, taken = joinable ? MPE__SLOTS * sizeof(struct mpe__taken) : 0;
    int rc = mpe__object_begin_with_body(e, kind, sizeof(struct mpe__queue) + taken, &o);
    if (rc != MPE_OK)
        return rc;
    if ((rc = new_segment(e, FIRST_BYTES, 0, &off)) != MPE_OK) {
        mpe__object_abandon(e, o);
        return rc;
    }
    mpe__attach(e, off, mpe__index_of(e, o));
    struct mpe__queue *q = body(e, o);
    q->max_items = max_items;
    q->flags = flags;
    mpe__store64(&q->head_segment, off);
    mpe__store64(&q->tail_segment, off);
    return mpe__object_finish(e, o, out);
}

/* ---- waking consumers ----
 *
 * Waking a sleeper takes longer than a short message is worth. So one is woken at a time: `called`
 * names it, and while it is on its way, asleep with the bell rung, nobody else is called. When it
 * arrives it answers, and calls the next if there is more than one message (loop/waiter.c).
 *
 * A message put while one is on its way is not lost: the bell was seen rung after the message had
 * been put, so who takes the bell afterwards sees the message. `called` is never out of date: it
 * changes by compare-and-swap with a version, and a process that has arrived, or leaves by itself,
 * raises the version; so when the swap succeeds the slot's bit was still there, and when the bit is
 * gone the slot was woken and has not answered. Who dies between swap and ring leaves the bit, or a
 * broadcast to come, and may have named one that has left meanwhile, and will not come; so after any
 * death the reaper clears the name before the broadcast. One that is stopped delays the others by
 * no more than CALL_NS of puts.
 */

#define CALL_NS 100000u

static uint64_t
name_called(uint64_t before, uint32_t who)
{
    return ((before >> 32) + 1) << 32 | who;
}

static int
is_coming(mpe_engine *e, mpe_object *o, const struct mpe__queue *q, uint64_t called)
{
    uint32_t who = (uint32_t)called;
    if (who == 0 || who > MPE__SLOTS || mpe__set_has(&o->waiters[MPE_EVENT_READY], who - 1))
        return 0;
    uint32_t sleep = atomic_load(&e->slots[who - 1].sleep);
    return (sleep == MPE__IN_FUTEX || sleep == MPE__RUNG) &&
           atomic_load(&e->slots[who - 1].bell) >> mpe__bucket(mpe__index_of(e, o)) & 1 &&
           mpe_now() - mpe__load64(&q->called_ns) < CALL_NS;
}

/* Who became idle last: it may still spin, and its memory is in the cache. */
void
mpe__queue_call(mpe_engine *e, mpe_object *o)
{
    struct mpe__queue *q = body(e, o);
    while (mpe__has_waiters(e, o, MPE_EVENT_READY)) {
        uint64_t called = atomic_load(&q->called);
        if (is_coming(e, o, q, called))
            return;
        int slot = mpe__set_next(&o->waiters[MPE_EVENT_READY], mpe__load32(&q->last_idle));
        if (slot < 0)
            return;
        uint64_t mine = name_called(called, (uint32_t)slot + 1);
        if (!atomic_compare_exchange_strong(&q->called, &called, mine))
            continue;
        mpe__store64(&q->called_ns, mpe_now());
        if (mpe__set_remove(&o->waiters[MPE_EVENT_READY], (uint32_t)slot)) {
            mpe__ring(e, (uint32_t)slot, 1u << mpe__bucket(mpe__index_of(e, o)));
            return;
        }
        atomic_compare_exchange_strong(&q->called, &mine, name_called(mine, 0));
    }
}

void
mpe__queue_answer(mpe_engine *e, mpe_object *o)
{
    struct mpe__queue *q = body(e, o);
    uint64_t called = atomic_load(&q->called);
    uint32_t who;
    do
        who = (uint32_t)called == e->slot + 1 ? 0 : (uint32_t)called;
    while (!atomic_compare_exchange_weak(&q->called, &called, name_called(called, who)));
    mpe__fence(); /* then the queue is looked at */
}

static void
call_nobody(struct mpe__queue *q)
{
    uint64_t called = atomic_load(&q->called);
    while (!atomic_compare_exchange_weak(&q->called, &called, name_called(called, 0)))
        ;
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

/* Where a record of bytes may be written: its position, or -1 when the ring has no room. Without
 * messages the whole ring is free, but the cursors stay where they are. */
static int64_t
find_room(const struct mpe__segment *s, uint64_t bytes)
{
    uint64_t tail = mpe__load64(&s->tail), head = mpe__load64(&s->head);
    uint32_t t = position(tail), h = position(head);
    int empty = number(tail) == number(head);
    if (t > h || (t == h && empty)) {
        if (s->capacity - t >= bytes)
            return t;
        return (empty ? t : h) > bytes ? 0 : (int64_t)-1; /* strictly: t == h means empty or full */
    }
    return h - t > bytes ? (int64_t)t : -1;
}

/* Links a successor behind the last segment. Tail lock held. */
static int
add_segment(mpe_engine *e, mpe_object *o, struct mpe__queue *q, uint64_t need)
{
    struct mpe__segment *last = segment_at(e, &q->tail_segment);
    uint64_t off, bytes = 2 * mpe__block_bytes(e, mpe__load64(&q->tail_segment));
    if (bytes > LARGEST_BYTES)
        bytes = LARGEST_BYTES;
    while (bytes < sizeof *last + 4 * need)
        bytes *= 2;
    int rc = new_segment(e, bytes, number(mpe__load64(&last->tail)), &off);
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
    uint64_t bytes = record_bytes(block ? sizeof block : size);
    struct mpe__segment *s = segment_at(e, &q->tail_segment);
    int64_t at = find_room(s, bytes);
    if (at < 0) {
        int rc = add_segment(e, o, q, bytes);
        if (rc != MPE_OK)
            return rc;
        s = segment_at(e, &q->tail_segment);
        at = find_room(s, bytes);
    }
    uint64_t tail = mpe__load64(&s->tail);
    if (at == 0 && position(tail) != 0 && s->capacity - position(tail) >= sizeof(struct record))
        ((struct record *)(s->data + position(tail)))->size = WRAP;
    struct record *r = (struct record *)(s->data + at);
    r->size = (uint32_t)size;
    r->flags = flags;
    if (block)
        memcpy(r->bytes, &block, sizeof block);
    else
        copy_parts(r->bytes, parts, count);
    uint64_t next = cursor((uint64_t)at + bytes, number(tail) + 1);
    mpe__store32(&q->put_count, number(next));
    if (block) {
        struct mpe__change c = {.object = o, .link = &s->tail, .value = next, .new_block = {block}};
        mpe__commit_change(e, &c);
    } else {
        mpe__store64(&s->tail, next);
    }
    return MPE_OK;
}

static int
is_full(const struct mpe__queue *q)
{
    return q->max_items && mpe__load32(&q->put_count) - mpe__load32(&q->get_count) >= q->max_items;
}

static int
put_locked(mpe_engine *e, mpe_object *o, const mpe_bytes *parts, int count, uint64_t size,
           uint64_t block, uint32_t flags)
{
    struct mpe__queue *q = body(e, o);
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
    uint64_t size = 0, block = 0;
    uint32_t flags = handles ? HANDLES : 0;
    struct mpe__queue *q = body(e, o);
    for (int i = 0; i < count; i++)
        size += parts[i].size;
    if (size > INLINE_MAX && (mpe__load32(&q->closed) || is_full(q)))
        return mpe__load32(&q->closed) ? MPE_ECLOSED : MPE_EAGAIN; /* spare the copy */
    if (size >= WRAP)
        return MPE_EARENA;
    for (int i = 0; handles && i < count; i++)
        mpe__note_stored(e, o, parts[i].data, parts[i].size);
    if (size > INLINE_MAX) {
        int rc = mpe__alloc(e, size, &block);
        if (rc != MPE_OK)
            return rc;
        copy_parts(mpe__at(e, block), parts, count);
        flags |= OUT_OF_LINE;
    }
    int rc = put_locked(e, o, parts, count, size, block, flags);
    if (rc == MPE_OK)
        mpe__queue_call(e, o);
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
static struct record *
first_record(mpe_engine *e, mpe_object *o, struct mpe__queue *q, struct mpe__segment **segment,
             uint64_t *at)
{
    for (;;) {
        struct mpe__segment *s = segment_at(e, &q->head_segment);
        uint64_t next = mpe__load64(&s->next); /* before the tail: after it, none is put here */
        uint64_t head = mpe__load64(&s->head), tail = mpe__load64(&s->tail);
        if (number(head) != number(tail)) {
            uint64_t p = position(head);
            if (s->capacity - p < sizeof(struct record) ||
                ((struct record *)(s->data + p))->size == WRAP)
                p = 0;
            *segment = s;
            *at = p;
            return (struct record *)(s->data + p);
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

/* Others may count one of the slot's messages as done at the same time. Head lock held. */
static void
count_taken(struct mpe__taken *t)
{
    uint64_t seen = mpe__load64(&t->counted), lease = (uint32_t)mpe__load64(&t->lease);
    while (!atomic_compare_exchange_weak(&t->counted, &seen, ((seen >> 32) + 1) << 32 | lease))
        ;
}

/* Copies the first message out and commits. Head lock held. */
static int
take_first(mpe_engine *e, mpe_object *o, struct mpe__queue *q, mpe__a64 *lease, mpe_message *m)
{
    struct mpe__segment *s;
    uint64_t at;
    int closed = mpe__load32(&q->closed) != 0; /* first: nothing is put after it */
    struct record *r = first_record(e, o, q, &s, &at);
    if (!r)
        return closed ? MPE_ECLOSED : MPE_EAGAIN;
    uint64_t head = mpe__load64(&s->head), block = 0;
    uint32_t size = r->size, flags = r->flags;
    if (flags & OUT_OF_LINE)
        memcpy(&block, r->bytes, sizeof block);
    else if (size > INLINE_MAX || at + record_bytes(size) > s->capacity)
        return MPE_ECORRUPT;
    else
        memcpy(m->small, r->bytes, size);
    m->data = block ? mpe__at(e, block) : m->small;
    m->size = size;
    m->block = block;
    m->seq = number(head);
    if (flags & HANDLES)
        mpe__pin_handles(e, m->data, size);
    note_lease(e, q, lease, number(head));
    uint64_t bytes = record_bytes(block ? sizeof block : size);
    uint64_t next = cursor(at + bytes, number(head) + 1);
    if (block) {
        struct mpe__change c = {.object = o, .link = &s->head, .value = next, .taken = block};
        mpe__commit_change(e, &c);
    } else {
        mpe__store64(&s->head, next);
    }
    if (q->flags & MPE_QUEUE_JOINABLE)
        count_taken(&q->taken[e->slot]);
    mpe__store32(&q->get_count, number(next));
    return MPE_OK;
}

int
mpe_queue_get_leased(mpe_engine *e, mpe_object *o, uint64_t *lease, mpe_message *out)
{
    struct mpe__queue *q = body(e, o);
    if (mpe__load32(&q->put_count) == mpe__load32(&q->get_count) && !mpe__load32(&q->closed)) {
        if (mpe__load32(&q->last_idle) != e->slot)
            mpe__store32(&q->last_idle, e->slot);
        return MPE_EAGAIN;
    }
    out->pins = mpe_pin_mark(e);
    mpe__ilock(e, &q->head_lock, mpe__index_of(e, o));
    int rc = take_first(e, o, q, (mpe__a64 *)lease, out);
    mpe__iunlock(e, &q->head_lock);
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
    mpe_unpin(e, m->pins);
    if (m->block)
        mpe__free(e, m->block);
    m->block = 0;
}

/* ---- state ---- */

uint32_t
mpe_queue_size(mpe_engine *e, mpe_object *o)
{
    struct mpe__queue *q = body(e, o);
    uint32_t got = mpe__load32(&q->get_count); /* first, or it may look negative */
    return mpe__load32(&q->put_count) - got;
}

uint32_t
mpe_queue_bound(mpe_engine *e, mpe_object *o)
{
    return body(e, o)->max_items;
}

void
mpe_queue_seqs(mpe_engine *e, mpe_object *o, uint32_t *put_seq, uint32_t *get_seq)
{
    *get_seq = mpe__load32(&body(e, o)->get_count);
    *put_seq = mpe__load32(&body(e, o)->put_count);
}

int
mpe_queue_is_closed(mpe_engine *e, mpe_object *o)
{
    return mpe__load32(&body(e, o)->closed) != 0;
}

void
mpe_queue_close(mpe_engine *e, mpe_object *o)
{
    struct mpe__queue *q = body(e, o);
    mpe__ilock(e, &q->tail_lock, mpe__index_of(e, o));
    mpe__store32(&q->closed, 1);
    mpe__iunlock(e, &q->tail_lock);
    mpe__wake_all(e, o, MPE_EVENT_READY);
    mpe__wake_all(e, o, MPE_EVENT_SPACE);
}

/* ---- joinable ---- */

/* Messages put and not done. May be too high while others work, never too low: what is got is
 * counted before get_count is raised, and put_count is read last. */
static uint32_t
unfinished(mpe_engine *e, const struct mpe__queue *q)
{
    uint32_t got = mpe__load32(&q->get_count), taken = 0, top = mpe__load32(&e->header->slots_top);
    for (uint32_t i = 0; i < top; i++)
        taken += (uint32_t)(mpe__load64(&q->taken[i].counted) >> 32);
    return taken - mpe__load32(&q->early) - got + mpe__load32(&q->put_count);
}

/* Ends one hold of a taken message, by preference the caller's own. ilock held. */
static void
count_done(mpe_engine *e, struct mpe__queue *q)
{
    uint32_t top = mpe__load32(&e->header->slots_top);
    for (uint32_t k = 0; k < top; k++) {
        mpe__a64 *counted = &q->taken[(e->slot + k) % top].counted;
        uint64_t seen = mpe__load64(counted);
        while (seen >> 32)
            if (atomic_compare_exchange_weak(counted, &seen, seen - (1ull << 32)))
                return;
    }
    mpe__store32(&q->early, mpe__load32(&q->early) + 1);
}

int
mpe_queue_task_done(mpe_engine *e, mpe_object *o)
{
    struct mpe__queue *q = body(e, o);
    if (!(q->flags & MPE_QUEUE_JOINABLE))
        return MPE_EINVAL;
    mpe__ilock(e, &o->ilock, mpe__index_of(e, o));
    int rc = unfinished(e, q) == 0 ? MPE_EOVER : MPE_OK;
    if (rc == MPE_OK)
        count_done(e, q);
    int ended = unfinished(e, q) == 0;
    mpe__iunlock(e, &o->ilock);
    if (ended)
        mpe__wake_all(e, o, MPE_EVENT_DONE);
    return rc;
}

int
mpe_queue_join(mpe_engine *e, mpe_object *o)
{
    struct mpe__queue *q = body(e, o);
    if (!(q->flags & MPE_QUEUE_JOINABLE))
        return MPE_EINVAL;
    return unfinished(e, q) == 0 ? MPE_OK : MPE_EAGAIN;
}

/* ---- hooks ---- */

/* Counts the message that the dead owner of the head lock had taken and not counted. */
static void
settle_lease(struct mpe__taken *t, uint32_t got)
{
    uint32_t lease = (uint32_t)mpe__load64(&t->lease);
    uint32_t last = (uint32_t)mpe__load64(&t->counted);
    if (mpe__load64(&t->lease) == 0 || lease == last)
        return;
    if ((int32_t)(got - lease) >= 0)
        count_taken(t);
}

void
mpe__queue_recover(mpe_engine *e, mpe_object *o, uint64_t lock_off)
{
    struct mpe__queue *q = body(e, o);
    if (mpe__at(e, lock_off) == (void *)&q->tail_lock) {
        struct mpe__segment *s = segment_at(e, &q->tail_segment);
        while (mpe__load64(&s->next)) {
            mpe__store64(&q->tail_segment, mpe__load64(&s->next));
            s = segment_at(e, &q->tail_segment);
        }
        mpe__store32(&q->put_count, number(mpe__load64(&s->tail)));
    } else if (mpe__at(e, lock_off) == (void *)&q->head_lock) {
        struct mpe__segment *s = segment_at(e, &q->head_segment);
        uint32_t got = number(mpe__load64(&s->head));
        if (q->flags & MPE_QUEUE_JOINABLE)
            settle_lease(&q->taken[mpe__ilock_owner(mpe__load32(&q->head_lock))], got);
        mpe__store32(&q->get_count, got);
    }
}

void
mpe__queue_death(mpe_engine *e, mpe_object *o, uint32_t slot)
{
    struct mpe__queue *q = body(e, o);
    call_nobody(q);
    if (!(q->flags & MPE_QUEUE_JOINABLE))
        return;
    mpe__ilock(e, &o->ilock, mpe__index_of(e, o));
    mpe__store64(&q->taken[slot].counted, 0);
    mpe__store64(&q->taken[slot].lease, 0);
    int ended = unfinished(e, q) == 0;
    mpe__iunlock(e, &o->ilock);
    if (ended)
        mpe__wake_all(e, o, MPE_EVENT_DONE);
}

int
mpe__queue_ready(mpe_engine *e, mpe_object *o, int event)
{
    struct mpe__queue *q = body(e, o);
    mpe__fence();
    if (event == MPE_EVENT_DONE)
        return mpe_queue_join(e, o) != MPE_EAGAIN;
    if (mpe__load32(&q->closed))
        return 1;
    return event == MPE_EVENT_READY ? mpe_queue_size(e, o) != 0 : !is_full(q);
}

/* Calls f for every record that lies in the queue. Nobody else may use it meanwhile. */
static void
each_record(mpe_engine *e, mpe_object *o, void (*f)(mpe_engine *e, struct record *r, void *ud),
            void *ud)
{
    struct mpe__queue *q = body(e, o);
    for (uint64_t off = mpe__load64(&q->head_segment); off;) {
        struct mpe__segment *s = mpe__at(e, off);
        uint64_t head = mpe__load64(&s->head), tail = mpe__load64(&s->tail), p = position(head);
        for (uint32_t n = number(head); n != number(tail); n++) {
            if (s->capacity - p < sizeof(struct record) ||
                ((struct record *)(s->data + p))->size == WRAP)
                p = 0;
            struct record *r = (struct record *)(s->data + p);
            f(e, r, ud);
            p += record_bytes(r->flags & OUT_OF_LINE ? sizeof(uint64_t) : r->size);
        }
        off = mpe__load64(&s->next);
    }
}

static uint64_t
block_of(const struct record *r)
{
    uint64_t block = 0;
    if (r->flags & OUT_OF_LINE)
        memcpy(&block, r->bytes, sizeof block);
    return block;
}

static void
free_record(mpe_engine *e, struct record *r, void *ud)
{
    (void)ud;
    if (block_of(r))
        mpe__free(e, block_of(r));
}

void
mpe__queue_destroy(mpe_engine *e, mpe_object *o)
{
    each_record(e, o, free_record, NULL);
    for (uint64_t off = mpe__load64(&body(e, o)->head_segment); off;) {
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
scan_record(mpe_engine *e, struct record *r, void *ud)
{
    struct scan *s = ud;
    if (r->flags & HANDLES)
        mpe_wire_scan_handles(block_of(r) ? mpe__at(e, block_of(r)) : r->bytes, r->size, s->visit,
                              s->ud);
}

void
mpe__queue_scan(mpe_engine *e, mpe_object *o, int (*visit)(void *ud, uint64_t h), void *ud)
{
    struct mpe__queue *q = body(e, o);
    struct scan s = {visit, ud};
    mpe__ilock(e, &q->head_lock, mpe__index_of(e, o));
    mpe__ilock(e, &q->tail_lock, mpe__index_of(e, o));
    each_record(e, o, scan_record, &s);
    mpe__iunlock(e, &q->tail_lock);
    mpe__iunlock(e, &q->head_lock);
}

static void
add_block(mpe_engine *e, struct record *r, void *ud)
{
    if (block_of(r))
        *(uint64_t *)ud += mpe__block_bytes(e, block_of(r));
}

void
mpe__queue_measure(mpe_engine *e, mpe_object *o, uint64_t *depth, uint64_t *bytes)
{
    struct mpe__queue *q = body(e, o);
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
