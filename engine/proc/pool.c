/* SPDX-License-Identifier: MIT */
/* Pools of processes that run C functions: the owner's side. pool_worker.c is the other.
 *
 * Tasks wait here in a list. So many of them as there are places are on a queue, from which the
 * workers take them; a board (mpe_lease_*) says which worker took which. Each task that a worker has
 * taken comes back as one message, or its worker exits. So after the messages of a worker that
 * was killed have been read, the board names the task that it has cost, or took and did not
 * begin.
 *
 * The owner has this state alone: when it is killed, the workers end as its daemons, and the shared
 * objects with their last holder.
 */
#include "proc/pool_int.h"
#include "core/door.h"

#include <signal.h>
#include <string.h>

#define WORKERS_MAX 200u
#define PLACES_PER_WORKER 4u
#define EXIT_NS (MPE_NS_PER_S / 2) /* for idle workers, before they are killed */

/* ---- lists ---- */

void
mpe__pool_append(struct mpe__pool_list *l, struct mpe__pool_task *t)
{
    t->next = NULL;
    t->prev = l->tail;
    if (l->tail)
        l->tail->next = t;
    else
        l->head = t;
    l->tail = t;
}

void
mpe__pool_take_out(struct mpe__pool_list *l, struct mpe__pool_task *t)
{
    if (t->prev)
        t->prev->next = t->next;
    else
        l->head = t->next;
    if (t->next)
        t->next->prev = t->prev;
    else
        l->tail = t->prev;
}

/* ---- the end of tasks ---- */

static void
free_task(struct mpe__pool_task *t)
{
    mpe__delete(&t->pool->e->memory, t, sizeof *t + t->size + strlen(t->name) + 1);
}

void
mpe__pool_tell(struct mpe__pool_task *t, int status, const void *result, size_t size)
{
    mpe_pool *p = t->pool;
    if (t->told)
        return;
    t->told = 1;
    mpe_wait_stop(p->e, &t->timer);
    p->pending--;
    p->users++;
    if (t->done)
        t->done(p->e, t->ud, status, result, size);
    p->users--;
    if (p->pending == 0)
        p->idle = 1;
}

void
mpe__pool_release(struct mpe__pool_task *t)
{
    mpe_pool *p = t->pool;
    mpe__pool_take_out(&p->sent, t);
    p->at[t->place] = NULL;
    free_task(t);
}

/* The worker that runs the task, or -1. */
static int
runner_of(const struct mpe__pool_task *t)
{
    const mpe_pool *p = t->pool;
    mpe_lease_run run;
    for (uint32_t i = 0; i < p->count; i++)
        if (p->workers[i].process && mpe_lease_running(&p->leases, i, &run) == MPE_OK &&
            run.number == t->number)
            return (int)i;
    return -1;
}

/* Ends a task that was sent: it does not begin, or the worker that runs it is killed. */
static void
stop(struct mpe__pool_task *t, int status)
{
    mpe_pool *p = t->pool;
    int i = mpe_lease_reclaim(&p->leases, t->place) > 0 ? runner_of(t) : -1;
    if (i >= 0 && mpe_lease_stop(&p->leases, (uint64_t)i, t->number, 0) == MPE_OK &&
        mpe_lease_doom(&p->leases, (uint64_t)i, t->number, 0) == MPE_OK)
        mpe_process_signal(p->e, p->workers[i].process, SIGKILL);
    mpe__pool_tell(t, status, NULL, 0);
}

static void
on_deadline(mpe_engine *e, mpe_waiter *w, int status)
{
    struct mpe__pool_task *t = (struct mpe__pool_task *)((char *)w -
                                                         offsetof(struct mpe__pool_task, timer));
    mpe_pool *p = t->pool;
    (void)e, (void)status;
    p->users++;
    if (t->sent) {
        stop(t, MPE_ETIMEDOUT);
    } else {
        mpe__pool_take_out(&p->waiting, t);
        mpe__pool_tell(t, MPE_ETIMEDOUT, NULL, 0);
        free_task(t);
    }
    mpe__pool_end_use(p);
}

/* ---- sending ---- */

static int
free_place(const mpe_pool *p)
{
    for (uint32_t i = 0; i < p->places; i++)
        if (!p->at[i])
            return (int)i;
    return -1;
}

/* Puts a task on the queue. */
static int
send_task(mpe_pool *p, struct mpe__pool_task *t, uint32_t place)
{
    uint32_t next_to_get;
    struct mpe__pool_message head = {.place = place, .name_size = (uint32_t)strlen(t->name) + 1};
    const mpe_bytes parts[] = {{t->args, t->size}, {t->name, head.name_size}, {&head, sizeof head}};
    mpe_queue_seqs(p->e, p->tasks, &t->number, &next_to_get);
    mpe_lease_offer(&p->leases, place);
    int rc = mpe_queue_put(p->e, p->tasks, parts, 3, mpe__names_objects(t->args, t->size));
    if (rc != MPE_OK)
        return rc;
    t->place = place;
    t->sent = 1;
    p->at[place] = t;
    mpe__pool_append(&p->sent, t);
    return MPE_OK;
}

