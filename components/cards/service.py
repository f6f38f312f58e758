"""Finds what a card is made of: records, the profile, the files, the job that made the model. Blocking."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.cards.card import build_card
from components.cards.facts import Card, CardFacts, FileFact, Prose
from components.cards.hardware import HardwareTable
from components.cards.licence import licence_in
from components.cards.prose import ProseStore
from components.core.errors import InputError, PreparationError
from components.core.jobs import Job
from components.core.states import JobState
from components.engines.catalog import Catalog, CatalogEntry
from components.engines.prepare import ModelPreparer
from components.engines.prepare_files import Files, list_files, read_json
from components.jobs.queue import JobQueue
from components.profiles.schema import FolderSource, HubSource, ModelProfile, PairProfile
from components.profiles.strict_yaml import parse
from components.storage.benchmarks import BenchmarkRepository

_LOOKED_THROUGH = 500
_OWN_LICENCE = "apache-2.0"  # of what lies in this repository


class CardService:
    """Writes model cards."""

    def __init__(
        self, catalog: Catalog, preparer: ModelPreparer, queue: JobQueue, records: BenchmarkRepository,
        written: ProseStore, hardware: HardwareTable, repository: Path,
    ) -> None:  # fmt: skip
        self._catalog, self._preparer, self._queue = catalog, preparer, queue
        self._records, self._written, self._hardware, self._repository = records, written, hardware, repository

    def card(self, model: str) -> Card:
        """The card of a candidate.

        Args:
            model: its engine id, pair/model.

        Raises:
            InputError: there is no such model, or it is a base.
        """
        entry = self._candidate(model)
        records = self._records.find(source="measured", model=model)
        records += self._records.find(source="measured", model=entry.pair.engine_id(entry.pair.base))
        return build_card(self._facts(entry), records)

    def write(self, model: str, parts: Mapping[str, object], based_on: int, by: str) -> Prose:
        """Store what a person wrote of a candidate as a new version.

        Raises:
            InputError: there is no such model or part, or somebody saved meanwhile. StorageError: nothing was stored.
        """
        return self._written.save(self._candidate(model).engine_id, parts, based_on, by)

    def _candidate(self, model: str) -> CatalogEntry:
        if not isinstance(model, str) or not model:
            raise InputError("No model is named.", f"Accepted: {self._accepted()}.", field="model")
        entry = self._catalog.find(model, field="model")
        if entry.model.role == "base":
            raise InputError(f"{model} is a base.", f"Accepted: {self._accepted()}.", field="model")
        return entry

    def _accepted(self) -> str:
        return ", ".join(e.engine_id for e in self._catalog.entries() if e.model.role == "candidate")

    def _facts(self, entry: CatalogEntry) -> CardFacts:
        pair, base = entry.pair, entry.pair.base
        base_id = pair.engine_id(base)
        base_name = base.source.repo_id if isinstance(base.source, HubSource) else base_id
        job = self._maker(entry.engine_id)
        files = self._files(entry, str((job.result or {}).get("packed", ".")) if job else ".")
        return CardFacts(
            engine_id=entry.engine_id, pair=pair, model=entry.model, base_id=base_id, base_name=base_name,
            licence=self._licence(pair, base, base_name),
            config=_config(files),
            files=tuple(FileFact(name=name, size_bytes=path.stat().st_size) for name, path in sorted(files.items())),
            quantize_job=job.id if job else None,
            quantize_result=dict(job.result or {}) if job else {},
            quantize_spec=dict(job.spec) if job else {},
            hardware=self._hardware.of(entry),
            prose=self._written.newest(entry.engine_id),
        )  # fmt: skip

    def _files(self, entry: CatalogEntry, packed: str) -> Files:
        """The quantized files; where unpacked ones are served instead, they lie in a folder beside those."""
        source = entry.model.source
        try:
            if packed != "." and isinstance(source, FolderSource):
                return list_files(Path(source.folder) / packed)
            return self._preparer.files_at_hand(entry.pair, entry.model) or {}
        except PreparationError:
            return {}

    def _maker(self, engine_id: str) -> Job | None:
        for job in self._queue.ended(_LOOKED_THROUGH):
            if job.state is JobState.SUCCEEDED and (job.result or {}).get("engine_id") == engine_id:
                return job
        return None

    def _licence(self, pair: PairProfile, base: ModelProfile, base_name: str) -> str | None:
        """As the card of the base on the hub said when it was looked up, else as its files tell."""
        if base.source.kind == "local":
            return _OWN_LICENCE
        data = (self._repository / "assets" / "published" / "models.yaml").read_bytes()
        known: Mapping[str, Any] = parse(data, "models.yaml").plain()
        licence = (known.get(base_name) or {}).get("licence")
        if licence:
            return str(licence)
        try:
            return licence_in(self._preparer.files_at_hand(pair, base) or {})
        except PreparationError:
            return None


def _config(files: Files) -> dict[str, Any]:
    for name in ("config.json", "params.json"):
        if name in files:
            return dict(read_json(files[name]))
    return {}
