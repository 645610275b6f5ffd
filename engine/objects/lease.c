/* SPDX-License-Identifier: MIT */
/* Leases: what each worker of a pool has taken and runs, which items are claimed, and the results
 * that are not sent yet. Plain words in raw arrays, without a lock: each word has one writer,
 * except RUN and the claim words, where a compare-and-swap or an exchange decides.
 *
 * A board is a raw array of 64-bit words. The first is the number of workers. From the ninth on,
 * each worker has eight:
 *
 *   LEASE   number + 1 of the task that it took last, stored before the task leaves the queue
 *   SINCE   when it took that task, or began the timed item that runs
 *   RUN     the item that runs: number + 1, the item, and the owner's flags STOP and DOOMED; 0
 *           between items. The worker ends an item by one exchange, so a flag meets the item that
 *           was meant or nothing, and a doomed worker begins no other item
 *   RETIRE  take no more tasks
 *   ITEMS, BUSY   the counters
 *   READY   the worker has started
 *   PID     its process, for readers
 *
 * Then each place has one: how many items of its task are claimed. RUN is stored before the claim,
 * so a claimed item is running or has run. The owner sets CLAIM_ALL, after which no claim succeeds.
 *
 *   store that commits    a death before it leaves           a death after it leaves
 *   head of the queue     the task, which LEASE may name     a task that LEASE names, none claimed
 *   claim of an item      an item for others                 an item that runs or has run
 *   RUN becomes 0         the same                           the same: it has no result
 *   published             the same                           its result, in the buffer
 *   put of the results    the results in the buffer          both; the owner drops the second copy
 *
 * Nothing is repaired here: the owner reads the words after the worker has exited, as mpengine.h
 * says, and clears them by mpe_lease_forget. No process reads them after the owner has exited. */
#include "base/defs.h"
#include "mpengine_core.h"
#include "objects/doors.h"
#include "objects/lease.h"

#include <string.h>
#include <unistd.h>

enum word { LEASE, SINCE, RUN, RETIRE, ITEMS, BUSY, READY, PID, WORDS = 8 };

#define CLAIM_ALL (1ull << 32)
#define ITEM_SHIFT 34 /* a number and 1 may be 2^32 */
#define STOP (1ull << 62)
#define DOOMED (1ull << 63)

static inline mpe__a64 *
word_of(const mpe_leases *b, uint64_t worker, enum word word)
{
    return (mpe__a64 *)&b->words[WORDS + WORDS * worker + word];
}

static inline mpe__a64 *
claims_of(const mpe_leases *b, uint64_t place)
{
    return (mpe__a64 *)&b->words[WORDS + WORDS * b->workers + place];
}

static inline uint64_t
run_of(uint32_t number, uint32_t item)
{
    return ((uint64_t)number + 1) | (uint64_t)item << ITEM_SHIFT;
}

/* ---- boards ---- */

int
mpe_lease_create(mpe_engine *e, uint32_t workers, uint32_t places, mpe_object **out)
{
    if (!out)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    char type;
    uint64_t length, *words;
    if (workers == 0 || places == 0)
        return MPE_EINVAL;
    int rc = mpe_array_create(e, 'Q', WORDS + (uint64_t)WORDS * workers + places, MPE_ARRAY_RAW,
                              out);
    if (rc != MPE_OK)
        return rc;
    words = mpe_array_data(e, *out, &type, &length);
    words[0] = workers; /* no other process has the board yet */
    atomic_fetch_or(&(*out)->flags, MPE__OBJECT_BOARD);
    return MPE_OK;
}

int
mpe_lease_board(mpe_engine *e, mpe_object *o, mpe_leases *out)
{
    if (!out)
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__ANY_KIND))
        return mpe__refusal(e, o, MPE__ANY_KIND);
    char type;
    uint64_t length;
    if (mpe_kind_of(o) != MPE_KIND_RAW_ARRAY)
        return MPE_EINVAL;
    uint64_t *words = mpe_array_data(e, o, &type, &length);
    if (type != 'Q' || length <= WORDS || words[0] == 0 || words[0] >= length / WORDS)
        return MPE_EINVAL;
    *out = (mpe_leases){words, words[0], length - WORDS - WORDS * words[0]};
    return MPE_OK;
}

/* ---- the owner ---- */

void
mpe_lease_offer(const mpe_leases *b, uint64_t place)
{
    mpe__store64(claims_of(b, place), 0);
}

