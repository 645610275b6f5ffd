/* SPDX-License-Identifier: MIT */
/* A host that forks by itself: the child frees the engine that it inherited and opens its own. */
#include "mpengine.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void
demand(int holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "forked: %s\n", what);
    exit(1);
}

static int
child(mpe_engine *inherited, mpe_object *queue)
{
    mpe_engine *own;
    mpe_message m;
    demand(mpe_queue_get(inherited, queue, &m) == MPE_EPERM, "the engine is the parent's");
    mpe_close(inherited);
    demand(mpe_open(NULL, &own) == MPE_OK, "an engine of its own");
    mpe_close(own);
    return 0;
}

int
main(void)
{
    static const char text[] = "text";
    mpe_engine *e;
    mpe_object *queue;
    mpe_message m;
    mpe_bytes part;
    int status;
    part.data = text;
    part.size = sizeof text;
    demand(mpe_version() == MPE_VERSION_NUMBER, "the library of this header");
    demand(mpe_open(NULL, &e) == MPE_OK, "open");
    demand(mpe_queue_create(e, 0, 0, &queue) == MPE_OK, "queue");
    demand(mpe_queue_put(e, queue, &part, 1, 0) == MPE_OK, "put");
    pid_t pid = fork();
    if (pid == 0)
        return child(e, queue);
    demand(waitpid(pid, &status, 0) == pid && status == 0, "the child ends well");
    demand(mpe_queue_get(e, queue, &m) == MPE_OK && m.size == sizeof text, "get");
    mpe_message_free(e, &m);
    demand(mpe_check_arena(e, NULL, NULL) == 0, "the arena is whole");
    mpe_drop(e, queue);
    mpe_close(e);
    return 0;
}
