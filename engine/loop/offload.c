/* Work for threads. Threads are started as work arrives, up to the maximum of their pool, and
 * stay. A thread that cannot be started matters only when there is none at all; then the caller
 * gets the reason. There are two pools, so that work that blocks long (the look-ups of names.c)
 * does not delay work that computes. The work itself may use nothing of the engine. Completed
 * work is on a list of its engine, whose bell is rung for everything; the loop takes it from
 * there.
 *
 * The threads and the memory of the work belong to the process, not to an engine, under one lock.
 * Closing an engine disowns its work: queued work is not run, running work is freed by its thread,
 * and a program that exits does not wait for it. A forked child begins without threads and without
 * work. The lock is taken around the fork, and the threads hold no other lock, so they do not
 * prevent a fork (proc/fork.c counts them).
 */
#include "loop/loop.h"
#include "os/os.h"
#include "core/door.h"

#include <pthread.h>
#include <stdlib.h>

struct mpe__work {
    struct mpe__work *next; /* in the queue, or on the list of completed work */
    struct mpe__work *next_of_engine, **link;
    mpe_engine *e; /* NULL: disowned */
    int awaited;   /* its completion is waited for */
    void (*run)(void *ud);
    void (*done)(mpe_engine *e, void *ud, int status);
    void (*drop)(void *ud); /* in place of done, when it is disowned; NULL: nothing */
    void *ud;
};

struct pool {
    pthread_cond_t due;
    struct mpe__work *first, **end; /* the queue */
    uint32_t threads, idle, waiting;
};

#define SLOW_THREADS 128u

enum { QUICK, SLOW, POOLS };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t prepared = PTHREAD_ONCE_INIT;
static struct pool pools[POOLS];

unsigned
mpe__pool_threads(void)
{
    const char *text = getenv("UV_THREADPOOL_SIZE");
    unsigned long n = text ? strtoul(text, NULL, 10) : 4;
    return n == 0 ? 1 : n > 1024 ? 1024 : (unsigned)n;
}

uint32_t
mpe__offload_threads(void)
{
    pthread_mutex_lock(&lock);
    uint32_t n = pools[QUICK].threads + pools[SLOW].threads;
    pthread_mutex_unlock(&lock);
    return n;
}

/* ---- on the thread ---- */

static struct mpe__work *
take(struct pool *p)
{
    struct mpe__work *w;
    while (!(w = p->first)) {
        p->idle++;
        pthread_cond_wait(&p->due, &lock);
        p->idle--;
    }
    p->first = w->next;
    if (!p->first)
        p->end = &p->first;
    p->waiting--;
    return w;
}

static void
drop(struct mpe__work *w)
{
    if (w->drop)
        w->drop(w->ud);
    free(w);
}

/* Disowned work belongs to its thread alone. */
static void
deliver(struct mpe__work *w)
{
    mpe_engine *e = w->e;
    if (!e) {
        drop(w);
        return;
    }
    struct mpe__work **at = &e->loop->offload_done;
    while (*at)
        at = &(*at)->next;
    w->next = NULL;
    *at = w;
    mpe__ring(e, e->slot, MPE__DELIVERY);
}

static void *
serve(void *ud)
{
    struct pool *p = ud;
    pthread_mutex_lock(&lock);
    for (;;) {
        struct mpe__work *w = take(p);
        int owned = w->e != NULL;
        pthread_mutex_unlock(&lock);
        if (owned)
            w->run(w->ud);
        pthread_mutex_lock(&lock);
        deliver(w);
    }
    return NULL;
}

/* ---- around a fork ---- */

static void
before_fork(void)
{
    pthread_mutex_lock(&lock);
}

static void
after_fork(void)
{
    pthread_mutex_unlock(&lock);
}

static void
begin(void)
{
    pthread_mutex_init(&lock, NULL);
    for (struct pool *p = pools; p < pools + POOLS; p++) {
        *p = (struct pool){.end = &p->first};
        pthread_cond_init(&p->due, NULL);
    }
}

static void
prepare(void)
{
    begin();
    pthread_atfork(before_fork, after_fork, begin);
}

/* ---- on the engine's thread ---- */

/* Starts a thread for queued work that no idle thread will take. Under the lock. Errors: ESYS
 * (errno): there is none at all. */
static int
see_to_a_thread(struct pool *p)
{
    if (p->idle >= p->waiting ||
        p->threads >= (p == &pools[SLOW] ? SLOW_THREADS : mpe__pool_threads()))
        return MPE_OK;
    if (mpe__thread_start(serve, p) == 0)
        p->threads++;
    return p->threads > 0 ? MPE_OK : MPE_ESYS;
}

static void
own(mpe_engine *e, struct mpe__work *w)
{
    w->e = e;
    w->next_of_engine = e->loop->offloads;
    w->link = &e->loop->offloads;
    if (w->next_of_engine)
        w->next_of_engine->link = &w->next_of_engine;
    e->loop->offloads = w;
    mpe_keep_alive(e, w->awaited);
}

static void
disown(struct mpe__work *w)
{
    *w->link = w->next_of_engine;
    if (w->next_of_engine)
        w->next_of_engine->link = w->link;
    mpe_keep_alive(w->e, -w->awaited);
    w->e = NULL;
}

static int
offload(mpe_engine *e, struct pool *p, struct mpe__work of)
{
    struct mpe__work *w = malloc(sizeof *w);
    if (!w)
        return MPE_ENOMEM;
    *w = of;
    pthread_once(&prepared, prepare);
    pthread_mutex_lock(&lock);
    p->waiting++;
    int rc = see_to_a_thread(p);
    if (rc == MPE_OK) {
        own(e, w);
        *p->end = w;
        p->end = &w->next;
        pthread_cond_signal(&p->due);
    } else {
        p->waiting--;
    }
    pthread_mutex_unlock(&lock);
    if (rc != MPE_OK)
        free(w);
    return rc;
}

int
mpe_offload(mpe_engine *e, void (*run)(void *ud), void (*done)(mpe_engine *e, void *ud, int status),
            void *ud)
{
    if (!run || !done)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    return offload(e, &pools[QUICK],
                   (struct mpe__work){.awaited = 1, .run = run, .done = done, .ud = ud});
}

int
mpe__offload_slow(mpe_engine *e, void (*run)(void *ud),
                  void (*done)(mpe_engine *e, void *ud, int status), void (*dropped)(void *ud),
                  void *ud)
{
    return offload(e, &pools[SLOW],
                   (struct mpe__work){.run = run, .done = done, .drop = dropped, .ud = ud});
}

void
mpe__offload_dispatch(mpe_engine *e)
{
    struct mpe__work *w, *next;
    if (!e->loop->offloads)
        return;
    pthread_mutex_lock(&lock);
    w = e->loop->offload_done;
    e->loop->offload_done = NULL;
    pthread_mutex_unlock(&lock);
    for (; w; w = next) {
        next = w->next;
        disown(w);
        w->done(e, w->ud, MPE_OK);
        free(w);
    }
}

void
mpe__offload_close(mpe_engine *e)
{
    struct mpe__work *w, *next;
    if (!e->loop->offloads)
        return;
    pthread_mutex_lock(&lock);
    while (e->loop->offloads)
        disown(e->loop->offloads);
    w = e->loop->offload_done;
    e->loop->offload_done = NULL;
    pthread_mutex_unlock(&lock);
    for (; w; w = next) {
        next = w->next;
        drop(w);
    }
}
