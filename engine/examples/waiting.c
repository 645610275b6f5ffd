/* SPDX-License-Identifier: MIT */
/* Waiting calls and their deadlines: a lock whose owner dies, the first of several objects, what is
 * there at once, and a name that another process gives. */
#include "mpengine.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static int
must(int status, const char *what)
{
    if (status >= 0)
        return status;
    fprintf(stderr, "waiting: %s: %s\n", what, mpe_strerror(status));
    exit(1);
}

/* A process of its own: names its queue, and dies while it holds the lock. */
static int
work(mpe_engine *e, const void *args, size_t size, mpe_buf *result)
{
    mpe_object *lock, *queue;
    (void)result;
    must(mpe_unpack(e, args, size, "o", &lock), "arguments");
    must(mpe_acquire(e, lock, MPE_FOREVER), "lock");
    must(mpe_queue_create(e, 0, 0, &queue), "queue");
    must(mpe_put(e, queue, "\x07", 1, MPE_NOW), "put");
    must(mpe_name(e, "answers", queue), "name");
    raise(SIGKILL);
    return 0;
}

int
main(void)
{
    static const mpe_named_function functions[] = {{"work", work}, {NULL, NULL}};
    mpe_config config = MPE_CONFIG_INIT;
    mpe_engine *e;
    mpe_object *lock, *both[2];
    mpe_process *p;
    mpe_message m;
    mpe_buf b;
    size_t first = 2;
    int code = 0;
    config.functions = functions;
    must(mpe_open(&config, &e), "open");
    must(mpe_lock_create(e, 0, &lock), "lock");
    must(mpe_event_create(e, &both[0]), "event");
    mpe_buf_init(&b);
    must(mpe_pack(e, &b, "o", lock), "pack");
    must(mpe_start_function(e, MPE_FORK, "work", b.data, b.len, 0, &p), "start");
    mpe_buf_free(&b);

    must(mpe_find(e, "answers", mpe_now() + 5 * MPE_NS_PER_S, &both[1]), "find");
    must(mpe_wait_any(e, both, 2, MPE_FOREVER, &first), "wait");
    printf("object %d is ready\n", (int)first);
    must(mpe_get(e, both[1], &m, MPE_NOW), "get");
    mpe_message_free(e, &m);
    printf("now: %s\n", mpe_strerror(mpe_get(e, both[1], &m, MPE_NOW)));
    printf("in 10 ms: %s\n", mpe_strerror(mpe_wait(e, both[0], mpe_now() + 10000000)));
    must(mpe_process_join(e, p, MPE_FOREVER, &code), "join");
    mpe_process_free(e, p);
    printf("exit code %d; the lock's owner has %s\n", code,
           mpe_acquire(e, lock, MPE_FOREVER) == MPE_OWNER_DIED ? "died" : "released it");
    must(mpe_release(e, lock), "release");
    must(mpe_name(e, "answers", NULL), "name");
    printf("nothing can end this wait: %s\n", mpe_strerror(mpe_wait(e, both[0], MPE_FOREVER)));
    mpe_drop(e, both[0]);
    mpe_drop(e, both[1]);
    mpe_drop(e, lock);
    mpe_close(e);
    return 0;
}
