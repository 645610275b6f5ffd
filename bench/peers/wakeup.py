"""Two processes wake each other in turn through events or a condition: ns for there and back, two wake-ups.
usage: wakeup.py event|condition"""

import multiprocessing as mp
import sys

import bench


def event():
    there, back = mp.Event(), mp.Event()

    def ping():
        there.set()
        back.wait()
        back.clear()

    def pong():
        there.wait()
        there.clear()
        back.set()

    return ping, pong


def condition():
    c, turn = mp.Condition(), mp.RawValue("i", 0)

    def ping():
        with c:
            turn.value = 1
            c.notify()
            while turn.value == 1:
                c.wait()

    def pong():
        with c:
            while turn.value == 0:
                c.wait()
            turn.value = 0
            c.notify()

    return ping, pong


def repeat(f, n):
    for _ in range(n):
        f()


def work(n):
    ping, pong = {"event": event, "condition": condition}[sys.argv[1]]()
    p = mp.Process(target=repeat, args=(pong, n + 1))
    p.start()
    ping()  # the child runs now
    start = bench.now()
    repeat(ping, n)
    seconds = bench.now() - start
    p.join()
    return seconds


bench.ns(work, 100)
