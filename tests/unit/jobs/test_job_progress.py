"""What events add up to, and how a job's end is told from what it left."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from components.core.jobs import Job, ProcessMark
from components.core.states import JobState
from components.jobs.detached import DetachedGroup
from components.jobs.endings import how_it_ended
from components.jobs.progress import MAX_LOSSES, JobProgress
from components.jobs.records import JobEvent, JobExit, JobFolder
from components.jobs.service import JobView

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def job(state: JobState = JobState.RUNNING, **changes: object) -> Job:
    values = {"id": "quantize-1", "kind": "quantize", "title": "t", "fingerprint": "f", "spec": {}, "created_at": NOW}
    return Job.model_validate({**values, "state": state, **changes})


def after(*events: JobEvent) -> JobProgress:
    progress = JobProgress()
    for event in events:
        progress = progress.after(event)
    return progress


def test_phases_losses_and_the_peak_add_up() -> None:
    progress = after(
        JobEvent(phase="Source", message="Looking", peak_memory_bytes=5),
        JobEvent(phase="Quantizing", step=1, steps=4, loss=0.5, peak_memory_bytes=9),
        JobEvent(phase="Quantizing", step=2, steps=4, loss=0.25, peak_memory_bytes=7),
    )
    assert progress.phases == ("Source", "Quantizing")
    assert progress.losses == (0.5, 0.25)
    assert progress.peak_memory_bytes == 9
    assert progress.fraction == 0.5
    assert progress.message == ""


def test_a_message_stays_until_the_phase_ends() -> None:
    first = JobEvent(phase="Quantizing", message="Block 1")
    assert after(first, JobEvent(phase="Quantizing", step=1, steps=2)).message == "Block 1"
    assert after(first, JobEvent(phase="Checking")).message == ""


def test_only_so_many_losses_are_kept() -> None:
    progress = after(*(JobEvent(phase="p", loss=float(i)) for i in range(MAX_LOSSES + 5)))
    assert len(progress.losses) == MAX_LOSSES
    assert progress.losses[-1] == MAX_LOSSES + 4


def test_what_is_not_known_is_not_zero() -> None:
    progress = after(JobEvent(phase="Source"))
    assert (progress.fraction, progress.peak_memory_bytes, progress.remaining_s) == (None, None, None)
    view = JobView(job=job(started_at=NOW), progress=progress)
    assert view.fraction is None
    assert view.message == "Source"


def test_the_whole_job_by_its_remaining_time_never_goes_back() -> None:
    def at(second: int, remaining_s: float | None) -> JobEvent:
        return JobEvent(
            at=NOW + timedelta(seconds=second), phase="Quantizing", step=1, steps=100, remaining_s=remaining_s
        )

    def fraction(*events: JobEvent) -> float | None:
        return JobView(job=job(), progress=after(*events)).fraction

    assert fraction(at(0, None), at(30, 90)) == 0.25
    assert fraction(at(0, None), at(30, 90), at(40, 200)) == 0.25
    assert fraction(at(0, None), at(30, 90), at(90, 10)) == 0.9
    assert fraction(at(0, None), at(30, 90), at(31, None)) == 0.01  # the phase's own; nothing is known of the whole
    assert JobView(job=job(JobState.SUCCEEDED), progress=JobProgress()).fraction == 1.0
    assert JobView(job=job(JobState.PENDING), progress=JobProgress()).fraction == 0.0


def test_f54_one_rule_for_every_end(tmp_path: Path) -> None:
    """A complete success counts whatever was asked; else asking makes it STOPPED; else it FAILED, with a reason."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    mark = ProcessMark(pid=1, start_ticks=0, boot_id=boot_id)
    expected = {
        ("SUCCEEDED", JobState.RUNNING): JobState.SUCCEEDED,
        ("SUCCEEDED", JobState.STOPPING): JobState.SUCCEEDED,
        ("FAILED", JobState.RUNNING): JobState.FAILED,
        ("FAILED", JobState.STOPPING): JobState.STOPPED,
        ("STOPPED", JobState.RUNNING): JobState.FAILED,  # something else asked it to end
        ("STOPPED", JobState.STOPPING): JobState.STOPPED,
        (None, JobState.RUNNING): JobState.FAILED,
        (None, JobState.STOPPING): JobState.STOPPED,
    }
    for number, ((said, state), ending) in enumerate(expected.items()):
        folder = JobFolder(tmp_path / str(number))
        folder.create({})
        if said:
            folder.write_exit(JobExit.model_validate({"state": said}))
        found = how_it_ended(job(state), folder, DetachedGroup(folder, mark), {})
        assert found.state is ending, (said, state)
        assert bool(found.reason) == (ending is not JobState.SUCCEEDED)


def test_a_job_whose_folder_is_gone_has_ended_all_the_same(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path / "gone")
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    mark = ProcessMark(pid=1, start_ticks=0, boot_id=boot_id)
    ending = how_it_ended(job(), folder, DetachedGroup(folder, mark), {})
    assert (ending.state, ending.reason) == (JobState.FAILED, "The job's folder is gone.")


def test_a_survivor_is_said_in_words(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    mark = ProcessMark(pid=1, start_ticks=0, boot_id="b")
    ending = how_it_ended(job(), folder, DetachedGroup(folder, mark), {42: "python"})
    assert ending.state is JobState.FAILED
    assert "42 python" in ending.reason
