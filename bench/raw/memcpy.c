/* The limit of moving bytes. `memcpy item SIZE`: copy SIZE bytes into one of 16 slots and from
 * there out again, as a queue must; `memcpy pass SIZE`: the same by two processes, one in, one out,
 * so that the bytes go from one processor's cache to the other's; `memcpy slice SIZE`: copy them
 * once. ns per item or slice. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

enum { SLOTS = 16 };

static size_t size;
static char *source, *target, *slots[SLOTS];

/* A call the compiler cannot see through, so that no copy is left out. */
static void *(*volatile copy)(void *, const void *, size_t) = memcpy;

static char *
touched(void)
{
    char *block = malloc(size);
    bench_check(block != NULL, "malloc");
    memset(block, 1, size);
    return block;
}

static void
item(long n)
{
    for (long i = 0; i < n; i++) {
        copy(slots[i % SLOTS], source, size);
        copy(target, slots[i % SLOTS], size);
    }
}

/* Waits until *count has reached n. */
static void
reach(_Atomic long *count, long n)
{
    for (long spins = 1; atomic_load(count) < n; spins++)
        if (spins % 1000 == 0)
            sched_yield();
}

static void
pass(long n)
{
    size_t bytes = 4096 + SLOTS * size;
    char *shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bench_check(shared != MAP_FAILED, "mmap");
    _Atomic long *put = (_Atomic long *)shared, *got = (_Atomic long *)(shared + 512);
    pid_t child = fork();
    bench_check(child >= 0, "fork");
    for (long i = 0; i < n; i++) {
        char *slot = shared + 4096 + (size_t)(i % SLOTS) * size;
        if (child == 0) {
            reach(got, i + 1 - SLOTS);
            copy(slot, source, size);
            atomic_store(put, i + 1);
        } else {
            reach(put, i + 1);
            copy(target, slot, size);
            atomic_store(got, i + 1);
        }
    }
    if (child == 0)
        _exit(0);
    waitpid(child, NULL, 0);
    munmap(shared, bytes);
}

static void
slice(long n)
{
    for (long i = 0; i < n; i++)
        copy(target, source, size);
}

int
main(int argc, char **argv)
{
    if (argc != 3)
        return fprintf(stderr, "usage: memcpy item|pass|slice SIZE\n"), 2;
    size = (size_t)atol(argv[2]);
    source = touched();
    target = touched();
    for (int i = 0; i < SLOTS; i++)
        slots[i] = touched();
    bench_ns(strcmp(argv[1], "item") == 0   ? item
             : strcmp(argv[1], "pass") == 0 ? pass
                                            : slice,
             100);
}
