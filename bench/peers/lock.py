"""multiprocessing.Lock: ns per acquire+release, in one process alone or in two that contend for it.
usage: lock.py alone|contended"""

import multiprocessing as mp
import sys

import bench


def take(lock, n):
    for _ in range(n):
        lock.acquire()
        lock.release()


def contender(lock, ready, go, done, n):
    ready.release()
    go.wait()
    take(lock, n)
    done.release()


def alone(n):
    take(mp.Lock(), n)


def contended(n):
    lock, ready, done, go = mp.Lock(), mp.Semaphore(0), mp.Semaphore(0), mp.Event()
    children = [mp.Process(target=contender, args=(lock, ready, go, done, n // 2)) for _ in range(2)]
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


bench.ns({"alone": alone, "contended": contended}[sys.argv[1]])
