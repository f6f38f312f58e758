"""The whole app as a process of its own, for tests: started like a user does, watched and ended from outside."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[1]
EMBEDDED = ROOT / "assets" / "embedded" / "base" / "params.json"
PAGE_LIMIT_S = 120.0
READY_LIMIT_S = 600.0  # two engines one after the other: 60 s on two free cores, minutes when others want them too
STOP_LIMIT_S = 60.0


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def new_state_dir() -> Path:
    """A folder outside /tmp (Gradio copies files from there into its public cache), short enough for sockets."""
    cache = Path.home() / ".cache"
    cache.mkdir(exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="dt-", dir=cache))


def wait_until(
    what: str, condition: Callable[[], bool], limit_s: float, explain: Callable[[], str] = str, pause_s: float = 0.1
) -> float:
    """Wait for a condition; the seconds it took."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < limit_s, f"not within {limit_s:g} s: {what}. {explain()}"
        time.sleep(pause_s)
    return time.monotonic() - begun


def copy_of_app(folder: Path, pairs: dict[str, str] | None = None) -> Path:
    """A second checkout whose profiles a test may change; big files are the same ones on disk.

    Args:
        folder: where it goes; removed by the test.
        pairs: further files of profiles/pairs, name → text.
    """
    root = folder / "app"
    skip = shutil.ignore_patterns("__pycache__", "devbase", "dev.yaml")
    root.mkdir(parents=True)
    shutil.copy(ROOT / "app.py", root)
    shutil.copytree(ROOT / "components", root / "components", ignore=skip)
    shutil.copytree(ROOT / "profiles", root / "profiles", ignore=skip)
    shutil.copytree(ROOT / "assets", root / "assets", ignore=skip, copy_function=_link)
    for name, text in (pairs or {}).items():
        (root / "profiles" / "pairs" / f"{name}.yaml").write_text(text, encoding="utf-8")
    return root


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy(source, target)


class RefusedError(Exception):
    """The app answered a call with an error: what it said."""


class RunningApp:
    """One app process. ``start``, then use ``url``; ``stop`` or ``kill`` in the end."""

    def __init__(self, state_dir: Path, *arguments: str, root: Path = ROOT, environment: dict[str, str] | None = None):
        self.state_dir, self.root = state_dir, root
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self._arguments = arguments
        own = {name: value for name, value in os.environ.items() if not name.startswith(("DIPTYCH_", "GRADIO_"))}
        self.environment = {**own, **(environment or {})}
        self.log = state_dir / "app.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._http = httpx.Client(trust_env=False)  # one for all calls: making one costs more than a call

    def start(self) -> RunningApp:
        """Start the process; doesn't wait."""
        argv = [sys.executable, str(self.root / "app.py"), "--port", str(self.port), "--state-dir", str(self.state_dir)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*argv, *self._arguments], cwd=self.root, env=self.environment, stdout=log, stderr=log
            )
        return self

    def said(self) -> str:
        """The end of what the app wrote."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-3000:]

    def wait_for_page(self) -> float:
        """Until the page is served; the seconds it took."""

        def served() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.said()
            with suppress(httpx.TransportError):
                return self._http.get(self.url, timeout=5.0).status_code == httpx.codes.OK
            return False

        return wait_until("the page", served, PAGE_LIMIT_S, self.said)

    def call(self, endpoint: str, *data: Any, timeout_s: float = 120.0, headers: dict[str, str] | None = None) -> Any:
        """A named endpoint over bare HTTP; what it returns."""
        base = f"{self.url}gradio_api/call/{endpoint}"
        asked = self._http.post(base, json={"data": list(data)}, timeout=timeout_s, headers=headers)
        event = asked.json()["event_id"]
        kind = ""
        with self._http.stream("GET", f"{base}/{event}", timeout=timeout_s) as answer:
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                kind = value if name == "event" else kind
                if name == "data" and kind == "complete":
                    return json.loads(value)[0]
                if name == "data" and kind == "error":
                    raise RefusedError(value)
        raise AssertionError(f"/{endpoint} gave nothing")

    def models(self) -> dict[str, dict[str, Any]]:
        """Every engine by id, as the API tells."""
        return {model["id"]: model for model in self.call("models")}

    def wait_ready(self, *engine_ids: str, limit_s: float = READY_LIMIT_S) -> float:
        """Until these engines are ready to compare; the seconds it took."""

        def ready() -> bool:
            known = self.models()
            lost = [i for i in engine_ids if known[i]["state"] == "FATAL"]
            assert not lost, f"{[known[i] for i in lost]}\n{self.said()}"
            return all(known[i]["ready"] for i in engine_ids)

        return wait_until(f"{engine_ids} ready", ready, limit_s, lambda: str(self.models()), pause_s=1.0)

    def processes(self, word: str = "") -> dict[int, str]:
        """Living processes of this app, itself included, by pid; their names hold ``word``."""
        mark, found = os.fsencode(self.state_dir), {}
        for entry in Path("/proc").iterdir():
            with suppress(OSError, ValueError):
                name, state = _name_and_state(entry / "stat")
                ours = mark in (entry / "environ").read_bytes() or mark in (entry / "cmdline").read_bytes()
                if ours and state not in "ZX" and word in name and int(entry.name) != os.getpid():
                    found[int(entry.name)] = name
        return found

    def wait_gone(self, limit_s: float) -> float:
        """Until no process of the app is left."""
        return wait_until("no process is left", lambda: not self.processes(), limit_s, lambda: str(self.processes()))

    def wait_alone(self, limit_s: float = 20.0) -> float:
        """Until the app has no process but itself: what it decodes pictures in at its start ends by itself."""
        return wait_until("it is alone", lambda: len(self.processes()) == 1, limit_s, lambda: str(self.processes()))

    def kill(self) -> None:
        """End the app itself without a warning, as the kernel would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """Ask it to end, as Ctrl+C does; its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(STOP_LIMIT_S)
        finally:
            self.process.kill()

    def close(self) -> None:
        """Stop it, assert that nothing survived, remove its folder."""
        self._http.close()
        try:
            self.stop()
            self.wait_gone(10.0)
        finally:
            for pid in self.processes():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            shutil.rmtree(self.state_dir, ignore_errors=True)


def _name_and_state(stat: Path) -> tuple[str, str]:
    head, _, tail = stat.read_text(errors="replace").rpartition(")")
    return head.partition("(")[2], tail.split()[0]
