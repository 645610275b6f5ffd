"""pickle (the C one, its highest protocol) on the data of rows/codec.lua: ns to encode or decode, and bytes.
usage: pickled.py encode|decode|bytes ints|records"""

import pickle
import sys

import bench


def record(i):
    return {
        "id": i, "name": f"user-{i}", "score": i * 0.37, "active": i % 2 == 0,
        "tags": ["red", "green", f"tag-{i % 100}"], "place": {"x": i, "y": -i},
    }


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
    bench.ns({"encode": encode, "decode": decode}[sys.argv[1]], 1)
