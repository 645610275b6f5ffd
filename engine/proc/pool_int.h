/* SPDX-License-Identifier: MIT */
/* A pool as its owner has it: pool.c has the tasks, pool_workers.c the workers. */
#ifndef MPE_PROC_POOL_INT_H
#define MPE_PROC_POOL_INT_H

#include "proc/pool.h"

struct mpe__pool_task {
    struct mpe__pool_task *next, *prev; /* among those that wait, or that were sent */
    mpe_pool *pool;
    mpe_waiter timer; /* the deadline */
    mpe_result done;
    void *ud;
    uint32_t place, number; /* once it is sent */
    int sent, told;
    const char *name; /* behind the arguments */
    size_t size;
    uint8_t args[];
};

struct mpe__pool_list {
    struct mpe__pool_task *head, *tail;
};

struct mpe__pool_worker {
    mpe_pool *pool;
    mpe_process *process; /* NULL: to be started */
    mpe_waiter end;       /* of the process, or of the pause before the next start */
    uint64_t pause;
    uint32_t index;
    int filed;
};

struct mpe_pool {
    mpe_engine *e;
    mpe_pool *next; /* of this engine */
    int method;
    uint32_t count, places;
    mpe_object *tasks, *results, *board;
    mpe_leases leases;
    mpe_waiter arrival; /* of results */
    int listens;        /* the waiter is filed, or has fired and will be filed again */
    struct mpe__pool_list waiting, sent;
    struct mpe__pool_task **at; /* by place */
    uint64_t pending;           /* tasks that were not told */
    mpe_waiter limit;           /* of mpe_pool_close */
    int idle;                   /* no task is pending, or the time of mpe_pool_close is over */
    int closing, users, is_freed;
    struct mpe__pool_worker workers[];
};

/* pool.c */
void mpe__pool_append(struct mpe__pool_list *l, struct mpe__pool_task *t);
void mpe__pool_take_out(struct mpe__pool_list *l, struct mpe__pool_task *t);
/* Calls done, once, which may submit, and close the pool. */
void mpe__pool_tell(struct mpe__pool_task *t, int status, const void *result, size_t size);
/* Frees a task that was sent, and its place: no worker has it any more. */
void mpe__pool_release(struct mpe__pool_task *t);
/* Sends as many tasks as there are places. */
void mpe__pool_feed(mpe_pool *p);
void mpe__pool_receive_all(mpe_pool *p);
/* A call-back that has raised `users` is over: frees a pool that was closed within. */
void mpe__pool_end_use(mpe_pool *p);
/* pool.c: results may have arrived. */
void mpe__pool_arrival(mpe_engine *e, mpe_waiter *w, int status);

/* pool_workers.c. Errors: those of a start. */
int mpe__pool_start_worker(struct mpe__pool_worker *w);
/* While tasks are pending, results and ends of workers are waited for; an idle pool keeps no loop
 * alive. Errors: ENOMEM, not when it listened until now. */
int mpe__pool_listen(mpe_pool *p);

#endif
