"""What every Python peer shares: the clock, the loop that finds how many operations fill the measured time, and the
one line of output. lib.lua and raw/bench.h are the same thing in their languages."""

import multiprocessing
import os
from time import perf_counter as now

LEAST = float(os.environ.get("BENCH_SECONDS", 0.3))


def report(value, unit):
    print(f"{value:.6g} {unit}", flush=True)


def ns(work, first=1000):
    """Reports ns per operation of work(n); n grows until a run fills the measured time, and only that run counts.
    work may return its own seconds to leave its set-up out."""
    n = first
    while True:
        start = now()
        seconds = work(n) or now() - start
        if seconds >= LEAST:
            return report(seconds / n * 1e9, "ns")
        n *= max(2, min(10, int(LEAST / seconds) + 1))


def child(ready, go, done, work, args):
    ready.release()
    go.wait()
    work(*args)
    done.release()


def together(*works):
    """Runs each (function, argument...) in a child: the seconds from when all are there until all have ended."""
    ready, done, go = multiprocessing.Semaphore(0), multiprocessing.Semaphore(0), multiprocessing.Event()
    children = [multiprocessing.Process(target=child, args=(ready, go, done, w[0], w[1:])) for w in works]
    for p in children:
        p.start()
    for _ in children:
        ready.acquire()
    start = now()
    go.set()
    for _ in children:
        done.acquire()
    seconds = now() - start
    for p in children:
        p.join()
    return seconds


def resident():
    """Bytes of this process that are in memory."""
    for line in open("/proc/self/status"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
