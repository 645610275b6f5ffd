/* SPDX-License-Identifier: MIT
 *
 * lpool.h - what a pool's process and its workers share: the control words and the messages.
 * lpool.c and lpool_results.c have the pool's side, lpool_worker.c the worker's.
 *
 * The control is a raw array of 64-bit words. Eight of each worker, on a cache line of their own:
 *
 *   LEASE    number + 1 of the task it took last, written before the task leaves the queue: when it
 *            has died, the pool knows which task died with it, if any
 *   SINCE    when it took it; with a timeout, when it began the item that runs
 *   RUN      what it runs, as lmpe_pool_run says, 0 between items. The pool adds STOP, and later
 *            DOOMED, by compare-and-swap, and the worker ends an item by one exchange: so a stop meets
 *            the item that was meant or nothing, and a doomed worker begins nothing new
 *   RETIRE   it is to end when it has no task
 *   READY    its initializer has returned: a death from now on is the item's doing, not its own
 *   TASKS, BUSY   items run, and nanoseconds spent with them
 *
 * and one word per place of a task: how many of its items are claimed. A worker claims each item
 * before it runs it; the pool takes the unclaimed ones back by setting CLAIM_ALL, to cancel them or
 * to give them to an idle worker. The place is the task's until the last message about it.
 *
 * A worker's results of a task of several items go into its buffer, a raw array of bytes, and leave
 * as one message at the end, or earlier when it is full; `published` says how much of it is complete. When the worker has died,
 * the pool reads there what had not been sent: a death costs the item that ran and nothing else.
 *
 *   store that commits      a death before it leaves       a death after it leaves
 *   claim of an item        an item that others run        an item that ran: it fails, or runs again
 *   published               the same                       its result, read by the pool
 *   put of a message        the results in the buffer      both; the pool drops what it has had
 *
 * Only the pool's process puts tasks, so it knows a task's number beforehand. */
#ifndef LMPE_POOL_H
#define LMPE_POOL_H

#include "base/lmpe.h"

#include <stdatomic.h>

enum lmpe_pool_word { LEASE, SINCE, RUN, RETIRE, TASKS, BUSY, READY, POOL_WORDS = 8 };

#define CLAIM_ALL (1ull << 32)
#define STOP (1ull << 62)
#define DOOMED (1ull << 63)
#define STOP_SIGNAL SIGWINCH /* ignored by default, so a late one harms nobody */

#define CHUNK_MOST (1u << 16) /* items of a task */

/* Modes of a task. To MAP may be added: REASON keeps a second result when the first is nil, PACK keeps
 * all results of an item in a table. */
enum { MODE_APPLY = 1, MODE_MAP = 2, MODE_TIMED = 16, MODE_REASON = 32, MODE_PACK = 64 };

typedef struct lmpe_control {
    _Atomic uint64_t *words;
    uint64_t workers, places;
} lmpe_control;

lmpe_control lmpe_check_control(lua_State *L, int idx);
uint64_t lmpe_check_worker(lua_State *L, int idx, const lmpe_control *c);

static inline _Atomic uint64_t *
lmpe_pool_word(const lmpe_control *c, uint64_t worker, enum lmpe_pool_word word)
{
    return &c->words[POOL_WORDS + POOL_WORDS * worker + word];
}

static inline _Atomic uint64_t *
lmpe_pool_claims(const lmpe_control *c, uint64_t place)
{
    return &c->words[POOL_WORDS + POOL_WORDS * c->workers + place];
}

/* The word for item (from 0) of the task with that number. */
static inline uint64_t
lmpe_pool_run(uint32_t number, uint32_t item)
{
    return ((uint64_t)number + 1) | (uint64_t)item << 34;
}

/* Heads of messages: the bytes of one string, so that a whole message is well-formed, then the
 * values: of a task its arguments or items, of a result the results of one item, or, of several,
 * for each the size of its record and the record. */
struct lmpe_task_head {
    uint32_t place, function, shared, mode;
    uint32_t items; /* 1 for a call */
};

enum lmpe_result_kind {
    RESULT_OK,
    RESULT_FAILED,
    RESULT_SEVERAL,
    WORKER_READY,
    INITIALIZER_FAILED
};

struct lmpe_result_head {
    uint32_t kind, place, number, worker;
    uint32_t from, count; /* items of the task */
    uint32_t last;        /* the worker is done with the task, whose place may be used again */
    uint32_t unused;
    uint64_t elapsed_ns;
};

#define RECORD_FAILED (1u << 31) /* in the size of a record: it is the report of an error */

#define HEAD_MAX (MPE_WIRE_STR_HEADER + sizeof(struct lmpe_result_head))

/* A head as it stands in a message; its size. */
size_t lmpe_pool_head(uint8_t out[HEAD_MAX], const void *head, size_t size);
/* Takes the head off; moves *data and *size behind it. 0 when there is none. */
int lmpe_pool_read_head(void *head, size_t head_size, const uint8_t **data, size_t *size);

/* The start of a worker's buffer. */
struct lmpe_pool_buffer {
    _Atomic uint64_t published; /* records << 32 | bytes */
    uint32_t number, from;      /* of the first record; written while published is 0 */
    uint8_t bytes[];
};

/* The functions that receive results, and those of the worker's side. */
void lmpe_open_pool_results(lua_State *L, lmpe *S);
void lmpe_open_pool_worker(lua_State *L, lmpe *S);

#endif
