"""One app per state directory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from components.core.errors import StateInUseError
from components.storage.state_lock import StateLock

pytestmark = pytest.mark.service
HOLD = (
    "import sys\nfrom pathlib import Path\nfrom components.storage.state_lock import StateLock\n"
    "StateLock(Path(sys.argv[1])).acquire()\nlock = None\n"
)


def test_f58_a_second_app_is_refused_and_told_the_first_ones_pid(tmp_path: Path) -> None:
    code = HOLD.replace("StateLock(Path(sys.argv[1])).acquire()", "lock = StateLock(Path(sys.argv[1])); lock.acquire()")
    code = code.replace("lock = None\n", "print('held', flush=True)\nsys.stdin.read()\n")
    argv = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"held\n"
        with pytest.raises(StateInUseError, match=f"process {first.pid}") as caught:
            StateLock(tmp_path).acquire()
        assert "--state-dir" in caught.value.hint
        first.kill()  # -9: the kernel gives the lock back
        first.wait(10)
    with StateLock(tmp_path), pytest.raises(StateInUseError):
        StateLock(tmp_path).acquire()
    StateLock(tmp_path).acquire()


def test_a_lock_that_is_not_held_can_be_released(tmp_path: Path) -> None:
    StateLock(tmp_path).release()
