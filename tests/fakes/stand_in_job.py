"""A scriptable job, run as a real process like any other: its spec says what it does, one thing after the other.

["event", {...}]     report a step                      ["note", FILE]       append its pid to a file
["sleep", SECONDS]   wait                               ["write", NAME]      make a file of the result
["stubborn"]         start a child that traps INT and TERM, in a session of its own
["deaf"]             ignore INT and TERM from now on    ["fill"]             write until the disk is full
["fail", TEXT]       end with an AppError               ["crash"]            end with an unforeseen error
["exit", CODE]       end at once without a record       ["finish"]           give the result its name
["linger", SECONDS]  a thread that lives on after the exit record
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from components.core.errors import AppError
from components.jobs.driver import run_driver
from components.jobs.records import JobEvent, JobFolder

STUBBORN = """
import signal, sys, time
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
open(sys.argv[1], "a").write("up\\n")
time.sleep(3600)
"""


def stubborn(folder: JobFolder) -> None:
    mark = folder.path / "stubborn"
    subprocess.Popen([sys.executable, "-S", "-c", STUBBORN, str(mark)], start_new_session=True)
    while not mark.exists():
        time.sleep(0.01)


def deaf(_: JobFolder) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def note(_: JobFolder, path: str) -> None:
    with Path(path).open("a") as file:
        file.write(f"{os.getpid()}\n")


def write(folder: JobFolder, name: str) -> None:
    folder.partial.mkdir(exist_ok=True)
    (folder.partial / name).write_bytes(b"weights")


def fill(folder: JobFolder) -> None:
    folder.partial.mkdir(exist_ok=True)
    with (folder.partial / "model.safetensors").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(65536))


def fail(_: JobFolder, text: str) -> None:
    raise AppError(text, "Do something about it.")


def crash(_: JobFolder) -> None:
    raise KeyError("nobody thought of this")


def linger(_: JobFolder, seconds: float) -> None:
    threading.Thread(target=time.sleep, args=(seconds,)).start()


def event(folder: JobFolder, values: dict[str, Any]) -> None:
    folder.append_event(JobEvent(**values))


ACTIONS: dict[str, Any] = {
    "event": event, "sleep": lambda _, seconds: time.sleep(seconds), "stubborn": stubborn, "deaf": deaf, "note": note,
    "write": write, "fill": fill, "fail": fail, "crash": crash, "exit": lambda _, code: os._exit(code),
    "finish": lambda folder: folder.finish_result(), "linger": linger,
}  # fmt: skip


def work(folder: JobFolder) -> dict[str, Any]:
    spec = folder.read_spec()
    print("stand-in job:", len(spec["actions"]), "actions", flush=True)
    for name, *arguments in spec["actions"]:
        ACTIONS[name](folder, *arguments)
    return {"folder": "result", "files": sorted(path.name for path in folder.result.iterdir())}


if __name__ == "__main__":
    sys.exit(run_driver(sys.argv[1:], work))