/* One that cannot be sent ends with the reason. */
void
mpe__pool_feed(mpe_pool *p)
{
    struct mpe__pool_task *t;
    int place;
    while (!p->is_freed && (t = p->waiting.head) && (place = free_place(p)) >= 0) {
        mpe__pool_take_out(&p->waiting, t);
        int rc = send_task(p, t, (uint32_t)place);
        if (rc == MPE_OK)
            continue;
        mpe__pool_tell(t, rc, NULL, 0);
        free_task(t);
    }
}

/* ---- results ---- */

static void
receive(mpe_pool *p, const mpe_message *m)
{
    struct mpe__pool_result head;
    if (m->size < sizeof head)
        return;
    size_t size = m->size - sizeof head;
    memcpy(&head, m->data + size, sizeof head);
    struct mpe__pool_task *t = head.place < p->places ? p->at[head.place] : NULL;
    if (!t || t->number != head.number)
        return;
    mpe__pool_tell(t, head.status, m->data, size);
    if (!p->is_freed) /* which has released it */
        mpe__pool_release(t);
}

void
mpe__pool_receive_all(mpe_pool *p)
{
    mpe_message m;
    while (!p->is_freed && mpe_queue_get(p->e, p->results, &m) == MPE_OK) {
        receive(p, &m);
        mpe_message_free(p->e, &m);
    }
}

void
mpe__pool_arrival(mpe_engine *e, mpe_waiter *w, int status)
{
    mpe_pool *p = (mpe_pool *)((char *)w - offsetof(mpe_pool, arrival));
    (void)status;
    (void)e;
    p->users++;
    mpe__pool_receive_all(p);
    mpe__pool_feed(p);
    mpe__pool_listen(p);
    mpe__pool_end_use(p);
}

/* ---- opening ---- */

static size_t
pool_bytes(unsigned workers)
{
    return sizeof(mpe_pool) + workers * sizeof(struct mpe__pool_worker);
}

static void
free_pool(mpe_pool *p)
{
    mpe_drop(p->e, p->tasks);
    mpe_drop(p->e, p->results);
    mpe_drop(p->e, p->board);
    mpe__delete(&p->e->memory, p->at, p->places * sizeof(struct mpe__pool_task *));
    mpe__delete(&p->e->memory, p, pool_bytes(p->count));
}

void
mpe__pool_end_use(mpe_pool *p)
{
    if (--p->users == 0 && p->is_freed)
        free_pool(p);
}

static int
make_objects(mpe_pool *p)
{
    int rc = mpe_queue_create(p->e, 0, 0, &p->tasks);
    if (rc == MPE_OK)
        rc = mpe_queue_create(p->e, 0, 0, &p->results);
    if (rc == MPE_OK)
        rc = mpe_lease_create(p->e, p->count, p->places, &p->board);
    return rc == MPE_OK ? mpe_lease_board(p->e, p->board, &p->leases) : rc;
}

static int
start_all(mpe_pool *p)
{
    int rc = MPE_OK;
    for (uint32_t i = 0; i < p->count && rc == MPE_OK; i++) {
        p->workers[i].pool = p;
        p->workers[i].index = i;
        rc = mpe__pool_start_worker(&p->workers[i]);
        if (rc != MPE_OK)
            p->workers[i].process = NULL;
    }
    if (rc == MPE_OK)
        return rc;
    for (uint32_t i = 0; i < p->count && p->workers[i].process; i++) {
        mpe_process_signal(p->e, p->workers[i].process, SIGKILL);
        mpe_process_free(p->e, p->workers[i].process);
    }
    return rc;
}

int
mpe_pool_open(mpe_engine *e, int method, unsigned workers, mpe_pool **out)
{
    if (!e || !out)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    if (method < MPE_FORK || method > MPE_FORKSERVER || workers == 0 || workers > WORKERS_MAX)
        return MPE_EINVAL;
    mpe_pool *p = mpe__new_zeroed(&e->memory, pool_bytes(workers));
    if (!p)
        return MPE_ENOMEM;
    p->e = e;
    p->method = method;
    p->count = workers;
    p->places = workers * PLACES_PER_WORKER;
    p->at = mpe__new_zeroed(&e->memory, p->places * sizeof(struct mpe__pool_task *));
    int rc = p->at ? make_objects(p) : MPE_ENOMEM;
    if (rc == MPE_OK) /* room for a timer, so that mpe_pool_close has one */
        rc = mpe_wait_timer(e, &p->limit, mpe_now());
    mpe_wait_stop(e, &p->limit);
    if (rc == MPE_OK)
        rc = start_all(p);
    if (rc != MPE_OK) {
        free_pool(p);
        return rc;
    }
    p->next = e->proc->pools;
    e->proc->pools = p;
    *out = p;
    return MPE_OK;
}

