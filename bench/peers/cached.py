"""A cache that has all keys, of 16 bytes with values of 64 bytes, in random order: ns per get or set
of memcached over a unix socket, one request at a time, or per hit of functools.lru_cache, which is
of one process.
usage: cached.py memcached get|set | lru_cache get"""

import functools
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import bench

COUNT = 100000
VALUE = b"v" * 64
keys = ["key:%012d" % i for i in range(COUNT)]
random.Random(1).shuffle(keys)


def lru_get(n):
    for i in range(n):
        cached(keys[i % COUNT])


@functools.lru_cache(maxsize=None)
def cached(key):
    return VALUE


class Memcached:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        while self.socket.connect_ex(path) != 0:
            time.sleep(0.01)

    def ask(self, request, end):
        self.socket.sendall(request)
        answer = self.socket.recv(4096)
        while not answer.endswith(end):
            answer += self.socket.recv(4096)
        return answer

    def get(self, n):
        for i in range(n):
            self.ask(b"get %s\r\n" % keys[i % COUNT].encode(), b"END\r\n")

    def set(self, n):
        for i in range(n):
            self.ask(b"set %s 0 0 64\r\n%s\r\n" % (keys[i % COUNT].encode(), VALUE), b"STORED\r\n")


if sys.argv[1] == "lru_cache":
    lru_get(COUNT)
    bench.ns(lru_get)
elif not shutil.which("memcached"):
    sys.exit("missing")
else:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "socket")
        user = ["-u", "root"] if os.getuid() == 0 else []
        server = subprocess.Popen(["memcached", "-s", path, "-m", "64", "-t", "2"] + user)
        try:
            client = Memcached(path)
            client.set(COUNT)
            bench.ns(getattr(client, sys.argv[2]))
        finally:
            server.terminate()
            server.wait()
