/* SPDX-License-Identifier: MIT */
/* A worker of a pool of C functions: takes tasks, runs them and puts their results. Each task that it
 * has taken is answered, also one that was withdrawn meanwhile, since its place is free then.
 *
 * Killed between taking and the claim of the item, it leaves a task that was not begun; between the
 * claim and the put of the result, a task that was lost; the board tells the owner which.
 */
#include "proc/pool.h"
#include "core/object.h"

#include <string.h>

struct worker {
    mpe_object *tasks, *results;
    mpe_leases leases;
    uint64_t index;
    mpe_message message;
};

static int
take(mpe_engine *e, mpe_object *tasks, void *ud)
{
    struct worker *w = ud;
    uint64_t since;
    return mpe_lease_take(e, &w->leases, w->index, tasks, &w->message, &since);
}

static int
answer(mpe_engine *e, struct worker *w, uint32_t place, int status, const mpe_buf *result)
{
    struct mpe__pool_result head = {place, w->message.seq, status};
    const mpe_bytes parts[] = {{result->data, result->len}, {&head, sizeof head}};
    int rc = mpe_queue_put(e, w->results, parts, 2, mpe__names_objects(result->data, result->len));
    if (rc != MPE_EARENA)
        return rc;
    head.status = rc; /* the result has no room, its absence has */
    const mpe_bytes alone = {&head, sizeof head};
    return mpe_queue_put(e, w->results, &alone, 1, 0);
}

/* Runs the message; a negative status ends the worker. */
static int
run(mpe_engine *e, struct worker *w)
{
    struct mpe__pool_message head;
    const mpe_message *m = &w->message;
    mpe_buf result;
    if (m->size < sizeof head)
        return MPE_ECORRUPT;
    memcpy(&head, m->data + m->size - sizeof head, sizeof head);
    if (head.name_size > m->size - sizeof head)
        return MPE_ECORRUPT;
    size_t size = m->size - sizeof head - head.name_size;
    mpe_function call = mpe__function_find(e, (const char *)m->data + size);
    int status = mpe_lease_begin(&w->leases, w->index, head.place, m->seq, 0);
    mpe__buf_init(&result, &e->memory);
    if (status == MPE_OK) {
        status = call ? call(e, m->data, size, &result) : MPE_ENOENT;
        int ended = mpe_lease_end(&w->leases, w->index);
        status = ended == MPE_OK ? status : ended;
    }
    int rc = answer(e, w, head.place, status, &result);
    mpe_buf_free(&result);
    return rc;
}

int
mpe__worker_run(mpe_engine *e, const void *args, size_t size)
{
    struct mpe__pool_birth about;
    struct worker w = {0};
    mpe_object *board;
    if (size != sizeof about)
        return MPE_EXIT_LOST;
    memcpy(&about, args, sizeof about);
    w.index = about.index;
    if (mpe_hold(e, about.tasks, &w.tasks) != MPE_OK ||
        mpe_hold(e, about.results, &w.results) != MPE_OK ||
        mpe_hold(e, about.board, &board) != MPE_OK ||
        mpe_lease_board(e, board, &w.leases) != MPE_OK)
        return MPE_EXIT_LOST;
    mpe_lease_ready(&w.leases, w.index);
    for (;;) {
        int rc = mpe_await(e, w.tasks, MPE_EVENT_READY, MPE_FOREVER, take, &w);
        if (rc == MPE_OK) {
            rc = run(e, &w);
            mpe_message_free(e, &w.message);
        }
        if (rc < 0 && rc != MPE_EINTR)
            return rc == MPE_ECLOSED ? 0 : 1;
    }
}
