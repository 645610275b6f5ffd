/* What every raw program shares: the clock, the loop that finds how many operations fill the
 * measured time, and the one line of output. lib.lua and peers/bench.py are the same thing in
 * their languages. Included once per program. */
#ifndef BENCH_H
#define BENCH_H

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Seconds on the monotonic clock. */
static inline double
bench_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* How long the last, counted, run has to take at least. */
static inline double
bench_least(void)
{
    const char *text = getenv("BENCH_SECONDS");
    return text ? atof(text) : 0.3;
}

static inline void
bench_report(double value, const char *unit)
{
    printf("%.6g %s\n", value, unit);
}

/* Reports ns per operation of work(n), which does n of them; n grows from `first` until a run
 * fills the time. */
static inline void
bench_ns(void (*work)(long n), long first)
{
    double least = bench_least();
    for (long n = first;;) {
        double start = bench_now();
        work(n);
        double seconds = bench_now() - start;
        if (seconds >= least) {
            bench_report(seconds / (double)n * 1e9, "ns");
            return;
        }
        double more = least / seconds;
        n *= more > 10 ? 10 : more < 2 ? 2 : (long)more + 1;
    }
}

/* Ends the program when a call of the system or a library failed. */
static inline void
bench_check(int ok, const char *what)
{
    if (ok)
        return;
    perror(what);
    exit(1);
}

#endif
