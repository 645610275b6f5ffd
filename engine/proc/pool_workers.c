/* SPDX-License-Identifier: MIT */
/* The workers of a pool of C functions: starting, watching and replacing them. One that ends before
 * it was ready is replaced ever more slowly. See pool.c.
 */
#include "proc/pool_int.h"

#include <string.h>

#define BACK_OFF_NS (MPE_NS_PER_S / 100) /* before another start, doubled each time */
#define BACK_OFF_MAX (4 * MPE_NS_PER_S)

static void on_end(mpe_engine *e, mpe_waiter *w, int status);

int
mpe__pool_start_worker(struct mpe__pool_worker *w)
{
    mpe_pool *p = w->pool;
    struct mpe__pool_birth about = {mpe_handle_of(p->e, p->tasks), mpe_handle_of(p->e, p->results),
                                    mpe_handle_of(p->e, p->board), w->index};
    mpe_bytes args = {&about, sizeof about};
    mpe_lease_forget(&p->leases, w->index, NULL);
    return mpe__start_role(p->e, p->method, MPE__ROLE_WORKER, "worker", args, MPE_PROCESS_DAEMON,
                           &w->process);
}

/* Waits for the end of the process, or for the time to start another. */
static void
watch(struct mpe__pool_worker *w)
{
    mpe_pool *p = w->pool;
    if (w->filed)
        return;
    memset(&w->end, 0, sizeof w->end);
    w->end.fire = on_end;
    int rc = w->process ? mpe_process_wait(p->e, w->process, &w->end, MPE_FOREVER)
                        : mpe_wait_timer(p->e, &w->end, mpe_now() + w->pause);
    w->filed = rc == MPE_OK;
}

static void
lengthen_pause(struct mpe__pool_worker *w)
{
    w->pause = w->pause ? w->pause * 2 : BACK_OFF_NS;
    w->pause = w->pause < BACK_OFF_MAX ? w->pause : BACK_OFF_MAX;
}

static void
replace(struct mpe__pool_worker *w)
{
    if (mpe__pool_start_worker(w) == MPE_OK)
        return;
    w->process = NULL;
    lengthen_pause(w);
}

/* What a worker that has exited leaves: the task that it ran is lost, one that it took and did not
 * begin is sent again. */
static void
bury(struct mpe__pool_worker *w, int code)
{
    mpe_pool *p = w->pool;
    mpe_lease_run run;
    mpe_buf result;
    struct mpe__pool_task *t = NULL;
    mpe__pool_receive_all(p);
    if (p->is_freed)
        return;
    if (mpe_lease_taken(p->e, &p->leases, w->index, p->tasks, &run) == MPE_OK)
        for (t = p->sent.head; t && t->number != run.number;)
            t = t->next;
    if (!mpe_lease_is_ready(&p->leases, w->index))
        lengthen_pause(w);
    else
        w->pause = 0;
    if (!t)
        return;
    if (!t->told && mpe_lease_reclaim(&p->leases, t->place) == 0) { /* not begun */
        mpe__pool_take_out(&p->sent, t);
        p->at[t->place] = NULL;
        t->sent = 0;
        mpe__pool_append(&p->waiting, t);
        return;
    }
    mpe__buf_init(&result, &p->e->memory);
    mpe_wire_put_int(&result, code);
    mpe__pool_tell(t, MPE_EBROKEN, result.data, result.len);
    mpe_buf_free(&result);
    if (!p->is_freed)
        mpe__pool_release(t);
}

static void
on_end(mpe_engine *e, mpe_waiter *waiter, int status)
{
    struct mpe__pool_worker *w =
        (struct mpe__pool_worker *)((char *)waiter - offsetof(struct mpe__pool_worker, end));
    mpe_pool *p = w->pool;
    int code = MPE_EXIT_LOST;
    (void)status;
    p->users++;
    w->filed = 0;
    if (w->process && mpe_process_poll(e, w->process, &code) != MPE_EAGAIN) {
        mpe_process_free(e, w->process);
        w->process = NULL;
        bury(w, code);
        if (!w->pause && !p->closing)
            replace(w);
    } else if (!w->process && !p->closing) {
        replace(w);
    }
    if (!p->is_freed) {
        mpe__pool_feed(p);
        mpe__pool_listen(p);
    }
    mpe__pool_end_use(p);
}

static void
stop_listening(mpe_pool *p)
{
    if (p->listens)
        mpe_wait_stop(p->e, &p->arrival);
    p->listens = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        if (p->workers[i].filed)
            mpe_wait_stop(p->e, &p->workers[i].end);
        p->workers[i].filed = 0;
    }
}

/* A waiter that has fired is filed again without memory. */
int
mpe__pool_listen(mpe_pool *p)
{
    if (p->is_freed)
        return MPE_OK;
    if (p->pending == 0) {
        stop_listening(p);
        return MPE_OK;
    }
    for (uint32_t i = 0; i < p->count; i++)
        if (p->workers[i].process || !p->closing)
            watch(&p->workers[i]);
    if (p->listens && !p->arrival.fired)
        return MPE_OK;
    p->arrival.fire = mpe__pool_arrival;
    int rc = mpe_wait_object(p->e, &p->arrival, p->results, MPE_EVENT_READY, MPE_FOREVER);
    p->listens = rc == MPE_OK;
    if (rc == MPE_OK && mpe_queue_size(p->e, p->results) > 0) /* one came before that */
        mpe__wake_one(p->e, p->results, MPE_EVENT_READY);
    return rc;
}
