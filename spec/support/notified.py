"""A service manager: starts a program, and prints what it says through NOTIFY_SOCKET.

    notified.py NAME BEATS SECONDS COMMAND...

NAME is a path, or @name. Once the program is ready and has given BEATS signs of life, ten a second, it
gets SIGTERM. A program that says nothing for SECONDS is killed. Each line that it sends is printed, a
sign of life once; the last line is its exit status.
"""
import os
import signal
import socket
import subprocess
import sys

name, beats, seconds, command = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]
listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.bind("\0" + name[1:] if name[0] == "@" else name)
listener.settimeout(seconds)

variables = dict(os.environ, NOTIFY_SOCKET=name)
if beats:
    variables["WATCHDOG_USEC"] = "200000"
program = subprocess.Popen(command, env=variables)

ready, stopped, shown = False, False, set()
while "STOPPING=1" not in shown:
    try:
        lines = listener.recv(4096).decode().split("\n")
    except TimeoutError:
        print("nothing was said in time")
        program.kill()
        break
    for line in lines:
        ready = ready or line == "READY=1"
        beats -= line == "WATCHDOG=1"
        if line not in shown:
            print(line)
        shown.add(line)
    if ready and beats <= 0 and not stopped:
        program.send_signal(signal.SIGTERM)
        stopped = True
print(program.wait(20))
