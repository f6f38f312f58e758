"""Guards of every test: nothing it starts may outlive it, and it talks to no other machine."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# A busy machine is no failure: what is checked is the property, not its speed.
settings.register_profile("diptych", deadline=None)
settings.load_profile("diptych")
if "PYTEST_XDIST_WORKER" in os.environ:  # torch waits for its threads by spinning, on the cores of the other workers
    os.environ["OMP_NUM_THREADS"] = "1"
_GRACE_S = 3.0  # what was just told to end may still be ending


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes are not spelled out in a test's name: gzip and ICC profiles hold the second in which they were made,
    and two workers that collected in different seconds refuse to work together."""
    return argname if isinstance(val, bytes) else None


def _children() -> dict[int, str]:
    """Living direct children of the test process, of any of its threads: pid → command line."""
    found = {}
    for listed in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            for pid in map(int, listed.read_text().split()):
                with suppress(OSError):
                    entry = Path(f"/proc/{pid}")
                    if (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[0] not in "ZX":
                        line = (entry / "cmdline").read_bytes()
                        found[pid] = line.replace(b"\0", b" ").decode(errors="replace")
    return found


@pytest.fixture(autouse=True)
def no_process_is_leaked() -> Iterator[None]:
    """A test ends what it starts; what fixtures of a wider scope hold was there before."""
    before = set(_children())
    yield
    deadline = time.monotonic() + _GRACE_S
    while left := {
        pid: line for pid, line in _children().items() if pid not in before and "resource_tracker" not in line
    }:
        assert time.monotonic() < deadline, f"processes left behind: {left}"
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def no_other_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run without a network, so a test that would use one fails here and not on somebody's train."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            assert address[0] in ("127.0.0.1", "::1", "localhost"), f"a test wants to talk to {address}"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
