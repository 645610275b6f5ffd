"""The system's log: runs a program, and prints what it sends to syslog and to the journal.

    unshare -m python3 logd.py COMMAND...

In its own mount namespace it has a /dev with a socket named log, and a /run/systemd/journal/socket. Each
entry is a line: "syslog" or "journal", and the entry as a text of JSON, a list of pairs for the journal.
"""
import array
import json
import os
import socket
import struct
import subprocess
import sys
import threading

one_line = threading.Lock()
NODES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}


def run(*command):
    subprocess.run(command, check=True)


def replace_directories():
    run("mount", "--make-rprivate", "/")
    run("mount", "-t", "tmpfs", "none", "/mnt")
    for name, (major, minor) in NODES.items():
        run("mknod", "-m", "666", "/mnt/" + name, "c", str(major), str(minor))
    run("mount", "--move", "/mnt", "/dev")
    run("mount", "-t", "tmpfs", "none", "/run")
    os.makedirs("/run/systemd/journal")


def listen(path):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.bind(path)
    return s


def fields(data):
    """The fields of an entry of the journal's own protocol."""
    found = []
    while data:
        line, _, rest = data.partition(b"\n")
        name, sign, value = line.partition(b"=")
        if not sign:
            size, = struct.unpack("<Q", rest[:8])
            value, rest = rest[8:8 + size], rest[9 + size:]
        found.append([name.decode(), value.decode("latin-1")])
        data = rest
    return found


def receive(s, kind):
    while True:
        data, ancillary, _, _ = s.recvmsg(1 << 20, socket.CMSG_LEN(4))
        if data == b"over":
            return
        for _, _, passed in ancillary:  # too large for a datagram: a file
            with os.fdopen(array.array("i", passed[:4])[0], "rb") as f:
                f.seek(0)
                data = f.read()
        entry = data.decode("latin-1") if kind == "syslog" else fields(data)
        with one_line:
            print(kind, json.dumps(entry), flush=True)


replace_directories()
threads = []
for kind, path in ("syslog", "/dev/log"), ("journal", "/run/systemd/journal/socket"):
    s = listen(path)
    threads.append((path, threading.Thread(target=receive, args=(s, kind))))
for _, t in threads:
    t.start()
status = subprocess.run(sys.argv[1:]).returncode
for path, t in threads:
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"over", path)
    t.join()
print("status", status)
