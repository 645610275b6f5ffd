/* The limit of moving bytes. `memcpy item SIZE`: copy SIZE bytes into one of 16 slots and from
 * there out again, as a queue must; `memcpy slice SIZE`: copy them once. ns per item or slice. */
#include <string.h>

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
        return fprintf(stderr, "usage: memcpy item|slice SIZE\n"), 2;
    size = (size_t)atol(argv[2]);
    source = touched();
    target = touched();
    for (int i = 0; i < SLOTS; i++)
        slots[i] = touched();
    bench_ns(strcmp(argv[1], "item") == 0 ? item : slice, 100);
}
