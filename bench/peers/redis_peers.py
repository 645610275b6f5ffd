"""What Python programs use with a redis-server: redis-py's commands and lock, and RQ's queue with two
workers of its kind that does not fork: ns each.
usage: redis_peers.py get|lock|queue|tasks"""

import os
import shutil
import subprocess
import sys
import tempfile
import time

import bench
import redis

directory = tempfile.mkdtemp()
path = directory + "/socket"
server = subprocess.Popen(
    ["redis-server", "--port", "0", "--unixsocket", path, "--dir", directory, "--save", "", "--appendonly", "yes"],
    stdout=subprocess.DEVNULL)
r = redis.Redis(unix_socket_path=path)
while True:
    try:
        r.ping()
        break
    except redis.ConnectionError:
        time.sleep(0.01)


def get(n):
    r.hset("d", "key", 1)
    for _ in range(n):
        r.hget("d", "key")


def lock(n):
    for _ in range(n):
        with r.lock("l", timeout=15):
            pass


def queue(n):
    for i in range(n):
        r.rpush("q", i)
        r.blpop("q")


def tasks(n):
    import rq
    q = rq.Queue(connection=r)
    workers = [subprocess.Popen([shutil.which("rq") or "rq", "worker", "--worker-class", "rq.SimpleWorker", "-q", "-u",
                                 "unix://" + path]) for _ in range(2)]
    try:
        while len(rq.Worker.all(connection=r)) < 2:
            time.sleep(0.05)
        start = time.perf_counter()
        jobs = [q.enqueue("math.fabs", i, result_ttl=60) for i in range(n)]
        for job in jobs:
            while job.result is None:
                time.sleep(0.001)
        return time.perf_counter() - start
    finally:
        for w in workers:
            w.terminate()
            w.wait()


try:
    bench.ns({"get": get, "lock": lock, "queue": queue, "tasks": tasks}[sys.argv[1]])
finally:
    server.terminate()
    server.wait()
    shutil.rmtree(directory)