uint32_t
mpe_lease_reclaim(const mpe_leases *b, uint64_t place)
{
    return (uint32_t)atomic_fetch_or(claims_of(b, place), CLAIM_ALL);
}

int
mpe_lease_taken(mpe_engine *e, const mpe_leases *b, uint64_t worker, mpe_object *queue,
                mpe_lease_run *out)
{
    if (!mpe__admits(e, queue, MPE__QUEUES))
        return mpe__refusal(e, queue, MPE__QUEUES);
    uint64_t lease = mpe__load64(word_of(b, worker, LEASE));
    uint32_t next, got;
    mpe_queue_seqs(e, queue, &next, &got);
    if (lease == 0 || (int32_t)(got - (uint32_t)lease) < 0)
        return MPE_ENOENT;
    *out = (mpe_lease_run){(uint32_t)(lease - 1), 0, mpe__load64(word_of(b, worker, SINCE))};
    return MPE_OK;
}

int
mpe_lease_running(const mpe_leases *b, uint64_t worker, mpe_lease_run *out)
{
    uint64_t run = mpe__load64(word_of(b, worker, RUN));
    if (run == 0)
        return MPE_ENOENT;
    *out = (mpe_lease_run){(uint32_t)(run - 1), (uint32_t)((run & ~(STOP | DOOMED)) >> ITEM_SHIFT),
                           mpe__load64(word_of(b, worker, SINCE))};
    return MPE_OK;
}

/* Adds a flag to the item that runs, which has the flags `before`. */
static int
mark(const mpe_leases *b, uint64_t worker, uint64_t run, uint64_t before, uint64_t flag)
{
    run |= before;
    return atomic_compare_exchange_strong(word_of(b, worker, RUN), &run, run | flag) ? MPE_OK
                                                                                     : MPE_ENOENT;
}

int
mpe_lease_stop(const mpe_leases *b, uint64_t worker, uint32_t number, uint32_t item)
{
    return mark(b, worker, run_of(number, item), 0, STOP);
}

int
mpe_lease_doom(const mpe_leases *b, uint64_t worker, uint32_t number, uint32_t item)
{
    return mark(b, worker, run_of(number, item), STOP, DOOMED);
}

void
mpe_lease_retire(const mpe_leases *b, uint64_t worker)
{
    mpe__store64(word_of(b, worker, RETIRE), 1);
}

int
mpe_lease_is_ready(const mpe_leases *b, uint64_t worker)
{
    return mpe__load64(word_of(b, worker, READY)) != 0;
}

void
mpe_lease_counts(const mpe_leases *b, uint64_t worker, uint64_t *items, uint64_t *busy_ns)
{
    *items = mpe__load64(word_of(b, worker, ITEMS));
    *busy_ns = mpe__load64(word_of(b, worker, BUSY));
}

/* ---- a worker ---- */

void
mpe_lease_ready(const mpe_leases *b, uint64_t worker)
{
    mpe__store64(word_of(b, worker, PID), (uint64_t)getpid());
    mpe__store64(word_of(b, worker, READY), 1);
}

int
mpe_lease_take(mpe_engine *e, const mpe_leases *b, uint64_t worker, mpe_object *queue,
               mpe_message *out, uint64_t *since)
{
    if (!mpe__admits(e, queue, MPE__QUEUES))
        return mpe__refusal(e, queue, MPE__QUEUES);
    if (mpe_lease_is_retired(b, worker))
        return MPE_ECLOSED;
    int rc = mpe_queue_get_leased(e, queue, (uint64_t *)word_of(b, worker, LEASE), out);
    if (rc != MPE_OK)
        return rc;
    *since = mpe_now();
    mpe__store64(word_of(b, worker, SINCE), *since);
    return MPE_OK;
}

int
mpe_lease_begin(const mpe_leases *b, uint64_t worker, uint64_t place, uint32_t number,
                uint32_t item)
{
    uint64_t claims = item;
    mpe__store64(word_of(b, worker, RUN), run_of(number, item));
    if (atomic_compare_exchange_strong(claims_of(b, place), &claims, claims + 1))
        return MPE_OK;
    mpe_lease_end(b, worker);
    return MPE_ENOENT;
}

int
mpe_lease_begin_timed(const mpe_leases *b, uint64_t worker, uint64_t place, uint32_t number,
                      uint32_t item)
{
    mpe__store64(word_of(b, worker, SINCE), mpe_now());
    return mpe_lease_begin(b, worker, place, number, item);
}

