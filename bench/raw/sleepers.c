/* The limit of tasks that sleep: 64 processes that do nothing but sleep 200 us again and again,
 * with no dispatch at all. ns per sleep, over all of them. */
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

enum { PROCESSES = 64 };

static void
work(long n)
{
    struct timespec nap = {0, 200000};
    for (int p = 0; p < PROCESSES; p++) {
        pid_t pid = fork();
        bench_check(pid >= 0, "fork");
        if (pid > 0)
            continue;
        for (long i = 0; i < n / PROCESSES; i++)
            nanosleep(&nap, NULL);
        _exit(0);
    }
    while (wait(NULL) > 0)
        continue;
}

int
main(void)
{
    bench_ns(work, PROCESSES * 50);
}
