"""multiprocessing.reduction's send_handle: an accepted socket goes to a worker, which answers its client."""

import multiprocessing
import socket
import statistics
from multiprocessing.reduction import recv_handle, send_handle

import bench


def work(jobs):
    while jobs.recv():
        with socket.socket(fileno=recv_handle(jobs)) as connection:
            connection.send(b"x")


def main():
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    worker = context.Process(target=work, args=(theirs,))
    worker.start()
    listener = socket.create_server(("127.0.0.1", 0))

    def one():
        client = socket.create_connection(listener.getsockname())
        connection, _ = listener.accept()
        start = bench.now()
        ours.send(True)
        send_handle(ours, connection.fileno(), worker.pid)
        connection.close()
        assert client.recv(1) == b"x"
        seconds = bench.now() - start
        client.close()
        return seconds

    bench.report(statistics.median(one() for _ in range(3000)) * 1e9, "ns")
    ours.send(False)
    worker.join()


if __name__ == "__main__":
    main()
