"""Storage under a full disk and under kill -9: what was acknowledged is there, the rest is not, nothing is broken."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from components.core.states import Outcome
from components.storage.blobs import BlobStore
from components.storage.database import Database, sqlite_url
from components.storage.traces import TraceRepository

pytestmark = pytest.mark.service

# Stores turn after turn as the app does and says so after each step that was acknowledged.
WRITER = """
import sys
from pathlib import Path
from components.core.errors import DiskFullError
from components.storage.blobs import BlobStore
from components.storage.database import Database, sqlite_url
from components.storage.traces import TraceRepository
from tests.data.traces import finished, turn

state = Path(sys.argv[1])
database = Database(sys.argv[3] if len(sys.argv) > 3 else sqlite_url(state / "diptych.db"))
database.open()
traces = TraceRepository(database, BlobStore(state / "blobs"))
print("recovered", traces.recover(), flush=True)
number = int(sys.argv[2])
while True:
    number += 1
    try:
        traces.create_turn(turn(f"t{number}"))
        print("created", number, flush=True)
        traces.save_partial(f"t{number}-a0", "Two")
        traces.finish_answer(f"t{number}-a0", finished(f"answer {number}", steps=8 + number % 5))
        print("finished", number, flush=True)
    except DiskFullError as exc:
        print("full", number, exc.message, flush=True)
        print("readable", len(traces.recent(500)), flush=True)
        check = lambda session: session.connection().exec_driver_sql("PRAGMA integrity_check").scalar()
        print("integrity", database.read(check), flush=True)
        break
database.close()
"""


def check_whole(state: Path, url: str, created: set[int], finished: set[int]) -> None:
    """Everything that was acknowledged is there and whole, after what the next start does."""
    blobs = BlobStore(state / "blobs")
    database = Database(url)
    database.open()
    try:
        if url.startswith("sqlite"):
            assert database.read(lambda session: session.execute(text("PRAGMA integrity_check")).scalar()) == "ok"
        traces = TraceRepository(database, blobs)
        traces.recover()
        for number in created:
            first = traces.get(f"t{number}").answers[0].answer
            assert first.outcome is not Outcome.STREAMING
            if number in finished:
                assert first.text == f"answer {number}"
                assert first.outcome is Outcome.FINISHED
                assert len(first.tokens) == 8 + number % 5
            assert traces.get(f"t{number}").alarms == ()
        assert list(blobs.temp_dir.iterdir()) == []
    finally:
        database.close()


def test_f56_kill_9_of_the_writer_loses_nothing_that_was_acknowledged(tmp_path: Path, database_url: str) -> None:
    created: set[int] = set()
    finished: set[int] = set()
    for round_number in range(5):
        argv = [sys.executable, "-c", WRITER, str(tmp_path), str(max(created, default=0)), database_url]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            lines: list[str] = []
            until = 3 + 7 * round_number  # another point of the work every time
            while len(lines) < until:
                line = writer.stdout.readline()
                assert line, "the writer ended by itself"
                lines.append(line)
            deadline = time.monotonic() + 0.0007 * round_number
            while time.monotonic() < deadline:
                pass
            writer.send_signal(signal.SIGKILL)
            lines += writer.stdout.readlines()
            writer.wait(10)
        for word, number in (line.split()[:2] for line in lines if line.endswith("\n")):
            if word == "created":
                created.add(int(number))
            elif word == "finished":
                finished.add(int(number))
        # A turn may have been stored whose acknowledgement was lost with the process; the next one starts after it.
        created |= {max(created) + 1} if _is_there(database_url, max(created) + 1) else set()
    assert len(finished) > 20
    check_whole(tmp_path, database_url, created, finished)


def _is_there(url: str, number: int) -> bool:
    database = Database(url)
    database.open()
    try:
        query = text("SELECT count(*) FROM turns WHERE id = :id")
        return bool(database.read(lambda session: session.execute(query, {"id": f"t{number}"}).scalar()))
    finally:
        database.close()


def test_f55_on_a_full_disk_the_app_stays_alive_and_readable(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    script = f'mount -t tmpfs -o size=1m tmpfs {folder} && exec {sys.executable} -c "$1" {folder} 0'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", WRITER], capture_output=True, text=True, check=False, timeout=60
    )
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"no private mounts here: {done.stderr.strip()}")
    check_full(done)


def test_f55_under_a_file_size_limit_it_is_the_same_error(tmp_path: Path) -> None:
    def limit() -> None:
        # The empty tables take half of it.
        resource.setrlimit(resource.RLIMIT_FSIZE, (800_000, 800_000))

    argv = [sys.executable, "-c", WRITER, str(tmp_path), "0"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, preexec_fn=limit)
    check_full(done)
    finished = {int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("finished")}
    check_whole(tmp_path, sqlite_url(tmp_path / "diptych.db"), finished, finished)


def check_full(done: subprocess.CompletedProcess[str]) -> None:
    """It stored some, said that the disk is full, and what it had stored can be read."""
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    created = sum(line.startswith("created") for line in lines)
    assert created >= 5
    full = next(line for line in lines if line.startswith("full"))
    assert "The disk is full" in full
    readable = int(next(line for line in lines if line.startswith("readable")).split()[1])
    assert readable >= min(created, 500)
    assert lines[-1] == "integrity ok"
