"""multiprocessing's arrays: ns per element for get and set, ns per whole slice of 1 MiB for the rest.
usage: mparray.py Array|RawArray get|set|totable|settable|string|set_string"""

import ctypes
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


class Struct(ctypes.Structure):
    _fields_ = [("x", ctypes.c_double), ("y", ctypes.c_double), ("id", ctypes.c_int)]


def get_field():
    a = make(Struct, 1024)

    def work(n):
        for i in range(n):
            a[i & 1023].x

    bench.ns(work)


def set_field():
    a = make(Struct, 1024)

    def work(n):
        for i in range(n):
            a[i & 1023].x = i

    bench.ns(work)


def set_struct():
    a = make(Struct, 1024)
    t = (1, 2, 3)

    def work(n):
        for i in range(n):
            a[i & 1023] = t

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


{"get": get, "set": set_, "get_field": get_field, "set_field": set_field, "set_struct": set_struct, "totable": totable, "settable": settable, "string": string, "set_string": set_string}[
    sys.argv[2]
]()
