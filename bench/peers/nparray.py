"""NumPy on the shared memory of a multiprocessing.RawArray, on one core: ns per operation on all elements.
usage: nparray.py sum|min|dot|scale|axpy code elements"""

import multiprocessing as mp
import sys

import numpy as np

import bench

operation, code, count = sys.argv[1], sys.argv[2], int(sys.argv[3])


def new(value):
    a = np.frombuffer(mp.RawArray(code, count), dtype=code)
    a[:] = value
    return a


x, y = new(1), new(2)
one = x.dtype.type(1)


def scale(a):
    a *= one


def axpy(a):
    a += one * y


run = {"sum": lambda a: a.sum(), "min": lambda a: a.min(), "dot": lambda a: a.dot(y), "scale": scale, "axpy": axpy}[
    operation
]


def work(n):
    for _ in range(n):
        run(x)
    if operation == "axpy":
        x[:] = 1


bench.ns(work, 10)
