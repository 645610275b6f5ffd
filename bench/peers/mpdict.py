"""Manager().dict() with the keys and values of rows/dict.lua, in random order: ns per operation.
usage: mpdict.py get|set [KEYS]"""

import multiprocessing as mp
import random
import sys

import bench

COUNT = int(sys.argv[2]) if len(sys.argv) > 2 else 100000
value = "v" * 64
keys = [f"key:{i:012d}" for i in range(1, COUNT + 1)]


def main():
    random.seed(1)
    random.shuffle(keys)
    with mp.Manager() as manager:
        d = manager.dict(dict.fromkeys(keys, value))

        def get(n):
            for i in range(n):
                d[keys[i % COUNT]]

        def set_(n):
            for i in range(n):
                d[keys[i % COUNT]] = value

        bench.ns({"get": get, "set": set_}[sys.argv[1]], 100)


main()
