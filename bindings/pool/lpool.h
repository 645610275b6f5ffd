/* SPDX-License-Identifier: MIT
 *
 * lpool.h - the room pool: the messages between a pool's process and its workers. It offers nothing
 * to rooms above; mpengine/pool.lua and pool/ call it. It owns the message forms and what a worker
 * knows of the task it runs. lpool.c and lpool_results.c have
 * the pool's side, lpool_worker.c the worker's. Beside the messages they share the leases of the
 * engine (mpengine.h): a board, called the control here, and a buffer of results for each worker.
 *
 * A worker's results of a task of several items go into its buffer and leave as one message at the
 * end, or earlier when it is full. When the worker has died, the pool reads there what had not been
 * sent. Only the pool's process puts tasks, so it knows a task's number beforehand. */
#ifndef LMPE_POOL_H
#define LMPE_POOL_H

#include "base/lmpe.h"

#define STOP_SIGNAL SIGWINCH /* ignored by default, so a late one has no effect */

/* Modes of a task. To MAP may be added: REASON keeps a second result when the first is nil, PACK keeps
 * all results of an item in a table. */
enum { MODE_APPLY = 1, MODE_MAP = 2, MODE_TIMED = 16, MODE_REASON = 32, MODE_PACK = 64 };

mpe_leases lmpe_check_control(lua_State *L, int idx);
uint64_t lmpe_check_worker(lua_State *L, int idx, const mpe_leases *b);
mpe_lease_buffer lmpe_check_buffer(lua_State *L, int idx);

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
    uint32_t last;        /* the worker is done with the task, whose place may be reused */
    uint32_t unused;
    uint64_t elapsed_ns;
};

#define RECORD_FAILED (1u << 31) /* in the size of a record: it is the report of an error */

#define HEAD_MAX (MPE_WIRE_STR_HEADER + sizeof(struct lmpe_result_head))

/* A head as it stands in a message; its size. */
size_t lmpe_pool_head(uint8_t out[HEAD_MAX], const void *head, size_t size);
/* Removes the head; moves *data and *size behind it. 0 when there is none. */
int lmpe_pool_read_head(void *head, size_t head_size, const uint8_t **data, size_t *size);

/* The functions that receive results, and those of the worker's side. */
void lmpe_open_pool_results(lua_State *L, lmpe *S);
void lmpe_open_pool_worker(lua_State *L, lmpe *S);

#endif
