"""A token bucket in a multiprocessing.Array under its lock, as it is written by hand: ns per token,
in one process alone or in two at once.
usage: limiter.py alone|shared"""

import multiprocessing as mp
import sys
import time

import bench

RATE = BURST = 1e9


def take(bucket, n):
    for _ in range(n):
        with bucket.get_lock():
            now = time.monotonic()
            tokens = min(BURST, bucket[0] + (now - bucket[1]) * RATE)
            bucket[1] = now
            bucket[0] = tokens - 1 if tokens >= 1 else tokens


def new_bucket():
    return mp.Array("d", [BURST, time.monotonic()])


def taker(bucket, ready, go, done, n):
    ready.release()
    go.wait()
    take(bucket, n)
    done.release()


def alone(n):
    take(new_bucket(), n)


def shared(n):
    bucket, ready, done, go = new_bucket(), mp.Semaphore(0), mp.Semaphore(0), mp.Event()
    children = [mp.Process(target=taker, args=(bucket, ready, go, done, n // 2)) for _ in range(2)]
    for p in children:
        p.start()
    for _ in children:
        ready.acquire()
    start = bench.now()
    go.set()
    for _ in children:
        done.acquire()
    seconds = bench.now() - start
    for p in children:
        p.join()
    return seconds


bench.ns({"alone": alone, "shared": shared}[sys.argv[1]])
