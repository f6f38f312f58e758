"""What the app tells about itself to machines: Prometheus metrics, readiness, logs as JSON. Knows no page."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import text

from components.core.answers import Answer
from components.core.errors import StorageError
from components.core.scores import Method, Score
from components.core.states import EngineState, JobState, Outcome
from components.engines.supervisor import EngineHub
from components.jobs.queue import JobQueue
from components.storage.database import Database

# s. A first token comes after milliseconds from a small model and after minutes from a long prompt on a CPU.
_TTFT_BUCKETS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_TPOT_BUCKETS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0)
_SCORING_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_READY_KEPT_S = 2.0  # anybody may ask; the disk is looked at once in that time
_ENDS = tuple(outcome for outcome in Outcome if outcome is not Outcome.STREAMING)
_ACTIVE = (JobState.PENDING, JobState.RUNNING, JobState.STOPPING)


class Metrics:
    """Counters and histograms of one app, with the gauges read when they are asked for. Safe from any thread.

    Labels are engine ids, states, kinds and outcomes: their number is bounded by the catalog.
    """

    def __init__(self, hub: EngineHub, queue: JobQueue, job_kinds: Sequence[str]) -> None:
        self._hub = hub
        self._registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self._registry)
        self._registry.register(_Gauges(hub, queue, job_kinds))
        own: dict[str, Any] = {"registry": self._registry, "namespace": "diptych"}
        self._turns = Counter("turns", "Questions that were asked, by pair.", ("pair",), **own)
        self._answers = Counter("answers", "Answers that ended, by how.", ("engine", "outcome"), **own)
        self._tokens = Counter("output_tokens", "Tokens of answers that ended.", ("engine",), **own)
        self._ttft = Histogram(
            "ttft_seconds", "From sending a request to its first token.", ("engine",), buckets=_TTFT_BUCKETS, **own
        )
        self._tpot = Histogram(
            "tpot_seconds", "Time per output token, the first excluded.", ("engine",), buckets=_TPOT_BUCKETS, **own
        )
        self._scoring = Histogram(
            "scoring_seconds", "Scoring one answer between two engines.", ("method",), buckets=_SCORING_BUCKETS, **own
        )
        for method in get_args(Method):
            self._scoring.labels(method)  # from zero, as in _from_zero

    def turn(self, pair: str) -> None:
        """A question was asked."""
        self._turns.labels(pair).inc()

    def answer(self, engine_id: str, answer: Answer) -> None:
        """An answer has ended."""
        self._answers.labels(engine_id, answer.outcome.value).inc()
        self._tokens.labels(engine_id).inc(answer.usage.output_tokens or len(answer.tokens))
        if answer.timing.ttft_ms is not None:
            self._ttft.labels(engine_id).observe(answer.timing.ttft_ms / 1000)
        if answer.timing.tpot_ms is not None:
            self._tpot.labels(engine_id).observe(answer.timing.tpot_ms / 1000)

    def score(self, score: Score) -> None:
        """An answer was scored."""
        self._scoring.labels(score.method).observe(score.seconds)

    def exposition(self) -> bytes:
        """Everything in Prometheus' text format."""
        for status in self._hub.statuses():
            if status.state is not EngineState.STOPPED:
                self._from_zero(status.engine_id)
        return bytes(generate_latest(self._registry))

    def _from_zero(self, engine_id: str) -> None:
        """Show an engine's counters before they count: Prometheus sees no growth in one that begins at 1, so the first
        answer that failed would stand in no chart."""
        self._turns.labels(engine_id.partition("/")[0])
        for outcome in _ENDS:
            self._answers.labels(engine_id, outcome.value)
        for metric in (self._tokens, self._ttft, self._tpot):
            metric.labels(engine_id)


class _Gauges(Collector):
    """States of engines and jobs, as they are at the moment."""

    def __init__(self, hub: EngineHub, queue: JobQueue, job_kinds: Sequence[str]) -> None:
        self._hub, self._queue, self._job_kinds = hub, queue, job_kinds

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing: registering must not read the database."""
        return ()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """One family after the other."""
        state = GaugeMetricFamily(
            "diptych_engine_state", "1 for the state an engine is in.", labels=("engine", "state")
        )
        ready = GaugeMetricFamily("diptych_engine_ready", "1 = it answers and was checked.", labels=("engine",))
        restarts = GaugeMetricFamily("diptych_engine_restarts", "Since a person started it.", labels=("engine",))
        for status in self._hub.statuses():
            for one in EngineState:
                state.add_metric((status.engine_id, one.value), float(status.state is one))
            ready.add_metric((status.engine_id,), float(status.ready))
            restarts.add_metric((status.engine_id,), float(status.restarts))
        yield from (state, ready, restarts)
        jobs = GaugeMetricFamily(
            "diptych_jobs", "Jobs that have not ended, by kind and state.", labels=("kind", "state")
        )
        active = self._queue.active()
        for kind in self._job_kinds:
            for wanted in _ACTIVE:
                count = sum(job.kind == kind and job.state is wanted for job in active)
                jobs.add_metric((kind, wanted.value), float(count))
        yield jobs
        waiting = sum(job.state is JobState.PENDING for job in active)
        yield GaugeMetricFamily("diptych_job_queue_length", "Jobs that wait.", value=float(waiting))


class Readiness:
    """Whether questions can be asked: records can be written and the engines started with the app are ready, or asleep
    until it is their turn."""

    def __init__(self, database: Database, folder: Path, hub: EngineHub, engines: Sequence[str]) -> None:
        self._database, self._folder, self._hub, self._engines = database, folder, hub, tuple(engines)
        self._seen: tuple[float, str] | None = None

    def missing(self, *, named: bool) -> list[str]:
        """What is missing, in sentences; empty = ready. Blocks for as long as a small write takes.

        Args:
            named: whether the caller may know the engines' names and the reason of a fault.
        """
        fault = self._records_fault()
        found = [f"Records can't be written: {fault}" if named else "Records can't be written."] if fault else []
        statuses = [self._hub.status(one) for one in self._engines]
        idle = [status for status in statuses if not (status.ready or status.is_asleep)]
        if idle and not named:
            found.append(f"{len(idle)} of {len(self._engines)} engines are not ready.")
        elif idle:
            found += [f"{s.engine_id} is {s.state.value}: {s.reason or s.message or 'not ready'}" for s in idle]
        return found

    def _records_fault(self) -> str:
        now = time.monotonic()
        if self._seen is None or now - self._seen[0] > _READY_KEPT_S:
            self._seen = (now, self._try_to_write())
        return self._seen[1]

    def _try_to_write(self) -> str:
        try:
            self._database.write(lambda session: session.execute(text("SELECT 1")).scalar())
            with tempfile.NamedTemporaryFile(dir=self._folder, prefix="ready-") as probe:
                probe.write(b"x")
                probe.flush()
                os.fsync(probe.fileno())
        except (StorageError, OSError) as exc:
            return str(exc)
        return ""


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, and the traceback of a fault."""

    def format(self, record: logging.LogRecord) -> str:
        """A record as a line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def log_as_json(level: int = logging.INFO) -> None:
    """Everything that is logged from now on goes to standard error as JSON."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
