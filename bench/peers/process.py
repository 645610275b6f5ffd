"""multiprocessing.Process, start method fork: ns per start+join."""

import multiprocessing as mp

import bench


def nothing():
    pass


def work(n):
    for _ in range(n):
        p = mp.Process(target=nothing)
        p.start()
        p.join()


bench.ns(work, 20)