int
mpe_lease_end(const mpe_leases *b, uint64_t worker)
{
    uint64_t run = atomic_exchange(word_of(b, worker, RUN), 0);
    while (run & DOOMED) /* SIGKILL is on its way */
        pause();
    return run & STOP ? MPE_ECANCELED : MPE_OK;
}

int
mpe_lease_is_stopped(const mpe_leases *b, uint64_t worker)
{
    return (mpe__load64(word_of(b, worker, RUN)) & STOP) != 0;
}

int
mpe_lease_is_retired(const mpe_leases *b, uint64_t worker)
{
    return mpe__load64(word_of(b, worker, RETIRE)) != 0;
}

static void
add(mpe__a64 *word, uint64_t more)
{
    mpe__store64(word, mpe__load64(word) + more);
}

void
mpe_lease_count(const mpe_leases *b, uint64_t worker, uint64_t items, uint64_t busy_ns)
{
    add(word_of(b, worker, ITEMS), items);
    add(word_of(b, worker, BUSY), busy_ns);
}

uint32_t
mpe__lease_pid(const mpe_leases *b, uint64_t worker)
{
    return (uint32_t)mpe__load64(word_of(b, worker, PID));
}

uint64_t
mpe__lease_since(const mpe_leases *b, uint64_t worker)
{
    return mpe__load64(word_of(b, worker, SINCE));
}

/* ---- results ---- */

struct buffer {
    mpe__a64 published;     /* results << 32 | bytes: so much is complete */
    mpe__a32 number, first; /* of the first result; written while published is 0 */
    uint8_t bytes[];
};

int
mpe_lease_buffer_of(mpe_engine *e, mpe_object *o, mpe_lease_buffer *out)
{
    if (!out)
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__ANY_KIND))
        return mpe__refusal(e, o, MPE__ANY_KIND);
    char type;
    uint64_t length;
    if (mpe_kind_of(o) != MPE_KIND_RAW_ARRAY)
        return MPE_EINVAL;
    void *memory = mpe_array_data(e, o, &type, &length);
    if (type != 'B' || length < sizeof(struct buffer))
        return MPE_EINVAL;
    *out = (mpe_lease_buffer){memory, length};
    return MPE_OK;
}

static uint64_t
room_of(const mpe_lease_buffer *buffer)
{
    uint64_t room = buffer->size - sizeof(struct buffer);
    return room < UINT32_MAX ? room : UINT32_MAX;
}

int
mpe_lease_publish(const mpe_lease_buffer *buffer, uint32_t number, uint32_t item,
                  const mpe_bytes *parts, int count)
{
    struct buffer *b = buffer->memory;
    uint64_t published = mpe__load64(&b->published), used = (uint32_t)published;
    uint64_t room = room_of(buffer);
    for (int i = 0; i < count; i++) {
        if (used > room || parts[i].size > room - used)
            return MPE_EAGAIN;
        memcpy(b->bytes + used, parts[i].data, parts[i].size);
        used += parts[i].size;
    }
    if (published == 0) {
        mpe__store32(&b->number, number);
        mpe__store32(&b->first, item);
    }
    mpe__store64(&b->published, ((published >> 32) + 1) << 32 | used);
    return MPE_OK;
}

int
mpe_lease_salvage(const mpe_lease_buffer *buffer, mpe_lease_results *out)
{
    struct buffer *b = buffer->memory;
    uint64_t published = mpe__load64(&b->published), used = (uint32_t)published;
    if (published == 0)
        return MPE_ENOENT;
    if (used > room_of(buffer))
        return MPE_ECORRUPT;
    *out = (mpe_lease_results){.number = mpe__load32(&b->number),
                               .first = mpe__load32(&b->first),
                               .count = (uint32_t)(published >> 32),
                               .bytes = {b->bytes, used}};
    return MPE_OK;
}

void
mpe_lease_clear(const mpe_lease_buffer *buffer)
{
    struct buffer *b = buffer->memory;
    mpe__store64(&b->published, 0);
}

/* The worker has exited, so the order does not matter. */
void
mpe_lease_forget(const mpe_leases *b, uint64_t worker, const mpe_lease_buffer *buffer)
{
    if (buffer)
        mpe_lease_clear(buffer);
    for (int word = 0; word < WORDS; word++)
        mpe__store64(word_of(b, worker, word), 0);
}
