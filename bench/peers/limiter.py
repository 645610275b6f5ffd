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


def alone(n):
    take(new_bucket(), n)


def shared(n):
    bucket = new_bucket()
    return bench.together((take, bucket, n // 2), (take, bucket, n // 2))


bench.ns({"alone": alone, "shared": shared}[sys.argv[1]])
