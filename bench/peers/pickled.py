"""pickle (the C one, its highest protocol) on the data of rows/codec.lua: ns to encode or decode, and bytes.
And a function of 2 KiB of bytecode as marshal has it, dumped and loaded again, with no queue: pickle does not send code.
usage: pickled.py encode|decode|bytes ints|records      pickled.py again|bytes function"""

import marshal
import pickle
import sys
import types

import bench


def record(i):
    return {
        "id": i, "name": f"user-{i}", "score": i * 0.37, "active": i % 2 == 0,
        "tags": ["red", "green", f"tag-{i % 100}"], "place": {"x": i, "y": -i},
    }


def function():
    lines = ["def make(a, b):", "    def f(t, x):", "        nonlocal b"]
    lines += [f"        t[{i}] = x * {i} + a" for i in range(1, 61)]
    lines += ["        b += 1", "        return b", "    return f"]
    scope = {}
    exec("\n".join(lines), scope)
    return scope["make"](1, 2)


def again(n):
    f = function()
    for _ in range(n):
        code = marshal.loads(marshal.dumps(f.__code__))
        types.FunctionType(code, globals(), f.__name__, None, tuple(types.CellType(c.cell_contents) for c in f.__closure__))


if sys.argv[2] == "function":
    data = marshal.dumps(function().__code__)
    encoded = data
else:
    data = list(range(1, 100001)) if sys.argv[2] == "ints" else [record(i) for i in range(1, 10001)]
    encoded = pickle.dumps(data, pickle.HIGHEST_PROTOCOL)


def encode(n):
    for _ in range(n):
        pickle.dumps(data, pickle.HIGHEST_PROTOCOL)


def decode(n):
    for _ in range(n):
        pickle.loads(encoded)


if sys.argv[1] == "bytes":
    bench.report(len(encoded), "bytes")
else:
    bench.ns({"encode": encode, "decode": decode, "again": again}[sys.argv[1]], 1)
