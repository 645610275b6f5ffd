/* The limit of the scaling rows: how many times as much two processes do as one when they share
 * nothing and only compute. Less than 2.0 is what the machine and its other users leave. */
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

static void
burn(void)
{
    volatile unsigned x = 0;
    for (unsigned i = 0; i < 100000000u; i++)
        x += i;
}

static double
seconds(int processes)
{
    double start = bench_now();
    for (int i = 0; i < processes; i++) {
        pid_t pid = fork();
        bench_check(pid >= 0, "fork");
        if (pid == 0) {
            burn();
            _exit(0);
        }
    }
    while (wait(NULL) > 0)
        continue;
    return bench_now() - start;
}

int
main(void)
{
    double one = seconds(1);
    bench_report(2 * one / seconds(2), "x");
}
