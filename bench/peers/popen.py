"""subprocess.Popen. usage: popen.py true   ns per start and wait of a program that does nothing
                          popen.py cat    ns per 64 KiB through cat: 1 GB is written in pieces by a thread, and read"""

import subprocess
import sys
import threading
import time

import bench

BLOCK, PIECE, TOTAL = 64 << 10, 1 << 20, 1 << 30


def start_and_wait(n):
    for _ in range(n):
        subprocess.Popen(["true"]).wait()


def through_cat():
    piece = b"x" * PIECE
    start = time.perf_counter()
    p = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def feed():
        for _ in range(TOTAL // PIECE):
            p.stdin.write(piece)
        p.stdin.close()

    writer = threading.Thread(target=feed)
    writer.start()
    total = 0
    while data := p.stdout.read(PIECE):
        total += len(data)
    writer.join()
    assert p.wait() == 0 and total == TOTAL
    bench.report((time.perf_counter() - start) / (TOTAL // BLOCK) * 1e9, "ns")


if __name__ == "__main__":
    if sys.argv[1] == "true":
        bench.ns(start_and_wait, 5)
    else:
        through_cat()
