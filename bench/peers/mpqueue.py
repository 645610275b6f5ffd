"""multiprocessing.Queue: ns per item, N producers to N consumers, all of them children.
usage: mpqueue.py int|1k|64k N"""

import multiprocessing as mp
import sys

import bench

kind, sides = sys.argv[1], int(sys.argv[2])
item = {"int": 123456, "1k": b"x" * 1024, "64k": b"x" * 65536}[kind]
bound = 16 if kind == "64k" else 1024


def produce(q, n):
    for _ in range(n):
        q.put(item)


def consume(q, n):
    for _ in range(n):
        q.get()


def work(n):
    q = mp.Queue(bound)
    return bench.together(*[(side, q, n // sides) for side in [produce, consume] * sides])


bench.ns(work)
