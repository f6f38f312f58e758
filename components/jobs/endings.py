"""How a job ended, from what it left behind, and what to do with output that was not finished."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from components.core.jobs import Job
from components.core.states import JobState
from components.jobs.logs import LogTail
from components.jobs.places import Attempt
from components.jobs.records import JobFolder, end_state

CANCELLED = "Cancelled."
_KILLED = 9
_LEAST_FREE_BYTES = 1_000_000


@dataclass(frozen=True)
class Ending:
    """A terminal state with its reason or its result."""

    state: JobState
    reason: str = ""
    result: dict[str, JsonValue] | None = None


def how_it_ended(job: Job, folder: JobFolder, attempt: Attempt, survivors: Mapping[int, str]) -> Ending:
    """The one rule (F53, F54): a complete exit record decides; without one, asking for the end makes it STOPPED.

    Args:
        job: as it stood in the database when its end was seen.
        folder: its files.
        attempt: its processes, the launcher gone.
        survivors: processes that could not be ended: pid → name.
    """
    if survivors:
        names = ", ".join(f"{pid} {name}" for pid, name in survivors.items())
        return Ending(
            JobState.FAILED, f"Processes of this job could not be ended: {names}. End them by hand (kill -9)."
        )
    said = folder.read_exit()
    cancelled = job.state is JobState.STOPPING
    if said is not None and end_state(said) is JobState.SUCCEEDED:
        return Ending(JobState.SUCCEEDED, result=said.result)
    if cancelled:
        return Ending(JobState.STOPPED, CANCELLED)
    if said is not None and end_state(said) is JobState.FAILED:
        return Ending(JobState.FAILED, said.failure_reason or "The job failed without a reason.")
    return Ending(JobState.FAILED, _with_log(_lost(folder, attempt, stopped=said is not None), folder))


def _lost(folder: JobFolder, attempt: Attempt, *, stopped: bool) -> str:
    if known := attempt.why_lost():
        return known
    if stopped:
        return "The job was asked to end by something outside Diptych."
    if not folder.path.is_dir():
        return "The job's folder is gone."
    if shutil.disk_usage(folder.path).free < _LEAST_FREE_BYTES:
        return "The disk is full, and the job ended without being able to say why."
    code = attempt.exit_code()
    if code is None:
        return "The job's processes are gone, and nobody noted why: something ended them all at once."
    if code == -_KILLED:
        return (
            "The job was killed (signal 9). The system does that when memory runs out; a person may have done it too."
        )
    what = f"by signal {-code}" if code < 0 else f"with code {code}"
    return f"The job's driver ended {what} before it could say why."


def _with_log(reason: str, folder: JobFolder) -> str:
    lines = [line for line in LogTail(folder.log).last(20) if not line.startswith("[launcher]")]
    return f"{reason} Its log ends with: {lines[-1]}" if lines else reason
