"""multiprocessing.Queue: ns per item, N producers to N consumers, all of them children.
usage: mpqueue.py int|1k|64k N"""

import multiprocessing as mp
import sys

import bench

kind, sides = sys.argv[1], int(sys.argv[2])
item = {"int": 123456, "1k": b"x" * 1024, "64k": b"x" * 65536}[kind]
bound = 16 if kind == "64k" else 1024


def produce(q, ready, go, n):
    ready.release()
    go.wait()
    for _ in range(n):
        q.put(item)


def consume(q, ready, go, done, n):
    ready.release()
    go.wait()
    for _ in range(n):
        q.get()
    done.release()


def work(n):
    q, ready, done, go = mp.Queue(bound), mp.Semaphore(0), mp.Semaphore(0), mp.Event()
    children = []
    for _ in range(sides):
        children.append(mp.Process(target=produce, args=(q, ready, go, n // sides)))
        children.append(mp.Process(target=consume, args=(q, ready, go, done, n // sides)))
    for p in children:
        p.start()
    for _ in children:
        ready.acquire()
    start = bench.now()
    go.set()
    for _ in range(sides):
        done.acquire()
    seconds = bench.now() - start
    for p in children:
        p.join()
    return seconds


bench.ns(work)
