"""A job's first process on a node of a cluster: claims the start, holds the lifeline of the launcher, ends as it did.

Usage: ``python -I -S node_entry.py JOB_FOLDER``, as a cluster's scheduler starts it. The folder holds ``start.json``:
what to run, where, and with what of this node's environment. Renaming it is the claim: the app takes it back the same
way, so a job that was cancelled never starts, and one that was asked for twice starts once.

Schedulers end what they started in ways of their own: a signal to its tree, KILL some seconds later, or the node's
daemon dies. So the launcher runs outside that tree, as a daemon, with a pipe from here; when this process is asked to
end or is killed, the pipe ends, and the launcher ends the whole group in its own order and notes the exit code. A node
that the cluster has lost may live on behind a cut line: when the app gives the job up, a file in the folder says so,
and the job is ended as soon as that file is seen.

Standard library only, like the launcher. Must not start anything when it can't claim.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

START, CLAIMED, GIVEN_UP = "start.json", "start.claimed.json", "given_up"
LAUNCHER = Path(__file__).with_name("launcher.py")
NOT_STARTED = 1
LOOK_S = 2.0  # between two looks whether the app has given the job up
_KILLED = 137  # a shell's code for "killed by signal 9"


def main(folder: Path) -> int:
    """Run the job of a folder to its end; its exit code, as a shell would give it."""
    try:
        start = json.loads((folder / START).read_bytes())
        os.chdir(start["cwd"])
        (folder / START).rename(folder / CLAIMED)
    except (OSError, ValueError) as exc:
        _say(_why_not(folder, exc))
        return NOT_STARTED
    os.umask(0o077)
    environment = _environment(start)
    given_up = folder / GIVEN_UP
    _run(_command(start, start["argv"]), environment, given_up)
    code_file = Path(start["code"])
    if not code_file.exists():  # the launcher itself was killed: another one ends what it left behind
        sweep = [sys.executable, "-I", "-S", "-c", f"raise SystemExit({_KILLED})"]
        _run(_command(start, sweep), environment, given_up)
    return _exit_code(code_file)


def _why_not(folder: Path, problem: Exception) -> str:
    if (folder / CLAIMED).exists():
        return "The job was started before; it is not started twice."
    if (folder / START).exists():
        return f"This node can't run Diptych: {problem}. Every node needs it at the same path."
    if folder.is_dir():
        return "The job was taken back before it began."
    return f"This node has no folder {folder}: every node needs the shared folder at the same path."


def _environment(start: dict[str, Any]) -> dict[str, str]:
    """The whole environment of the job: what of this node's may pass, then what the app fixed."""
    names, prefixes = set(start["inherited"]), tuple(start["inherited_prefixes"])
    passed = {name: value for name, value in os.environ.items() if name in names or name.startswith(prefixes)}
    return passed | dict(start["env"])


def _command(start: dict[str, Any], argv: list[str]) -> list[str]:
    """The launcher's, with the lifeline as its standard input."""
    launcher = [sys.executable, "-I", "-S", str(LAUNCHER), "--tethered", start["code"]]
    return [*launcher, start["log"], str(start["log_bytes"]), str(start["grace_s"]), *argv]


def _run(command: list[str], environment: dict[str, str], given_up: Path) -> None:
    """Run the launcher outside this process's tree, until it has ended; let it go when ``given_up`` appears."""
    lifeline, lifeline_write = os.pipe()
    alive, alive_write = os.pipe()
    if os.fork() == 0:
        if os.fork() == 0:
            os.setsid()
            os.dup2(lifeline, 0)
            os.set_inheritable(alive_write, True)  # held by the launcher alone: its end is the launcher's
            os.execve(command[0], command, environment)  # noqa: S606  # a shell is what we do without
        os._exit(0)
    os.wait()
    for descriptor in (lifeline, alive_write):
        os.close(descriptor)

    def let_go(_number: int = 0, _frame: FrameType | None = None) -> None:
        nonlocal lifeline_write
        descriptor, lifeline_write = lifeline_write, -1
        with suppress(OSError):  # asked twice
            os.close(descriptor)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, let_go)
    while not select.select([alive], (), (), LOOK_S)[0]:
        if given_up.exists():
            let_go()
    os.close(alive)


def _exit_code(code_file: Path) -> int:
    try:
        code = int(code_file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return _KILLED
    return code if code >= 0 else 128 - code


def _say(text: str) -> None:
    """To the scheduler's own log of this job."""
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
