"""What a job's events add up to. Reads the job's folder, piece by piece."""

from __future__ import annotations

from pydantic import AwareDatetime, Field

from components.core.answers import Record
from components.jobs.records import JobEvent, JobFolder

MAX_LOSSES = 400  # for a small curve; later ones push the earliest out


class JobProgress(Record):
    """How far a job is. What is not known is None."""

    phase: str = ""
    step: int | None = None
    steps: int | None = None
    message: str = ""
    losses: tuple[float, ...] = Field(default=(), description="Block by block, in order")
    peak_memory_bytes: int | None = None
    remaining_s: float | None = None
    phases: tuple[str, ...] = Field(default=(), description="In the order they began")
    began_at: AwareDatetime | None = Field(default=None, description="When the first event came")
    whole: float | None = Field(default=None, description="Of the whole job, 0 to 1, by remaining_s; never goes back")

    def after(self, event: JobEvent) -> JobProgress:
        """With one more event."""
        peaks = [peak for peak in (self.peak_memory_bytes, event.peak_memory_bytes) if peak is not None]
        return JobProgress(
            phase=event.phase,
            step=event.step,
            steps=event.steps,
            message=event.message or (self.message if event.phase == self.phase else ""),
            losses=self.losses if event.loss is None else (*self.losses, event.loss)[-MAX_LOSSES:],
            peak_memory_bytes=max(peaks, default=None),
            remaining_s=event.remaining_s,
            phases=self.phases if event.phase in self.phases else (*self.phases, event.phase),
            began_at=self.began_at or event.at,
            whole=self._whole_after(event),
        )

    def _whole_after(self, event: JobEvent) -> float | None:
        """An estimate grows while a step takes longer than the one before; the part that is done does not shrink."""
        if event.remaining_s is None:
            return self.whole
        elapsed_s = max((event.at - (self.began_at or event.at)).total_seconds(), 0.0)
        total_s = elapsed_s + event.remaining_s
        return max(self.whole or 0.0, elapsed_s / total_s if total_s > 0 else 1.0)

    @property
    def fraction(self) -> float | None:
        """Of the present phase, 0 to 1; None when it is not known."""
        if self.step is None or not self.steps:
            return None
        return min(self.step / self.steps, 1.0)


class ProgressReader:
    """Follows the events of one job."""

    def __init__(self, folder: JobFolder) -> None:
        self._folder = folder
        self._offset = 0
        self.value = JobProgress()

    def update(self) -> bool:
        """Read what was written since; whether there was something."""
        events, self._offset = self._folder.read_events(self._offset)
        for event in events:
            self.value = self.value.after(event)
        return bool(events)
