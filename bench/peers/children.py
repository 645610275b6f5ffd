"""What 100 forked children that do nothing cost a parent with 200 MB of Python data; see rows/children.lua."""

import multiprocessing as mp

import bench

CHILDREN, BYTES = 100, 200_000_000


def memory(pid, key="Pss"):
    with open(f"/proc/{pid}/smaps_rollup") as lines:
        for line in lines:
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024


def idle(ready, stop):
    ready.release()
    stop.wait()


heap = []
while memory("self", "Rss") < BYTES:
    heap += [[n, f"item {n}"] for n in range(10000)]
ready, stop = mp.Semaphore(0), mp.Event()
before = memory("self")
children = [mp.Process(target=idle, args=(ready, stop), daemon=True) for _ in range(CHILDREN)]
for child in children:
    child.start()
for _ in children:
    ready.acquire()
after = memory("self") + sum(memory(child.pid) for child in children)
stop.set()
for child in children:
    child.join()
bench.report((after - before) / before * 100, "%")
