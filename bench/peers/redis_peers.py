"""What other programs use with a redis-server: redis-py's commands and lock; tasks of RQ, with two workers of its
kind that does not fork, of Celery, with a worker of two processes, and of BullMQ: ns each.
usage: redis_peers.py get|lock|queue | rq|celery|bullmq tasks|trip"""

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


class Workers:
    """Programs that run until the scope ends."""

    def __init__(self, *commands):
        self.running = [subprocess.Popen(c, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                         cwd=os.path.dirname(__file__) or ".", env=dict(os.environ, REDIS_PATH=path))
                        for c in commands]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for p in self.running:
            p.terminate()
        for p in self.running:
            p.wait()


def measured(submit, result, what, n):
    """Seconds for n tasks: a thousand at once, or one at a time."""
    start = time.perf_counter()
    if what == "trip":
        for i in range(n):
            result(submit(i))
    else:
        for first in range(0, n, 1000):
            jobs = [submit(i) for i in range(first, min(n, first + 1000))]
            for job in jobs:
                result(job)
    return time.perf_counter() - start


def report(submit, result, what):
    measured(submit, result, "tasks", 100)
    bench.ns(lambda n: measured(submit, result, what, n), 100)


def rq(what):
    import rq
    q = rq.Queue(connection=r)
    command = [shutil.which("rq") or "rq", "worker", "--worker-class", "rq.SimpleWorker", "-q", "-u", "unix://" + path]

    def result(job):
        while job.result is None:
            time.sleep(0.001)
    with Workers(command, command):
        while len(rq.Worker.all(connection=r)) < 2:
            time.sleep(0.05)
        report(lambda i: q.enqueue("math.fabs", i, result_ttl=60), result, what)


def celery(what):
    os.environ["REDIS_PATH"] = path
    from celery_jobs import app, fabs
    with Workers([sys.executable, "-m", "celery", "-A", "celery_jobs", "worker", "-c", "2", "-l", "CRITICAL"]):
        while not app.control.ping(timeout=0.5):
            pass
        report(fabs.delay, lambda job: job.get(timeout=60), what)


def bullmq(what):
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bullmq.js")
    if subprocess.run(["node", script, path, what]).returncode != 0:
        sys.exit(1)


try:
    if len(sys.argv) > 2:
        {"rq": rq, "celery": celery, "bullmq": bullmq}[sys.argv[1]](sys.argv[2])
    else:
        bench.ns({"get": get, "lock": lock, "queue": queue}[sys.argv[1]])
finally:
    server.terminate()
    server.wait()
    shutil.rmtree(directory)
sys.stdout.flush()
os._exit(0)  # results of Celery would still ask the server
