/* How long a command takes to start and end: `start COMMAND ARGS...` runs it again and again. ns
 * per run. Also the program that runs our own command for that row. */
#include <spawn.h>
#include <sys/wait.h>

#include "bench.h"

extern char **environ;
static char **command;

static void
work(long n)
{
    while (n-- > 0) {
        pid_t pid;
        int status;
        bench_check(posix_spawnp(&pid, command[0], NULL, NULL, command, environ) == 0, command[0]);
        waitpid(pid, &status, 0);
        if (status == 0)
            continue;
        fprintf(stderr, "start: %s: wait status %d\n", command[0], status);
        exit(1);
    }
}

int
main(int argc, char **argv)
{
    if (argc < 2)
        return fprintf(stderr, "usage: start COMMAND [ARGS...]\n"), 2;
    command = argv + 1;
    bench_ns(work, 10);
}
