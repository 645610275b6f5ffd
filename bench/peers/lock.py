"""multiprocessing.Lock: ns per acquire+release, in one process alone or in two that contend for it.
usage: lock.py alone|contended"""

import multiprocessing as mp
import sys

import bench


def take(lock, n):
    for _ in range(n):
        lock.acquire()
        lock.release()


def alone(n):
    take(mp.Lock(), n)


def contended(n):
    lock = mp.Lock()
    return bench.together((take, lock, n // 2), (take, lock, n // 2))


bench.ns({"alone": alone, "contended": contended}[sys.argv[1]])
