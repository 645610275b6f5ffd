/* The limit of a round trip and of a pair of wake-ups: two processes hand one word to each
 * other, each sleeping in a futex until it is its turn. No spinning. ns for there and back. */
#include <linux/futex.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

static _Atomic unsigned *turn;

static void
hand_to(unsigned other)
{
    atomic_store(turn, other);
    syscall(SYS_futex, turn, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void
wait_for(unsigned me)
{
    while (atomic_load(turn) != me)
        syscall(SYS_futex, turn, FUTEX_WAIT, !me, NULL, NULL, 0);
}

static void
work(long n)
{
    pid_t pid = fork();
    bench_check(pid >= 0, "fork");
    if (pid == 0) {
        while (n-- > 0) {
            wait_for(1);
            hand_to(0);
        }
        _exit(0);
    }
    while (n-- > 0) {
        hand_to(1);
        wait_for(0);
    }
    waitpid(pid, NULL, 0);
}

int
main(void)
{
    turn = mmap(NULL, sizeof *turn, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bench_check(turn != MAP_FAILED, "mmap");
    bench_ns(work, 100);
}
