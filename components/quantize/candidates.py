"""Candidates that jobs made: kept in the job's result, joined to the catalog and the engines. Knows no tool."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from components.core.answers import Record
from components.core.jobs import Job
from components.core.states import JobState
from components.engines.catalog import Catalog, CatalogEntry
from components.engines.status import EngineSpec
from components.engines.supervisor import EngineHub
from components.profiles.schema import FolderSource, ModelProfile, PairProfile

logger = logging.getLogger(__name__)
RESULT_KEY = "candidate"


class MadeCandidate(Record):
    """What a quantize job's result holds under ``candidate``: a model as in a pair's profile, and that pair."""

    pair: PairProfile
    model: ModelProfile


def candidate_of(job: Job, folder: Path) -> MadeCandidate | None:
    """The candidate that a job made; None when it made none, when this version can't read it, or its files are gone.

    Args:
        job: one that has ended.
        folder: the job's own, now: the state folder may have moved since the job named its files.
    """
    found = (job.result or {}).get(RESULT_KEY)
    if job.state is not JobState.SUCCEEDED or found is None:
        return None
    try:
        made = MadeCandidate.model_validate(found)
    except ValidationError as exc:
        logger.warning("the candidate of job %s can't be read: %s", job.id, exc)
        return None
    source = made.model.source
    parts = Path(source.folder).parts if isinstance(source, FolderSource) else ()
    if job.id not in parts:
        return None
    files = folder.joinpath(*parts[parts.index(job.id) + 1 :])
    if not files.is_dir():
        return None
    moved = FolderSource(kind="folder", folder=str(files))
    return made.model_copy(update={"model": made.model.model_copy(update={"source": moved})})


class CandidateShelf:
    """Puts what jobs make beside what the profiles name, so that every page and endpoint finds it."""

    def __init__(
        self, catalog: Catalog, hub: EngineHub, spec_of: Callable[[CatalogEntry], EngineSpec], jobs_dir: Path
    ) -> None:
        self._catalog, self._hub, self._spec_of, self._jobs_dir = catalog, hub, spec_of, jobs_dir

    def add(self, job: Job) -> str | None:
        """The engine id of the job's candidate, which may be started from now on; None when it made none."""
        made = candidate_of(job, self._jobs_dir / job.id)
        if made is None:
            return None
        entry = self._catalog.add(made.pair, made.model)
        for one in self._catalog.of_pair(entry.pair.id):  # a new pair brings its base
            self._hub.add(self._spec_of(one))
        return entry.engine_id
