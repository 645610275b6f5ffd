/* How long it takes to wake a thread that sleeps: what the raw futex and our calls have in common.
 * One thread kicks, the other stores when it was there. Before each kick there is a pause, longer
 * than any spin. The median of many kicks, since a pause of the machine can hit each of them. */
#ifndef BENCH_WAKE_H
#define BENCH_WAKE_H

#include <pthread.h>
#include <stdatomic.h>

#include "bench.h"

#define KICKS_MAX 100000
#define PAUSE_NS 100000

static _Atomic double wake_arrived; /* seconds; 0: not yet */

/* On the thread that was woken. */
static inline void
wake_arrive(void)
{
    atomic_store(&wake_arrived, bench_now());
}

static int
wake_compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* On the thread that kicks: reports the ns from a kick to the arrival. ready, unless it is NULL,
 * returns when the other thread is about to sleep. */
static inline void
wake_measure(void (*ready)(void), void (*kick)(void))
{
    static double took[KICKS_MAX];
    double until = bench_now() + bench_least();
    int n = 0;
    while (n < 100 || (bench_now() < until && n < KICKS_MAX)) {
        if (ready)
            ready();
        nanosleep(&(struct timespec){0, PAUSE_NS}, NULL);
        atomic_store(&wake_arrived, 0.0);
        double start = bench_now();
        kick();
        while (atomic_load(&wake_arrived) == 0.0)
            ;
        took[n++] = atomic_load(&wake_arrived) - start;
    }
    qsort(took, (size_t)n, sizeof *took, wake_compare);
    bench_report(took[n / 2] * 1e9, "ns");
}

#endif
