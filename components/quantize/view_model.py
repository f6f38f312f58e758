"""Jobs → plain values that assets/js/jobs.js draws, and the API's answer. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from components.core.jobs import ClusterMark, Job
from components.core.states import JobState
from components.jobs.service import JobView

_TONES = {JobState.SUCCEEDED: "ok", JobState.FAILED: "bad", JobState.STOPPED: "soft", JobState.PENDING: "soft"}
_LOSSES_SHOWN = 120


def job_api_view(view: JobView, log_tail: Sequence[str], *, may_control: bool = True) -> dict[str, Any]:
    """Result of the endpoints ``/job`` and ``/cancel``. What is not known is null.

    Results and reasons name folders and quote logs: visitors of a demo get neither.
    """
    job, progress = view.job, view.progress
    return {
        "job_id": job.id,
        "kind": job.kind,
        "title": job.title,
        "state": job.state.value,
        "progress": view.fraction,
        "message": _message(view, may_control=may_control),
        "log_tail": list(log_tail) if may_control else [],
        "result": job.result if may_control else None,
        "failure_reason": job.failure_reason if may_control else None,
        "phase": progress.phase or None,
        "step": progress.step,
        "steps": progress.steps,
        "remaining_s": progress.remaining_s,
        "loss": progress.losses[-1] if progress.losses else None,
        "peak_memory_bytes": progress.peak_memory_bytes,
        "attempt": job.attempt,
        "retry_of": job.retry_of,
        "created_at": job.created_at.isoformat(),
        "started_at": _iso(job.started_at),
        "ended_at": _iso(job.ended_at),
    }


def board_view(
    views: Sequence[JobView],
    now: datetime,
    *,
    may_control: bool,
    files: Callable[[Job], Sequence[str]],
    known_engines: Collection[str],
) -> dict[str, Any]:
    """The list of jobs: what runs and waits, then what has ended."""
    rows = [_row(view, now, may_control=may_control) for view in views]
    for row, view in zip(rows, views, strict=True):
        row["files"] = list(files(view.job)) if may_control else []
        row["engine"] = _engine_of(view.job, known_engines)
    made = [row for row in rows if row["summary"]]
    for row in made[:1]:
        row["is_newest"] = True
    pending = [row for row in rows if row["state"] == JobState.PENDING]
    for place, row in enumerate(pending):
        if may_control and len(pending) > 1:
            row["actions"] += (["up"] if place else []) + (["down"] if place < len(pending) - 1 else [])
    return {"jobs": rows, "may_control": may_control}


def _row(view: JobView, now: datetime, *, may_control: bool) -> dict[str, Any]:
    job, progress = view.job, view.progress
    running = job.state in (JobState.RUNNING, JobState.STOPPING)
    return {
        "id": job.id,
        "title": job.title,
        "state": job.state.value,
        "tone": _TONES.get(job.state, ""),
        "message": "" if job.state is JobState.SUCCEEDED else _message(view, may_control=may_control),
        "fraction": view.fraction if running else None,
        "is_running": running,
        "facts": _facts(view, now),
        "phases": list(progress.phases) if running else [],
        "is_newest": False,
        "losses": list(progress.losses[-_LOSSES_SHOWN:]),
        "stops": list(view.stoppable) if may_control else [],
        "actions": _actions(job) if may_control else [],
        "summary": summary(job.result or {}) if may_control else [],
        "attempt": job.attempt,
    }


def _message(view: JobView, *, may_control: bool) -> str:
    return "Failed." if view.job.state is JobState.FAILED and not may_control else view.message


def _actions(job: Job) -> list[str]:
    if job.state is JobState.STOPPING:
        return []
    if not job.has_ended:
        return ["cancel"]
    again = ["publish"] if job.state is JobState.SUCCEEDED else ["retry"]
    if job.kind == "quantize":  # the form knows no other kind, and no other makes what can be published
        return [*again, "duplicate"]
    # A part of a batch is asked again when its batch is resumed, in Review.
    return [action for action in again if action == "retry" and job.kind != "batch"]


def _facts(view: JobView, now: datetime) -> list[str]:
    job, progress = view.job, view.progress
    parts = [f"attempt {job.attempt}" if job.attempt > 1 else ""]
    parts.append("on the Ray cluster" if isinstance(job.process, ClusterMark) else "")
    if job.state in (JobState.RUNNING, JobState.STOPPING):
        if progress.steps:
            parts.append(f"step {progress.step or 0} of {progress.steps}")
        if job.started_at is not None:
            parts.append(f"running for {duration((now - job.started_at).total_seconds())}")
        if progress.remaining_s is not None:
            parts.append(f"about {duration(progress.remaining_s)} left")
    elif job.has_ended and job.ended_at is not None:
        if job.started_at is not None:
            parts.append(f"took {duration((job.ended_at - job.started_at).total_seconds())}")
        parts.append(f"{job.ended_at:%Y-%m-%d %H:%M} UTC")
    if progress.losses:
        parts.append(f"loss {progress.losses[-1]:.3g}")
    if progress.peak_memory_bytes:
        parts.append(f"peak memory {size(progress.peak_memory_bytes)}")
    return [part for part in parts if part]


def _engine_of(job: Job, known_engines: Collection[str]) -> str | None:
    """The engine that serves what a job made; None while there is none."""
    engine_id = (job.result or {}).get("engine_id")
    return engine_id if isinstance(engine_id, str) and engine_id in known_engines else None


def summary(result: Mapping[str, Any]) -> list[list[str]]:
    """Rows of what came out; only what the job measured."""
    if "repo_id" in result:
        return _published(result)
    rows = [
        ["Size", _sizes(_number(result, "size_before_bytes"), _number(result, "size_after_bytes"))],
        ["Bits per weight", _bits(_number(result, "bits_per_weight"), _number(result, "bits_per_quantized_weight"))],
        ["Quantized", _share(_number(result, "quantized_weights"), _number(result, "weights"))],
        ["Stays in 16 bits", _kept(result.get("stays_16_bit"))],
    ]
    check = result.get("check")
    if isinstance(check, dict):
        kl, floor = _number(check, "mean_kl_base_to_candidate_nats"), _number(check, "noise_floor_nats")
        missing = str(check.get("kl_missing") or "not measured")
        beside = f"; noise floor {floor:.2g}" if floor is not None else ""
        rows += [
            [
                "Served by vLLM",
                {"sees": "yes, and it sees", "none": "yes"}.get(str(check.get("sight")), str(check.get("sight"))),
            ],
            ["Mean KL from the base", f"{kl:.4g} nats{beside}" if kl is not None else missing],
            ["Asked", str(check.get("prompt") or "")],
            ["It answered", str(check.get("answer") or "")],
        ]
    if result.get("emulated"):
        rows.append(["Emulated", "served decompressed: this machine has no kernel for the scheme"])
    return [row for row in rows if row[1]]


def _published(result: Mapping[str, Any]) -> list[list[str]]:
    """What a hub has now."""
    seen_by = "you and your organisation" if result.get("private") else "everyone"
    return [
        ["Repository", str(result.get("url"))],
        ["Commit", str(result.get("commit"))],
        ["Seen by", seen_by],
        ["Sent", f"{result.get('files')} files, {size(_number(result, 'size_bytes') or 0)}"],
    ]


def _sizes(before: float | None, after: float | None) -> str:
    return f"{size(before)} → {size(after)} ({after / before:.0%})" if before and after else ""


def _bits(whole: float | None, quantized: float | None) -> str:
    if whole is None:
        return ""
    return f"{whole:.2f}" + (f", {quantized:.2f} where quantized" if quantized is not None else "")


def _share(quantized: float | None, weights: float | None) -> str:
    return f"{quantized / weights:.1%} of the weights" if quantized is not None and weights else ""


def _kept(parts: Any) -> str:
    if not isinstance(parts, list):
        return ""
    named = [part for part in parts if isinstance(part, dict)]
    return ", ".join(f"{part.get('name')} {size(_number(part, 'size_bytes') or 0)}" for part in named)


def size(count: float) -> str:
    """Bytes for people, in powers of 1000 as files and disks are given."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count:.0f} B"


def duration(seconds: float) -> str:
    """A time span for people, in its two largest units."""
    whole = max(int(seconds), 0)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _number(result: Mapping[str, Any], key: str) -> float | None:
    value = result.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
