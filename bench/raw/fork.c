/* The limit of process start+join: fork a child that exits at once and wait for it. ns per pair. */
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

static void
work(long n)
{
    while (n-- > 0) {
        pid_t pid = fork();
        bench_check(pid >= 0, "fork");
        if (pid == 0)
            _exit(0);
        waitpid(pid, NULL, 0);
    }
}

int
main(void)
{
    bench_ns(work, 20);
}
