"""NumPy on the shared memory of a multiprocessing.RawArray, on one core: ns per operation on all elements.
usage: nparray.py sum|min|max|dot|scale|scale_double|axpy code elements [field]"""

import multiprocessing as mp
import sys
from time import process_time

import numpy as np

import bench

operation, code, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
of_field = sys.argv[4:] == ["field"]


def new(value):
    a = np.frombuffer(mp.RawArray(code, count), dtype=code)
    a[:] = value
    return a


def new_fields():
    kind = np.dtype([("x", code), ("y", code), ("id", "i")], align=True)
    a = np.frombuffer(mp.RawArray("b", count * kind.itemsize), dtype=kind)
    a["x"], a["y"] = 1, 2
    return a["x"], a["y"]


x, y = new_fields() if of_field else (new(1), new(2))
is_float = code in "fd"
kind = x.dtype.type


def scale(a, factor):
    a *= factor


def axpy(a, factor):
    a += factor * y


# What is called, and with which factors in turn.
run, factors = {
    "sum": (lambda a, _: a.sum(), (0, 0)),
    "min": (lambda a, _: a.min(), (0, 0)),
    "max": (lambda a, _: a.max(), (0, 0)),
    "dot": (lambda a, _: a.dot(y), (0, 0)),
    "scale": (scale, (2, 0.5) if is_float else (-1, -1)),
    "scale_double": (scale, (1.1, 1 / 1.1)),
    "axpy": (axpy, (1, -1)),
}[operation]
first, second = kind(factors[0]), kind(factors[1])


def work(n):
    start = process_time()
    for _ in range(0, n, 2):
        run(x, first)
        run(x, second)
    return process_time() - start


bench.ns(work, 10)
