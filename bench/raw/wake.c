/* The limit of what wakes another thread: a futex of the process. ns from the kick of one thread
 * until the other, which sleeps, runs. */
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "wake.h"

static _Atomic unsigned word;

static void
kick(void)
{
    atomic_store(&word, 1);
    syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void *
sleeper(void *arg)
{
    for (;;) {
        while (atomic_load(&word) == 0)
            syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
        atomic_store(&word, 0);
        wake_arrive();
    }
    return arg;
}

int
main(void)
{
    pthread_t t;
    bench_check(pthread_create(&t, NULL, sleeper, NULL) == 0, "pthread_create");
    wake_measure(NULL, kick);
}
