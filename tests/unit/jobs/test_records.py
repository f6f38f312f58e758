"""The files of a job: events in pieces, an exit record that is whole or absent, a full disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.core.errors import DiskFullError, StorageError
from components.core.states import JOB_TRANSITIONS, JobState
from components.jobs import records
from components.jobs.records import JobEvent, JobExit, JobFolder


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    made = JobFolder(tmp_path / "job-1")
    made.create({"recipe": "w4a16-gptq", "overrides": {"group_size": 64}})
    return made


def test_spec_comes_back_as_it_was_given(folder: JobFolder) -> None:
    assert folder.read_spec() == {"recipe": "w4a16-gptq", "overrides": {"group_size": 64}}
    assert folder.spec.stat().st_mode & 0o077 == 0


def test_events_are_read_piece_by_piece_and_half_a_line_waits(folder: JobFolder) -> None:
    folder.append_event(JobEvent(phase="Loading"))
    events, offset = folder.read_events(0)
    assert [event.phase for event in events] == ["Loading"]
    assert folder.read_events(offset) == ([], offset)
    line = JobEvent(phase="Calibrating", step=1, steps=8, loss=0.5).model_dump_json()
    with folder.events.open("a") as file:
        file.write("no event at all\n" + line[:20])
    events, offset = folder.read_events(offset)
    assert events == []
    with folder.events.open("a") as file:
        file.write(line[20:] + "\n")
    events, offset = folder.read_events(offset)
    assert [(event.step, event.steps, event.loss) for event in events] == [(1, 8, 0.5)]
    assert offset == folder.events.stat().st_size


def test_a_line_longer_than_a_read_does_not_stop_the_reading(
    folder: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "MAX_READ_BYTES", 400)
    with folder.events.open("a") as file:
        file.write("x" * 900 + "\n")
    folder.append_event(JobEvent(phase="Loading"))
    offset, seen = 0, []
    for _ in range(6):
        events, offset = folder.read_events(offset)
        seen += events
    assert [event.phase for event in seen] == ["Loading"]


def test_exit_is_absent_or_whole(folder: JobFolder) -> None:
    assert folder.read_exit() is None
    folder.exit.write_text('{"state": "SUCC')
    assert folder.read_exit() is None
    folder.write_exit(JobExit(state="SUCCEEDED", result={"folder": "result"}))
    ended = folder.read_exit()
    assert ended is not None and ended.state == "SUCCEEDED" and ended.result == {"folder": "result"}


def test_the_reserve_lets_a_job_say_that_the_disk_is_full(folder: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    reserve, write = folder.path / "reserve", records.write_atomically
    assert reserve.stat().st_size == records.RESERVE_BYTES

    def full_while_reserved(target: Path, data: bytes, temp_dir: Path) -> None:
        if reserve.exists():
            raise DiskFullError("The disk is full.")
        write(target, data, temp_dir)

    monkeypatch.setattr(records, "write_atomically", full_while_reserved)
    folder.write_exit(JobExit(state="FAILED", failure_reason="The disk is full."))
    ended = folder.read_exit()
    assert ended is not None and ended.failure_reason == "The disk is full."


def test_a_missing_or_wrong_spec_is_an_error_of_ours(folder: JobFolder) -> None:
    folder.spec.write_text("[1]")
    with pytest.raises(StorageError):
        folder.read_spec()
    folder.spec.unlink()
    with pytest.raises(StorageError):
        folder.read_spec()


def test_terminal_states_are_never_left() -> None:
    terminal = {JobState.STOPPED, JobState.SUCCEEDED, JobState.FAILED}
    assert {state for state, after in JOB_TRANSITIONS.items() if not after} == terminal
    assert set(JOB_TRANSITIONS) == set(JobState)


def test_unfinished_output_goes_and_its_record_stays(folder: JobFolder) -> None:
    (folder.partial / "record").mkdir(parents=True)
    (folder.partial / "record" / "quantize.py").write_text("the script")
    (folder.partial / "model.safetensors").write_bytes(b"half")
    assert set(folder.small_files()) == {"spec.json", "quantize.py"}
    folder.drop_unfinished()
    assert not folder.partial.exists()
    assert folder.small_files()["quantize.py"].read_text() == "the script"
    folder.drop_unfinished()  # nothing is left to do


def test_a_link_is_no_file_to_download(folder: JobFolder) -> None:
    (folder.path / "passwd").symlink_to("/etc/passwd")
    folder.result.mkdir()
    (folder.result / "model.safetensors").write_bytes(b"large")
    assert set(folder.small_files()) == {"spec.json"}
