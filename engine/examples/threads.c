/* SPDX-License-Identifier: MIT */
/* A threaded host without Lua: each thread has an engine of its own in the arena of the first, waits
 * for the items of one queue, and tells the main thread when it ends. */
#include "mpengine.h"

#include <pthread.h>
#include <stdio.h>

#define THREADS 4
#define ITEMS 1000

struct host {
    mpe_engine *e;
    mpe_handle queue, sum;
    int ended, done;
};

/* On the main thread, from its loop. */
static void
on_end(mpe_engine *e, void *ud)
{
    struct host *h = (struct host *)ud;
    (void)e;
    h->done = ++h->ended == THREADS;
}

/* Takes items until the queue is closed and drained. */
static int
consume(mpe_engine *e, struct host *h)
{
    mpe_object *queue, *sum;
    mpe_message m;
    int64_t n;
    int rc = mpe_hold(e, h->queue, &queue);
    if (rc != MPE_OK || (rc = mpe_hold(e, h->sum, &sum)) != MPE_OK)
        return rc;
    while ((rc = mpe_get(e, queue, &m, MPE_FOREVER)) == MPE_OK) {
        if (mpe_unpack(e, m.data, m.size, "i", &n) == MPE_OK)
            mpe_array_add(e, sum, 0, &n, NULL);
        mpe_message_free(e, &m);
    }
    return rc == MPE_ECLOSED ? MPE_OK : rc;
}

static void *
thread(void *arg)
{
    struct host *h = (struct host *)arg;
    mpe_engine *mine;
    int rc = mpe_open_thread(h->e, "consumer", &mine);
    if (rc == MPE_OK) {
        rc = consume(mine, h);
        mpe_close(mine); /* gives up what it holds */
    }
    if (rc != MPE_OK)
        fprintf(stderr, "threads: %s\n", mpe_strerror(rc));
    mpe_send(h->e, on_end, h);
    return NULL;
}

/* Lets the threads work, and waits in the loop until the last has said that it ends. */
static int
run(struct host *h, mpe_object *queue)
{
    pthread_t t[THREADS];
    mpe_buf b;
    int rc = MPE_OK;
    mpe_keep_alive(h->e, 1); /* what threads do that have no engine, or none yet, is out of sight */
    for (int i = 0; i < THREADS; i++)
        pthread_create(&t[i], NULL, thread, h);
    mpe_buf_init(&b);
    for (int64_t i = 1; i <= ITEMS && rc == MPE_OK; i++, mpe_buf_reset(&b, 0))
        if ((rc = mpe_pack(h->e, &b, "i", i)) == MPE_OK)
            rc = mpe_put(h->e, queue, b.data, b.len, MPE_FOREVER);
    mpe_buf_free(&b);
    mpe_queue_close(h->e, queue);
    if (rc == MPE_OK)
        rc = mpe_run_until(h->e, &h->done);
    mpe_keep_alive(h->e, -1);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    return rc;
}

int
main(void)
{
    struct host h = {NULL, 0, 0, 0, 0};
    mpe_object *queue, *sum;
    char type;
    uint64_t length;
    int rc = mpe_open(NULL, &h.e);
    if (rc != MPE_OK || (rc = mpe_queue_create(h.e, 100, 0, &queue)) != MPE_OK ||
        (rc = mpe_array_create(h.e, 'q', 1, 0, &sum)) != MPE_OK) {
        fprintf(stderr, "threads: %s\n", mpe_strerror(rc));
        return 1;
    }
    h.queue = mpe_handle_of(h.e, queue);
    h.sum = mpe_handle_of(h.e, sum);
    rc = run(&h, queue);
    printf("%d threads add %d items to %d\n", THREADS, ITEMS,
           (int)*(int64_t *)mpe_array_data(h.e, sum, &type, &length));
    mpe_drop(h.e, queue);
    mpe_drop(h.e, sum);
    mpe_close(h.e);
    return rc != MPE_OK;
}
