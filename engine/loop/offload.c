/* Work for threads. They are started as work comes, up to mpe__pool_threads, and stay; one that cannot
 * be started is missed only when there is none at all, and then the caller is told why. Nothing of the
 * engine may be used by the work itself. What has ended lies on a list of its engine, whose bell is
 * rung for everything; the loop takes it from there.
 *
 * The threads are of the process, not of an engine, under one lock. Closing an engine disowns its
 * work: what waits is not run, what runs is freed by its thread, and a program that ends does not
 * wait for it. A forked child begins without threads and without work; the lock is taken around the
 * fork, and its threads hold no other, so they are no obstacle to one (proc/fork.c counts them).
 */
#include "loop/loop.h"
#include "os/os.h"

#include <pthread.h>
#include <stdlib.h>

struct mpe__work {
    struct mpe__work *next; /* in line, or of those that have ended */
    struct mpe__work *next_of_engine, **link;
    mpe_engine *e; /* NULL: disowned */
    void (*run)(void *ud);
    void (*done)(mpe_engine *e, void *ud, int status);
    void *ud;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t due = PTHREAD_COND_INITIALIZER;
static pthread_once_t prepared = PTHREAD_ONCE_INIT;
static struct mpe__work *first, **end = &first; /* in line */
static uint32_t threads, idle, waiting;

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
    uint32_t n = threads;
    pthread_mutex_unlock(&lock);
    return n;
}

/* ---- on the thread ---- */

static struct mpe__work *
take(void)
{
    struct mpe__work *w;
    while (!(w = first)) {
        idle++;
        pthread_cond_wait(&due, &lock);
        idle--;
    }
    first = w->next;
    if (!first)
        end = &first;
    waiting--;
    return w;
}

/* Disowned work is nobody's but the thread's. */
static void
deliver(struct mpe__work *w)
{
    mpe_engine *e = w->e;
    if (!e) {
        free(w);
        return;
    }
    struct mpe__work **at = &e->loop->offload_done;
    while (*at)
        at = &(*at)->next;
    w->next = NULL;
    *at = w;
    mpe__ring(e, e->slot, MPE__BROADCAST);
}

static void *
serve(void *ud)
{
    (void)ud;
    pthread_mutex_lock(&lock);
    for (;;) {
        struct mpe__work *w = take();
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
in_child(void)
{
    pthread_mutex_init(&lock, NULL);
    pthread_cond_init(&due, NULL);
    first = NULL;
    end = &first;
    threads = idle = waiting = 0;
}

static void
prepare(void)
{
    pthread_atfork(before_fork, after_fork, in_child);
}

/* ---- on the engine's thread ---- */

/* A thread for the work in line that no idle one will take. Under the lock. Errors: ESYS (errno):
 * there is none at all. */
static int
see_to_a_thread(void)
{
    if (idle >= waiting || threads >= mpe__pool_threads())
        return MPE_OK;
    if (mpe__thread_start(serve, NULL) == 0)
        threads++;
    return threads > 0 ? MPE_OK : MPE_ESYS;
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
    mpe_keep_alive(e, 1);
}

static void
disown(struct mpe__work *w)
{
    *w->link = w->next_of_engine;
    if (w->next_of_engine)
        w->next_of_engine->link = w->link;
    mpe_keep_alive(w->e, -1);
    w->e = NULL;
}

int
mpe_offload(mpe_engine *e, void (*run)(void *ud), void (*done)(mpe_engine *e, void *ud, int status),
            void *ud)
{
    struct mpe__work *w = malloc(sizeof *w);
    if (!w)
        return MPE_ENOMEM;
    *w = (struct mpe__work){.run = run, .done = done, .ud = ud};
    pthread_once(&prepared, prepare);
    pthread_mutex_lock(&lock);
    waiting++;
    int rc = see_to_a_thread();
    if (rc == MPE_OK) {
        own(e, w);
        *end = w;
        end = &w->next;
        pthread_cond_signal(&due);
    } else {
        waiting--;
    }
    pthread_mutex_unlock(&lock);
    if (rc != MPE_OK)
        free(w);
    return rc;
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
        free(w);
    }
}
