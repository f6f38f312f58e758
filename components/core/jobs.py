"""Records of jobs: long work that outlives the page and the app. Pure data; nothing here starts or stores one."""

from __future__ import annotations

from pydantic import Field, JsonValue

from components.core.answers import Record
from components.core.states import JobState
from components.core.traces import RecordId, UtcDatetime


class JobNeeds(Record):
    """What a job takes while it runs; 0 = nothing worth waiting for."""

    memory_bytes: int = Field(default=0, ge=0, description="Of the machine, at its peak")
    gpu_memory_bytes: int = Field(default=0, ge=0, description="Of one GPU, at its peak; 0 = it uses none")
    disk_bytes: int = Field(default=0, ge=0, description="In the state folder, for the result and what it is made of")


class ClusterShare(Record):
    """What each job asks a cluster for, beside its memory."""

    cpus: float = Field(ge=0)
    gpus: float = Field(ge=0)


class ProcessMark(Record):
    """Which process leads a job's group: a pid alone may be given to another process after its end."""

    pid: int
    start_ticks: int = Field(description="Clock ticks since boot at which it started")
    boot_id: str


class ClusterMark(Record):
    """Which job of which cluster an attempt is."""

    address: str = Field(description="Of the cluster's job server, without any credential")
    submission_id: str = Field(description="Under which the cluster knows it")


Mark = ProcessMark | ClusterMark


class Job(Record):
    """One attempt at one piece of work. A retry is a new job that names the one it repeats."""

    id: RecordId
    kind: str = Field(description="Which driver runs it: quantize …")
    title: str = Field(description="One line for a person")
    fingerprint: str = Field(description="Equal for equal work: of those that wait or run there is only one")
    spec: dict[str, JsonValue] = Field(description="The driver's input, never changed")
    needs: JobNeeds = JobNeeds()
    state: JobState = JobState.PENDING
    position: int = Field(default=0, description="Order in the queue; smaller is sooner")
    attempt: int = Field(default=1, ge=1)
    retry_of: RecordId | None = Field(default=None, description="The attempt before this one")
    process: Mark | None = Field(default=None, description="Where it runs; None until it was started")
    failure_reason: str | None = None
    result: dict[str, JsonValue] | None = None
    created_at: UtcDatetime
    started_at: UtcDatetime | None = None
    ended_at: UtcDatetime | None = None

    @property
    def has_ended(self) -> bool:
        """Whether its state is terminal."""
        return self.state in ENDED


class JobChange(Record):
    """One change of a job's state, for its history."""

    state: JobState
    at: UtcDatetime
    message: str = ""


ENDED = frozenset({JobState.STOPPED, JobState.SUCCEEDED, JobState.FAILED})
ACTIVE = frozenset(JobState) - ENDED
