"""A scriptable child process for the faults of supervision: does what its arguments say, one after the other.

It is not a model server; the supervisor does not care what it supervises. First it prints its own arguments.

    exit=N            end with code N                       kill=N          send itself signal N
    ignore_term       trap SIGTERM from now on              sleep           wait for ever (never listens)
    grandchild        start a child that ignores SIGTERM    escapee         the same, in a session of its own
                      and appends its pid to ./grandchild when it is up
    text=FILE         print a file's text                   flood=MIB       print so much as fast as it can
    barrier=FILE      wait until the file exists            note=FILE       append its pid and a newline to a file
    serve=SOCKET,NAME answer /health, /version and /v1/models on a Unix socket; while SOCKET.status exists, its
                      content is the status code of /health ("hang" = no answer); "die" there = exit with code 0;
                      POST requests are noted in SOCKET.posts, and refused while SOCKET.refuse exists
"""

from __future__ import annotations

import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path


def ignore_term(_: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def start_grandchild(_: str, new_session: bool = False) -> None:
    argv = [sys.executable, "-S", __file__, "ignore_term", "note=grandchild", "sleep"]
    subprocess.Popen(argv, start_new_session=new_session)


def print_text(path: str) -> None:
    print(Path(path).read_text(), flush=True)


def flood(mebibytes: str) -> None:
    block = (b"x" * 127 + b"\n") * 8192
    for _ in range(int(mebibytes)):
        sys.stdout.buffer.write(block)
    sys.stdout.flush()


def wait_for_file(path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.01)


def note(path: str) -> None:
    with Path(path).open("a") as file:
        file.write(f"{os.getpid()}\n")


def sleep(_: str) -> None:
    while True:
        time.sleep(3600)


def serve(target: str) -> None:
    socket, _, name = target.partition(",")
    control = Path(f"{socket}.status")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = 200, {}
            if self.path == "/health" and control.exists():
                wanted = control.read_text()
                if wanted == "hang":
                    time.sleep(3600)
                if wanted == "die":
                    os._exit(0)
                status = int(wanted)
            elif self.path == "/v1/models":
                body = {"data": [{"id": name, "max_model_len": 2048}] if name else []}
            elif self.path == "/version":
                body = {"version": "stand-in"}
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_POST(self) -> None:
            with Path(f"{socket}.posts").open("a") as file:
                file.write(f"{self.path}\n")
            self.send_response(500 if Path(f"{socket}.refuse").exists() else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def address_string(self) -> str:
            return "local"

        def log_message(self, *_: object) -> None:
            pass

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True

    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    with Server(socket, Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        sleep("")


ACTIONS = {
    "exit": lambda code: sys.exit(int(code)),
    "kill": lambda number: os.kill(os.getpid(), int(number)),
    "ignore_term": ignore_term,
    "grandchild": start_grandchild,
    "escapee": lambda _: start_grandchild("", new_session=True),
    "text": print_text,
    "flood": flood,
    "barrier": wait_for_file,
    "note": note,
    "sleep": sleep,
    "serve": serve,
}

if __name__ == "__main__":
    print("stand-in:", *sys.argv[1:], flush=True)
    for argument in sys.argv[1:]:
        action, _, value = argument.partition("=")
        ACTIONS[action](value)
