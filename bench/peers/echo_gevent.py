"""The server of rows/echo.lua on gevent: a greenlet for each connection."""

import socket

import gevent
from gevent import monkey

monkey.patch_all()


def serve(connection):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while True:
        data = connection.recv(64)
        if not data:
            connection.close()
            return
        connection.sendall(data)


listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
print(listener.getsockname()[1], flush=True)
while True:
    gevent.spawn(serve, listener.accept()[0])
