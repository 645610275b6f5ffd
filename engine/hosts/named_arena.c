/* SPDX-License-Identifier: MIT */
/* A program in an arena with a name: the processes it starts, by each method, are in the same one;
 * and the name is free once it has closed its engine. */
#include "mpengine.h"

#include <stdio.h>
#include <unistd.h>

static char arena[64];

static int
meet(mpe_engine *e, const void *args, size_t size, mpe_buf *result)
{
    mpe_object *queue;
    int64_t method = 0;
    (void)result;
    if (mpe_unpack(e, args, size, "i", &method) != MPE_OK ||
        mpe_find(e, "queue", MPE_NOW, &queue) != MPE_OK)
        return 1;
    return mpe_put(e, queue, args, size, MPE_FOREVER) != MPE_OK;
}

/* Each method puts its number. */
static int
start_all(mpe_engine *e, mpe_object *queue)
{
    static const int methods[] = {MPE_FORK, MPE_SPAWN, MPE_FORKSERVER};
    mpe_buf b;
    int rc = MPE_OK;
    mpe_buf_init(&b);
    for (int i = 0; i < 3 && rc == MPE_OK; i++) {
        mpe_process *p = NULL;
        mpe_message m;
        int64_t got = 0;
        int code = -1;
        mpe_buf_reset(&b, 0);
        if ((rc = mpe_pack(e, &b, "i", (int64_t)methods[i])) != MPE_OK ||
            (rc = mpe_start_function(e, methods[i], "meet", b.data, b.len, 0, &p)) != MPE_OK)
            break;
        rc = mpe_process_join(e, p, MPE_FOREVER, &code);
        mpe_process_free(e, p);
        if (rc == MPE_OK && (rc = mpe_get(e, queue, &m, MPE_NOW)) == MPE_OK) {
            rc = mpe_unpack(e, m.data, m.size, "i", &got);
            mpe_message_free(e, &m);
        }
        printf("method %d: exit code %d, %s\n", methods[i], code,
               got == methods[i] ? "found the queue" : "did not find it");
    }
    mpe_buf_free(&b);
    return rc;
}

int
main(void)
{
    static const mpe_named_function functions[] = {{"meet", meet}, {NULL, NULL}};
    mpe_config config = MPE_CONFIG_INIT;
    mpe_engine *e, *other;
    mpe_object *queue;
    int code;
    config.functions = functions;
    if (mpe_child_main(&config, &code))
        return code;
    snprintf(arena, sizeof arena, "named_arena %ld", (long)getpid());
    config.arena = arena;
    int rc = mpe_open(&config, &e);
    if (rc != MPE_OK)
        return fprintf(stderr, "named_arena: %s\n", mpe_strerror(rc)), 1;
    if ((rc = mpe_queue_create(e, 0, 0, &queue)) == MPE_OK &&
        (rc = mpe_name(e, "queue", queue)) == MPE_OK)
        rc = start_all(e, queue);
    mpe_close(e);
    config.flags = MPE_ARENA_EXISTING;
    printf("%s, then: %s\n", mpe_strerror(rc), mpe_strerror(mpe_open(&config, &other)));
    return rc != MPE_OK;
}
