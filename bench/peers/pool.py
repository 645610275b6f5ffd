"""The rows of rows/pool.lua for multiprocessing.Pool and concurrent.futures.ProcessPoolExecutor.
usage: pool.py Pool|Executor map1|map|apply|apply_async|imap_unordered|imap100|first|cpu|idle64|sleep64
       pool.py Pool submit20000|unordered20000|map200000|imap100_200000"""

import multiprocessing as mp
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed

import bench


def inc(x):
    return x + 1


def nap(_):
    time.sleep(0.0002)


def burn(n):
    x = 0
    for i in range(n):
        x += i % 7
    return x


class Pool:
    """multiprocessing.Pool."""

    new = staticmethod(mp.Pool)
    end = staticmethod(lambda pool: pool.terminate())

    def map1(pool, items, f=inc):
        pool.map(f, items, chunksize=1)

    def map(pool, items):
        pool.map(inc, items)

    def apply(pool, items):
        for i in items:
            pool.apply(inc, (i,))

    def apply_async(pool, items):
        for r in [pool.apply_async(inc, (i,)) for i in items]:
            r.get()

    def imap_unordered(pool, items):
        for _ in pool.imap_unordered(inc, items):
            pass


    def imap100(pool, items):
        for _ in pool.imap(inc, items, chunksize=100):
            pass


class Executor:
    """concurrent.futures.ProcessPoolExecutor: its nearest equivalents."""

    new = staticmethod(ProcessPoolExecutor)
    end = staticmethod(lambda pool: pool.shutdown())

    def map1(pool, items, f=inc):
        for _ in pool.map(f, items):
            pass

    map = map1

    def apply(pool, items):
        for i in items:
            pool.submit(inc, i).result()

    def apply_async(pool, items):
        for r in [pool.submit(inc, i) for i in items]:
            r.result()

    def imap_unordered(pool, items):
        for r in as_completed([pool.submit(inc, i) for i in items]):
            r.result()


kind = {"Pool": Pool, "Executor": Executor}[sys.argv[1]]


def tasks(workers, work):
    """Reports ns per task of work(pool, items), on a pool whose workers all run already."""
    pool = kind.new(workers)
    kind.map1(pool, range(workers * 4))

    def timed(n):
        items = list(range(n))
        start = bench.now()
        work(pool, items)
        return bench.now() - start

    bench.ns(timed, 200)
    kind.end(pool)


def burst(n, work):
    """Reports ns per task of one burst of n tasks, the median of three."""
    pool = kind.new(2)
    kind.map1(pool, range(8))
    took = []
    for _ in range(3):
        items = list(range(n))
        start = bench.now()
        work(pool, items)
        took.append(bench.now() - start)
    bench.report(sorted(took)[1] / n * 1e9, "ns")
    kind.end(pool)


def first():
    total, pools = 0, 10
    for _ in range(pools):
        start = bench.now()
        pool = kind.new(2)
        kind.apply(pool, [1])
        total += bench.now() - start
        kind.end(pool)
    bench.report(total / pools * 1e9, "ns")


def cpu():
    def seconds(workers):
        pool = kind.new(workers)
        kind.map1(pool, [1] * 4, burn)
        start = bench.now()
        kind.map1(pool, [100000] * 40, burn)
        took = bench.now() - start
        kind.end(pool)
        return took

    bench.report(seconds(1) / seconds(2), "x")


others = {
    "first": first,
    "cpu": cpu,
    "submit20000": lambda: burst(20000, kind.apply_async),
    "unordered20000": lambda: burst(20000, kind.imap_unordered),
    "map200000": lambda: burst(200000, kind.map),
    "imap100_200000": lambda: burst(200000, kind.imap100),
    "idle64": lambda: tasks(64, kind.map1),
    "sleep64": lambda: tasks(64, lambda pool, items: kind.map1(pool, items, nap)),
}
row = sys.argv[2]
others[row]() if row in others else tasks(2, getattr(kind, row))
