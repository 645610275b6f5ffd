"""multiprocessing.Process: ns per start+join. usage: process.py fork|spawn|forkserver"""

import multiprocessing as mp
import sys

import bench


def nothing():
    pass


def work(n):
    for _ in range(n):
        p = mp.Process(target=nothing)
        p.start()
        p.join()


if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    work(1)  # starts the fork server, and other things that exist once
    bench.ns(work, 5)
