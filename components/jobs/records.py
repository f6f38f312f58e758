"""What a job and the app tell each other: files in the job's folder, and their records. Pure files, no database.

Used on both sides: the app writes ``spec.json`` and reads the rest, the job's driver reads ``spec.json`` and writes the
rest. Whoever reads must bear what a killed process leaves behind: half a line, no exit record.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, BeforeValidator, Field, JsonValue, ValidationError

from components.core.answers import Record
from components.core.clock import utc_now
from components.core.errors import DiskFullError, StorageError
from components.core.states import JobState
from components.storage.atomic_write import make_private_folder, translate_os_error, write_atomically

RESERVE_BYTES = 256 * 1024  # kept free for the exit record, so that a job on a full disk can still say why it ended
MAX_READ_BYTES = 4 * 2**20  # of events at once
RECORD = "record"
EndState = Literal["SUCCEEDED", "FAILED", "STOPPED"]


# Cut, not refused: an event tells of work, it must never end it.
_Line = Annotated[str, BeforeValidator(lambda text: text[:1000] if isinstance(text, str) else text)]


class JobEvent(Record):
    """One step forward, as the driver tells it. What is not known is None, never 0."""

    at: AwareDatetime = Field(default_factory=utc_now)
    phase: _Line = Field(description="What the job is doing, in a few words: Calibrating, Checking …")
    step: int | None = Field(default=None, ge=0, description="Finished steps of this phase (layers, blocks, samples)")
    steps: int | None = Field(default=None, ge=0, description="All steps of this phase")
    message: _Line = Field(default="", description="One line for a person")
    loss: float | None = Field(default=None, description="Of the block just done, where the tool gives it")
    peak_memory_bytes: int | None = Field(default=None, ge=0, description="Highest resident or device memory so far")
    remaining_s: float | None = Field(default=None, ge=0, description="Estimate for the whole job")


class JobExit(Record):
    """How a job ended. Written last, once, whole."""

    state: EndState
    failure_reason: str | None = None
    result: dict[str, JsonValue] | None = None
    ended_at: AwareDatetime = Field(default_factory=utc_now)


class JobFolder:
    """The files of one job. A new attempt has a new folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spec = path / "spec.json"
        self.events = path / "events.jsonl"
        self.log = path / "log.txt"
        self.exit = path / "exit.json"
        self.exit_code = path / "exit_code"
        self.result = path / "result"
        self.partial = path / "result.partial"  # what is being made; renamed to ``result`` when complete and checked
        self.record = path / "record"  # how the work was done: small files for a person, kept however it ended
        self._reserve = path / "reserve"

    @property
    def common(self) -> Path:
        """Beside the folder of all jobs, the same on every node: what one attempt keeps for the next lies in it."""
        return self.path.parent.parent

    # -- the app's side ---------------------------------------------------------------------------------------------

    def create(self, spec: dict[str, JsonValue]) -> None:
        """Make the folder and write the spec.

        Raises:
            DiskFullError, StorageError: the folder can't be written.
        """
        try:
            make_private_folder(self.path)
            self._reserve.write_bytes(bytes(RESERVE_BYTES))
        except OSError as exc:
            raise translate_os_error(exc, self.path) from exc
        self._write(self.spec, json.dumps(spec, ensure_ascii=False, indent=1, allow_nan=False))

    def read_events(self, offset: int) -> tuple[list[JobEvent], int]:
        """Events since ``offset`` (bytes) and the offset to go on from. A line that is no event is passed over."""
        try:
            with self.events.open("rb") as file:
                file.seek(offset)
                data = file.read(MAX_READ_BYTES)
        except FileNotFoundError:
            return [], offset
        whole, _, _ = data.rpartition(b"\n")
        if not whole and len(data) < MAX_READ_BYTES:
            return [], offset  # nothing, or a line that is still being written
        events = [event for line in whole.split(b"\n") if (event := _parse_event(line)) is not None]
        return events, offset + (len(whole) + 1 if whole else len(data))

    def read_exit(self) -> JobExit | None:
        """How the job ended; None when it did not say."""
        try:
            return JobExit.model_validate_json(self.exit.read_bytes())
        except (OSError, ValidationError):
            return None

    def read_exit_code(self) -> int | None:
        """Of the driver, as its launcher saw it, negative for a signal; None when nobody noted it."""
        try:
            return int(self.exit_code.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    # -- the driver's side ------------------------------------------------------------------------------------------

    def read_spec(self) -> dict[str, JsonValue]:
        """The job's input.

        Raises:
            StorageError: the file is missing or is not what the app wrote.
        """
        try:
            spec = json.loads(self.spec.read_bytes())
        except (OSError, ValueError) as exc:
            raise StorageError("The job's spec.json can't be read.", detail=str(exc)) from exc
        if not isinstance(spec, dict):
            raise StorageError("The job's spec.json is not an object.")
        return spec

    def append_event(self, event: JobEvent) -> None:
        """Add one line. Several processes of the job may do so at once.

        Raises:
            DiskFullError, StorageError: it could not be written.
        """
        line = event.model_dump_json().encode() + b"\n"
        try:
            descriptor = os.open(self.events, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError as exc:
            raise translate_os_error(exc, self.events) from exc

    def write_exit(self, record: JobExit) -> None:
        """Say how the job ended; the last thing a driver does. On a full disk the reserve is used up for it.

        Raises:
            DiskFullError, StorageError: it could not be written; the app will call the job lost.
        """
        text = record.model_dump_json()
        try:
            self._write(self.exit, text)
        except DiskFullError:
            self._reserve.unlink(missing_ok=True)
            self._write(self.exit, text)
        self._reserve.unlink(missing_ok=True)

    def small_files(self) -> dict[str, Path]:
        """What may be downloaded, by name: the job's own files, and its record, which a result has inside."""
        found: dict[str, Path] = {}
        for folder in (self.path, self.record, self.partial / RECORD, self.result / RECORD):
            with suppress(FileNotFoundError, NotADirectoryError):
                found |= {entry.name: entry for entry in sorted(folder.iterdir()) if _is_plain(entry)}
        found.pop(self._reserve.name, None)
        return found

    def drop_unfinished(self) -> None:
        """Remove output that is no result, so that it is never taken for one (F53); its record stays."""
        for left in (self.partial, self.result):
            if not self.record.exists():
                with suppress(OSError):
                    (left / RECORD).rename(self.record)
            shutil.rmtree(left, ignore_errors=True)

    def finish_result(self) -> None:
        """Give the complete, checked output its name.

        Raises:
            StorageError: it could not be renamed.
        """
        try:
            self.partial.rename(self.result)
        except OSError as exc:
            raise translate_os_error(exc, self.result) from exc

    def _write(self, target: Path, text: str) -> None:
        write_atomically(target, text.encode(), self.path)


def end_state(record: JobExit) -> JobState:
    """The job's state that an exit record stands for."""
    return JobState(record.state)


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _parse_event(line: bytes) -> JobEvent | None:
    try:
        return JobEvent.model_validate_json(line)
    except ValidationError:
        return None
