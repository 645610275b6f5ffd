"""An integer there and back over two queues, between two processes: ns per round trip.
usage: roundtrip.py Queue|SimpleQueue"""

import multiprocessing as mp
import sys

import bench

make = getattr(mp, sys.argv[1])


def answer(there, back, n):
    for _ in range(n):
        back.put(there.get())


def work(n):
    there, back = make(), make()
    p = mp.Process(target=answer, args=(there, back, n + 1))
    p.start()
    there.put(0)
    back.get()  # the child runs now
    start = bench.now()
    for i in range(n):
        there.put(i)
        back.get()
    seconds = bench.now() - start
    p.join()
    return seconds


bench.ns(work, 100)
