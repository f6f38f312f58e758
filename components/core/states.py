"""States of engines, jobs, sight, answers and repeats, and which may follow which: the words of supervisord and Ray."""

from __future__ import annotations

from enum import StrEnum


class EngineState(StrEnum):
    """State of a supervised server process. Readiness is a separate fact."""

    STOPPED = "STOPPED"  # not started, or stopped on request
    STARTING = "STARTING"  # being prepared or spawned, not yet answering
    RUNNING = "RUNNING"  # the server answers /health; says nothing about readiness to compare
    BACKOFF = "BACKOFF"  # ended too early; waiting, progressively longer, for the next try
    STOPPING = "STOPPING"  # asked to end
    EXITED = "EXITED"  # ended from RUNNING without being asked, whatever its exit code
    FATAL = "FATAL"  # given up; only a person starts it again


ENGINE_TRANSITIONS: dict[EngineState, frozenset[EngineState]] = {
    EngineState.STOPPED: frozenset({EngineState.STARTING}),
    EngineState.STARTING: frozenset(
        {EngineState.RUNNING, EngineState.BACKOFF, EngineState.STOPPING, EngineState.FATAL}
    ),
    EngineState.RUNNING: frozenset({EngineState.EXITED, EngineState.STOPPING}),
    EngineState.BACKOFF: frozenset({EngineState.STARTING, EngineState.STOPPING, EngineState.FATAL}),
    EngineState.STOPPING: frozenset({EngineState.STOPPED}),
    EngineState.EXITED: frozenset({EngineState.BACKOFF, EngineState.STARTING, EngineState.STOPPING, EngineState.FATAL}),
    EngineState.FATAL: frozenset({EngineState.STARTING}),
}


class Turn(StrEnum):
    """Where an engine stands that shares a device of which only one engine may be up."""

    AWAKE = "awake"  # it has the device: it is up, or on its way
    ASLEEP = "asleep"  # another one has it; a question wakes it when its turn comes


class JobState(StrEnum):
    """State of a job. The last three are terminal: a retry is a new attempt."""

    PENDING = "PENDING"  # queued
    RUNNING = "RUNNING"  # claimed; one process group works on it
    STOPPING = "STOPPING"  # a person asked for its end
    STOPPED = "STOPPED"  # ended because a person asked for it
    SUCCEEDED = "SUCCEEDED"  # its result is complete and was checked
    FAILED = "FAILED"  # it ended without a result; the reason is stored


JOB_TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.PENDING: frozenset({JobState.RUNNING, JobState.STOPPED}),
    # Back to PENDING only when it was claimed but never spawned.
    JobState.RUNNING: frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.STOPPING, JobState.PENDING}),
    # SUCCEEDED when the result was complete before the request came through.
    JobState.STOPPING: frozenset({JobState.STOPPED, JobState.SUCCEEDED, JobState.FAILED}),
    JobState.STOPPED: frozenset(),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
}


class Sight(StrEnum):
    """What the sight check found out about an engine."""

    UNKNOWN = "unknown"  # not checked yet
    CHECKING = "checking"  # the built-in pictures are being asked about
    SEES = "sees"  # its answers follow the picture
    BLIND = "blind"  # it answers alike with and without the picture
    UNCLEAR = "unclear"  # its answers follow the picture, but are wrong
    NONE = "none"  # a text model: nothing to see


class Outcome(StrEnum):
    """How an answer ended. Only FINISHED enters a metric."""

    STREAMING = "streaming"  # still being written
    FINISHED = "finished"  # the server gave a finish reason
    STOPPED = "stopped"  # a person stopped it, or closed the page
    TRUNCATED = "truncated"  # it ended without a finish reason; the partial text is kept
    FAILED = "failed"  # an error; whatever text came is kept


class RepeatState(StrEnum):
    """How the repeating of a turn stands. Whatever it is, the samples that ended are kept and counted."""

    RUNNING = "running"  # samples are being asked for
    FINISHED = "finished"  # every sample of every column was asked for and has ended
    INCOMPLETE = "incomplete"  # an engine gave out, so its column has fewer samples
    STOPPED = "stopped"  # a person stopped it, or closed the page
    INTERRUPTED = "interrupted"  # the app ended meanwhile
