"""The one door of the Benchmarks room: submitting a job, finding results. Blocking."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import JsonValue

from components.benchmark.flipped import FlippedItems, FlippedQuestion
from components.benchmark.intake import KIND
from components.benchmark.overrides import check_overrides, settings_of
from components.benchmark.spec import SUITE_CHOICES, BenchmarkSpec, SuiteChoice
from components.core.benchmarks import SUITES, BenchmarkRecord
from components.core.errors import InputError
from components.core.jobs import JobNeeds
from components.engines.catalog import Catalog, CatalogEntry
from components.engines.specs import cpu_memory_bytes
from components.jobs.queue import JobQueue
from components.profiles.schema import PairProfile
from components.storage.benchmarks import BenchmarkRepository

_GIB = 1024**3
_SPEC_FIELDS = ("models", "suite", "overrides")
_FILTER_FIELDS = ("source", "model", "suite", "job_id")
_GPU_SHARE = 0.9


@dataclass(frozen=True)
class BenchmarkSettings:
    """What the room needs of the app."""

    state_dir: Path
    repository: Path
    default_pair: str
    device: Literal["cpu", "cuda"]
    gpu_memory_bytes: int = 0  # of one GPU
    jobs_dir: Path | None = None  # None = in the state folder


class BenchmarkService:
    """Submits benchmarks and knows their results."""

    def __init__(
        self, catalog: Catalog, queue: JobQueue, records: BenchmarkRepository, settings: BenchmarkSettings
    ) -> None:
        self._catalog, self._queue, self._records, self._settings = catalog, queue, records, settings
        self._flipped = FlippedItems(settings.jobs_dir or settings.state_dir / "jobs")

    def submit(self, spec: Mapping[str, Any]) -> str:
        """Queue the job; equal work that waits or runs is not queued twice. Its id.

        Args:
            spec: ``{"models": …, "suite": …, "overrides": {…}}``; without ``models`` the running pair's base and its
                first candidate.

        Raises:
            InputError: something in it can't be used; names the field and what is accepted.
        """
        job = self.prepare(spec)
        document: dict[str, JsonValue] = orjson.loads(job.as_json())
        names = ", ".join(job.pair.model(name).label for name in job.candidate_ids)
        title = f"{job.suite.capitalize()} of {names} · {job.pair.title}"
        return self._queue.submit(KIND, document, title, self._needs(job), job.work_key).id

    def prepare(self, spec: Mapping[str, Any]) -> BenchmarkSpec:
        """What the driver is given.

        Raises:
            InputError: see ``submit``.
        """
        unknown = sorted(set(spec) - set(_SPEC_FIELDS))
        if unknown:
            raise InputError(
                f"There is no field {unknown[0]!r}.", f"Accepted: {', '.join(_SPEC_FIELDS)}.", field=unknown[0]
            )
        suite: SuiteChoice = spec.get("suite") or "all"
        if suite not in SUITE_CHOICES:
            hint = f"Accepted: {', '.join(SUITE_CHOICES)}."
            raise InputError(f"There is no suite {str(suite)[:40]!r}.", hint, field="suite")
        pair, candidates = self._models(spec.get("models"))
        overrides = check_overrides({} if spec.get("overrides") is None else spec["overrides"])
        settings = settings_of(overrides, pair, self._settings.repository, self._settings.device)
        asked = settings.accuracy
        if suite == "accuracy" and not (asked.file or asked.lm_eval or asked.vision_sets):
            raise InputError(
                f"There are no items for {pair.title}.", "Name a rows.jsonl with answers, or tasks of lm-eval.",
                field="overrides.items_file",
            )  # fmt: skip
        found = BenchmarkSpec(
            pair=pair, candidate_ids=candidates, suite=suite, quality=settings.quality, accuracy=settings.accuracy,
            throughput=settings.throughput, cost=settings.cost, device=self._settings.device,
            state_dir=str(self._settings.state_dir), repository=str(self._settings.repository), work_key="",
        )  # fmt: skip
        key = hashlib.sha256(found.as_json()).hexdigest()[:24]
        return found.model_copy(update={"work_key": key})

    def results(self, wanted: Mapping[str, Any]) -> list[BenchmarkRecord]:
        """Records that fit the filter; ``{}`` = all.

        Raises:
            InputError: the filter has an unknown field or value.
        """
        unknown = sorted(set(wanted) - set(_FILTER_FIELDS))
        if unknown:
            raise InputError(
                f"There is no field {unknown[0]!r}.", f"Accepted: {', '.join(_FILTER_FIELDS)}.", field=unknown[0]
            )
        accepted: dict[str, Sequence[str]] = {"source": ("measured", "published"), "suite": SUITES}
        for name, values in accepted.items():
            if wanted.get(name) is not None and wanted[name] not in values:
                hint = f"Accepted: {', '.join(values)}."
                raise InputError(f"There is no {name} {str(wanted[name])[:40]!r}.", hint, field=name)
        for name in ("model", "job_id"):
            if wanted.get(name) is not None and not isinstance(wanted[name], str):
                raise InputError(f"{name} is text.", "Accepted: pair/model, or a card's repository.", field=name)
        return self._records.find(**{name: wanted[name] for name in wanted if wanted[name] is not None})

    def flipped_folder(self, model: str, task: str) -> Path:
        """Rows and pictures of the items that flipped in the newest run.

        Raises:
            RecordNotFoundError: there are none.
        """
        return self._flipped.folder(self.results({"source": "measured", "model": model}), model, task)

    def flipped_question(self, model: str, task: str, item_id: str) -> FlippedQuestion:
        """One of them, to be asked again.

        Raises:
            RecordNotFoundError, InputError: there is none.
        """
        return self._flipped.question(self.results({"source": "measured", "model": model}), model, task, item_id)

    def choices(self) -> list[CatalogEntry]:
        """Candidates that can be measured here: those of our own engines."""
        return [entry for entry in self._catalog.entries() if entry.model.role == "candidate" and _is_local(entry)]

    def _models(self, named: object) -> tuple[PairProfile, tuple[str, ...]]:
        names = [named] if isinstance(named, str) else named
        if names is None or names in ([], [""]):
            names = [self._settings.default_pair]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) > 8:
            raise InputError("models is no list of names.", "Accepted: pair/model ids, or a pair.", field="models")
        pairs = {pair.id: pair for pair in self._catalog.pairs}
        entries: list[CatalogEntry] = []
        for name in names:
            if name in pairs:
                entries += self._catalog.of_pair(name)[:2]
            else:
                entries.append(self._catalog.find(name, field="models"))
        found = {entry.pair.id: entry.pair for entry in entries}
        candidates = tuple(dict.fromkeys(entry.model.id for entry in entries if entry.model.role == "candidate"))
        if len(found) != 1 or not candidates:
            raise InputError(
                "One candidate at least, and all of one pair, are needed.", f"Accepted: {self._accepted()}.",
                field="models",
            )  # fmt: skip
        pair = next(iter(found.values()))
        if any(not _is_local(entry) for entry in self._catalog.of_pair(pair.id)):
            raise InputError(
                f"{pair.title} has engines that run elsewhere.",
                "Exact figures need engines of our own.",
                field="models",
            )
        if pair.placement == "alternately":
            raise InputError(
                f"A benchmark has base and candidate up at the same time, and those of {pair.title} take turns.",
                "Start Diptych with --placement together where the memory holds both.",
                field="models",
            )
        return pair, candidates

    def _accepted(self) -> str:
        return ", ".join(entry.engine_id for entry in self.choices()) or "no candidate is here"

    def _needs(self, job: BenchmarkSpec) -> JobNeeds:
        pair = job.pair
        if self._settings.device == "cuda":
            return JobNeeds(
                memory_bytes=4 * _GIB, gpu_memory_bytes=int(_GPU_SHARE * self._settings.gpu_memory_bytes),
                disk_bytes=_GIB,
            )  # fmt: skip
        served = [pair.base, *(pair.model(name) for name in job.candidate_ids)]
        each = [cpu_memory_bytes(pair.serve_of(model)) for model in served]
        return JobNeeds(memory_bytes=each[0] + max(each[1:]), disk_bytes=_GIB)


def _is_local(entry: CatalogEntry) -> bool:
    return entry.model.source.kind != "remote"
