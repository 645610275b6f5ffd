"""The rows of rows/co.lua for gevent.
usage: co_gevent.py spawn|alive TASKS|switch [SLEEPERS]|handoff|memory TASKS|timers"""

import os
import sys

import bench
import gevent
from gevent.queue import Queue


def nothing():
    pass


def sleepers(n):
    started = 0

    def task():
        nonlocal started
        started += 1
        gevent.sleep(3600)

    tasks = [gevent.spawn(task) for _ in range(n)]
    while started < n:
        gevent.sleep(0)
    return tasks


def spawn():
    def work(n):
        for _ in range(n // 1000):
            gevent.joinall([gevent.spawn(nothing) for _ in range(1000)])

    bench.ns(work)


def alive():
    n = int(sys.argv[2])
    start = bench.now()
    gevent.joinall([gevent.spawn(gevent.sleep, 0) for _ in range(n)])
    bench.report((bench.now() - start) / n * 1e9, "ns")


def switch():
    def loop(n):
        for _ in range(n):
            gevent.sleep(0)

    asleep = sleepers(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    bench.ns(lambda n: gevent.joinall([gevent.spawn(loop, n // 2) for _ in range(2)]) and None)
    if asleep:
        os._exit(0)


def handoff():
    def work(n):
        q = Queue(1)

        def produce():
            for i in range(n):
                q.put(i)

        def consume():
            for _ in range(n):
                q.get()

        gevent.joinall([gevent.spawn(produce), gevent.spawn(consume)])

    bench.ns(work)


def memory():
    n = int(sys.argv[2])
    before = bench.resident()
    tasks = sleepers(n)
    bench.report((bench.resident() - before) / len(tasks), "bytes")
    os._exit(0)  # do not count killing them all


def timers():
    sleep, late = 1, []

    def timer():
        start = bench.now()
        gevent.sleep(sleep)
        late.append(bench.now() - start - sleep)

    gevent.joinall([gevent.spawn(timer) for _ in range(50000)])
    bench.report(max(late) / sleep * 100, "%")


run = {"spawn": spawn, "alive": alive, "switch": switch, "handoff": handoff, "memory": memory, "timers": timers}
run[sys.argv[1]]()
