"""multiprocessing's arrays: ns per element for get and set, ns per whole slice of 1 MiB for the rest.
usage: mparray.py Array|RawArray get|set|totable|settable|string|set_string"""

import multiprocessing as mp
import sys

import bench

make = getattr(mp, sys.argv[1])


def get():
    a = make("i", 1024)

    def work(n):
        for i in range(n):
            a[i & 1023]

    bench.ns(work)


def set_():
    a = make("i", 1024)

    def work(n):
        for i in range(n):
            a[i & 1023] = i

    bench.ns(work)


def totable():
    a = make("d", 131072)

    def work(n):
        for _ in range(n):
            a[:]

    bench.ns(work, 1)


def settable():
    a = make("d", 131072)
    values = a[:]

    def work(n):
        for _ in range(n):
            a[:] = values

    bench.ns(work, 1)


def string():
    a = make("c", b"x" * (1 << 20))

    def work(n):
        for _ in range(n):
            a.raw

    bench.ns(work, 10)


def set_string():
    data = b"x" * (1 << 20)
    a = make("c", data)

    def work(n):
        for _ in range(n):
            a.raw = data

    bench.ns(work, 10)


{"get": get, "set": set_, "totable": totable, "settable": settable, "string": string, "set_string": set_string}[
    sys.argv[2]
]()