/* ---- submitting ---- */

static struct mpe__pool_task *
new_task(mpe_pool *p, const char *function, mpe_bytes args)
{
    size_t name_size = strlen(function) + 1;
    struct mpe__pool_task *t = mpe__new_zeroed(&p->e->memory, sizeof *t + args.size + name_size);
    if (!t)
        return NULL;
    t->pool = p;
    t->size = args.size;
    if (args.size)
        memcpy(t->args, args.data, args.size);
    t->name = memcpy(t->args + args.size, function, name_size);
    t->timer.fire = on_deadline;
    return t;
}

int
mpe_pool_submit(mpe_pool *p, const char *function, const void *args, size_t size, uint64_t deadline,
                mpe_result done, void *ud)
{
    mpe_bytes bytes = {args, size};
    if (!p || !function || mpe__lacks(bytes))
        return MPE_EINVAL;
    if (!mpe__is_ours(p->e))
        return mpe__refusal(p->e, NULL, 0);
    if (p->closing)
        return MPE_ECLOSED;
    if (!mpe__function_find(p->e, function))
        return MPE_ENOENT;
    struct mpe__pool_task *t = new_task(p, function, bytes);
    if (!t)
        return MPE_ENOMEM;
    t->done = done;
    t->ud = ud;
    int rc = mpe_wait_timer(p->e, &t->timer, deadline);
    if (p->pending++ == 0 && p->users == 0 && rc == MPE_OK)
        rc = mpe__pool_listen(p);
    int place = p->waiting.head ? -1 : free_place(p);
    if (rc == MPE_OK && place >= 0)
        rc = send_task(p, t, (uint32_t)place);
    else if (rc == MPE_OK)
        mpe__pool_append(&p->waiting, t);
    p->idle = p->idle && rc != MPE_OK;
    if (rc == MPE_OK)
        return rc;
    mpe_wait_stop(p->e, &t->timer);
    free_task(t);
    if (--p->pending == 0 && p->users == 0)
        mpe__pool_listen(p);
    return rc;
}

/* ---- closing ---- */

static void
on_limit(mpe_engine *e, mpe_waiter *w, int status)
{
    mpe_pool *p = (mpe_pool *)((char *)w - offsetof(mpe_pool, limit));
    (void)e, (void)status;
    p->idle = 1;
}

static void
wait_until_idle(mpe_pool *p, uint64_t deadline)
{
    p->idle = p->pending == 0;
    p->limit.fire = on_limit;
    if (p->idle || deadline == MPE_NOW || mpe_wait_timer(p->e, &p->limit, deadline) != MPE_OK)
        return;
    mpe__pool_listen(p);
    while (!p->idle && mpe_run_until(p->e, &p->idle) == MPE_OK)
        ;
    mpe_wait_stop(p->e, &p->limit);
}

/* Tells all that are left, and kills the workers that run any of them. */
static void
stop_tasks(mpe_pool *p)
{
    struct mpe__pool_task *t;
    while ((t = p->waiting.head)) {
        mpe__pool_take_out(&p->waiting, t);
        mpe__pool_tell(t, MPE_ECLOSED, NULL, 0);
        free_task(t);
    }
    for (t = p->sent.head; t; t = t->next)
        stop(t, MPE_ECLOSED);
}

static void
join_workers(mpe_pool *p)
{
    uint64_t deadline = mpe_now() + EXIT_NS;
    int code;
    mpe_queue_close(p->e, p->tasks);
    for (uint32_t i = 0; i < p->count; i++) {
        struct mpe__pool_worker *w = &p->workers[i];
        if (w->filed)
            mpe_wait_stop(p->e, &w->end);
        w->filed = 0;
        if (!w->process)
            continue;
        if (mpe_process_join(p->e, w->process, deadline, &code) == MPE_ETIMEDOUT) {
            mpe_process_signal(p->e, w->process, SIGKILL);
            mpe_process_join(p->e, w->process, deadline + EXIT_NS, &code);
        }
        mpe_process_free(p->e, w->process);
        w->process = NULL;
    }
}

void
mpe_pool_close(mpe_pool *p, uint64_t deadline)
{
    if (!p || !mpe__is_ours(p->e) || p->closing)
        return;
    p->closing = 1;
    p->users++;
    for (mpe_pool **at = &p->e->proc->pools; *at; at = &(*at)->next)
        if (*at == p) {
            *at = p->next;
            break;
        }
    wait_until_idle(p, deadline);
    stop_tasks(p);
    join_workers(p);
    if (p->listens)
        mpe_wait_stop(p->e, &p->arrival);
    p->is_freed = 1;
    while (p->sent.head)
        mpe__pool_release(p->sent.head);
    mpe__pool_end_use(p);
}

void
mpe__pools_close(mpe_engine *e)
{
    while (e->proc->pools)
        mpe_pool_close(e->proc->pools, MPE_NOW);
}
