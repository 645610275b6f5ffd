/* Threads of the engine. They block all signals, which are for the thread that runs the engine. */
#include "os/os.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>

#define SMALL_STACK (1u << 20) /* where limits leave no room for a full-size stack */

static int
create(void *(*run)(void *ud), void *ud, size_t stack)
{
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    if (stack)
        pthread_attr_setstacksize(&attr, stack);
    int rc = pthread_create(&thread, &attr, run, ud);
    pthread_attr_destroy(&attr);
    return rc;
}

int
mpe__thread_start(void *(*run)(void *ud), void *ud)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = create(run, ud, 0);
    if (rc != 0)
        rc = create(run, ud, SMALL_STACK);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = rc;
    return rc == 0 ? 0 : -1;
}
