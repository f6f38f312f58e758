"""Composition root: builds every service once, from settings, into one frozen object. Only it knows all rooms."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from components.benchmark.intake import Intake
from components.benchmark.service import BenchmarkService, BenchmarkSettings
from components.cards.hardware import HardwareTable
from components.cards.prose import ProseStore
from components.cards.service import CardService
from components.compare.changed_pictures import PictureChanger
from components.compare.eyes import EyesService
from components.compare.recorded import SUFFIX, store_recorded
from components.compare.repeat import RepeatService
from components.compare.scoring import ScoringService
from components.compare.turns import TurnService
from components.core.clock import utc_now
from components.core.errors import AppError
from components.core.jobs import Job, JobNeeds
from components.core.reliance import Reliance
from components.core.scores import Score
from components.engines.catalog import Catalog
from components.engines.exact_scoring import ExactScorer
from components.engines.job_lease import JobLease
from components.engines.machine_plan import Machine, place_pair
from components.engines.memory import count_gpus, free_memory_bytes, gpu_memory_bytes
from components.engines.model_memory import ModelMemoryReader
from components.engines.prepare import ModelPreparer
from components.engines.specs import SpecSettings, engine_spec, engine_specs, exchange_folder
from components.engines.supervisor import EngineHub
from components.jobs.lease import Wait
from components.jobs.queue import JobQueue
from components.jobs.ray_place import RayPlace, RaySettings
from components.jobs.runner import JobRunner, RunnerSettings
from components.jobs.service import JobService
from components.models.memory_plan import MemoryPlanner
from components.observability import Metrics
from components.profiles.argv import INHERITED_VARIABLES
from components.profiles.loader import list_pairs, load_pair
from components.profiles.placed import read_overrides
from components.profiles.schema import PairProfile
from components.publish.service import PublishService, PublishSettings
from components.quantize.app_rows import StoredRows
from components.quantize.candidates import CandidateShelf
from components.quantize.service import QuantizeService, QuantizeSettings
from components.review.elsewhere import Elsewhere, ElsewhereSettings
from components.review.runner import BatchRunner
from components.review.service import ReviewFolders, ReviewService
from components.review.shard import KIND as SHARD
from components.settings import REPOSITORY, Settings
from components.storage.answer_records import AnswerRecords, reliance_records, score_records
from components.storage.benchmarks import BenchmarkRepository
from components.storage.database import Database
from components.storage.images import ImageStore
from components.storage.jobs import JobRepository
from components.storage.records import Records, open_records
from components.storage.repeats import RepeatRepository
from components.storage.review_queue import ReviewQueue
from components.storage.reviews import ReviewRepository
from components.storage.shared_folder import SharedFolder
from components.storage.traces import TraceRepository

_LOG = logging.getLogger(__name__)
NO_ENGINES = "This page replays recorded turns; no engine runs here."
_DRIVERS = {
    "quantize": "components.quantize.job", "benchmark": "components.benchmark.job", "publish": "components.publish.job",
    SHARD: "components.review.job",
}  # fmt: skip
_ON_CLUSTER = frozenset({"quantize", "benchmark", SHARD})  # what publishes needs this machine's token
_CHILD_VARIABLES = frozenset({"PATH", "HOME", "LANG", "SSL_CERT_FILE", "http_proxy", "https_proxy", "no_proxy"})
_DRIVER_VARIABLES = INHERITED_VARIABLES | {"HF_TOKEN", "HF_TOKEN_PATH", "HF_ENDPOINT", "HF_HUB_OFFLINE"}
_KEPT_CANDIDATES = 500  # jobs looked through for candidates at the start


@dataclass(frozen=True)
class Services:
    """Everything the page and the API call."""

    settings: Settings
    pair: PairProfile
    catalog: Catalog
    hub: EngineHub
    turns: TurnService
    scoring: ScoringService
    eyes: EyesService
    scores: AnswerRecords[Score]
    reliances: AnswerRecords[Reliance]
    repeating: RepeatService
    repeats: RepeatRepository
    traces: TraceRepository
    images: ImageStore
    jobs: JobService
    quantize: QuantizeService
    benchmarks: BenchmarkService
    cards: CardService
    planner: MemoryPlanner
    publishing: PublishService
    metrics: Metrics
    recorded: tuple[str, ...]  # ids of the turns that recorded mode shows, those of the running pair first
    review: ReviewService
    database: Database
    kept: Records
    profile_errors: tuple[AppError, ...]

    @property
    def first_engines(self) -> tuple[str, ...]:
        """Engines to start with the app: the base and the candidate shown first."""
        return tuple(entry.engine_id for entry in self.catalog.of_pair(self.pair.id)[:2])

    @property
    def recorded_turn(self) -> str | None:
        """The turn that a page in recorded mode opens with: the pair's first; None = not in that mode."""
        return self.recorded[0] if self.recorded else None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start the first engines; on leaving, end all of them and close the records."""
        if self.settings.starts_engines:
            for engine_id in self.first_engines:
                await self.hub.start(engine_id)
        runner = asyncio.create_task(self.jobs.runner.run(), name="job runner")
        review = asyncio.create_task(self.review.run(), name="review batches")
        others = asyncio.create_task(self.kept.watch_others(), name="other apps")
        try:
            yield
        finally:
            # The jobs themselves go on, and the next start goes on with what is not answered.
            for task in (runner, review, others):
                task.cancel()
            await asyncio.wait({runner, review, others})
            await self.hub.close()
            self.close()

    def close(self) -> None:
        """Close the records and let another app have the state folder."""
        self.kept.close()


def build_services(settings: Settings) -> Services:
    """Open the state folder and put everything together; starts no engine.

    Raises:
        ProfileError: the pair's profile is missing or wrong. StorageError: the state folder can't be used.
    """
    hub_token = os.environ.get("HF_TOKEN")
    preparer = ModelPreparer(
        settings.state_dir / "models", REPOSITORY, hub_token=hub_token, child_env=_child_environment()
    )
    reader = _memory_reader(settings, preparer, hub_token)
    pair = _placed(load_pair(settings.profiles_dir, settings.pair), settings, reader)
    others, errors = list_pairs(settings.profiles_dir)
    catalog = Catalog([pair, *(_at_a_time(other, settings) for other in others if other.id != pair.id)])
    kept = open_records(settings)
    database, blobs, shared, traces, images = kept.database, kept.blobs, kept.shared, kept.traces, kept.images
    engine_settings = SpecSettings.of_machine(settings.state_dir)
    hub = EngineHub(engine_specs(catalog, preparer, engine_settings), closed=NO_ENGINES if settings.recorded else "")
    shelf = CandidateShelf(
        catalog, hub, lambda entry: engine_spec(entry, preparer, engine_settings), settings.files_dir / "jobs"
    )
    records = BenchmarkRepository(database)
    intake = Intake(records, settings.files_dir / "jobs")
    intake.load_published(settings.assets_dir / "published" / "figures.yaml")
    lease = JobLease(hub, settings.state_dir, gpu_memory_bytes())
    jobs = _job_service(settings, database, lease, (shelf.add, intake.take_in), shared.leads)
    rows = StoredRows(traces, images, ReviewRepository(database), records, settings.assets_dir / "benchmark")
    quantize_settings = QuantizeSettings(
        settings.state_dir, REPOSITORY, pair.id, hub_token, settings.files_dir, settings.cluster
    )
    look = _here(settings, lease)
    quantize = QuantizeService(catalog, preparer, jobs.queue, quantize_settings, rows=rows, ask_room=look)
    benchmarks = BenchmarkService(catalog, jobs.queue, records, _benchmark_settings(settings, pair.id))
    cards = _card_service(settings, catalog, preparer, jobs, records, reader)
    publishing = _publish_service(settings, jobs, cards)
    metrics = Metrics(hub, jobs.queue, tuple(_DRIVERS))
    turns = TurnService(
        catalog=catalog, hub=hub, traces=traces, images=images, now=utc_now, on_turn=metrics.turn,
        on_answer=metrics.answer,
    )  # fmt: skip
    scores = score_records(database, blobs)
    scoring, exact = _scoring(settings, catalog, hub, traces, scores, turns, metrics)
    reliances = reliance_records(database, blobs)
    changer = PictureChanger(images, sorted((settings.assets_dir / "samples").glob("*.png")))
    eyes = EyesService(
        scoring=scoring, hub=hub, exact=exact, images=images, changer=changer, reliances=reliances, now=utc_now
    )
    repeating = RepeatService(turns=turns, catalog=catalog, hub=hub, repeats=kept.repeats, now=utc_now)
    review = _review_service(
        settings, database, catalog, hub, turns, scoring, images, traces, scores, jobs.queue, shared, hub_token
    )
    return Services(
        settings=settings, pair=pair, catalog=catalog, hub=hub, turns=turns, scoring=scoring, scores=scores,
        eyes=eyes, reliances=reliances, repeating=repeating, repeats=kept.repeats, traces=traces, images=images,
        jobs=jobs, quantize=quantize, review=review, benchmarks=benchmarks, cards=cards, publishing=publishing,
        planner=MemoryPlanner(catalog, reader, settings.profiles_dir), metrics=metrics,
        recorded=_recorded(settings, pair, traces, scores, images),
        database=database, kept=kept, profile_errors=tuple(errors),
    )  # fmt: skip


def _placed(pair: PairProfile, settings: Settings, reader: ModelMemoryReader) -> PairProfile:
    """The pair as the settings ask for it on this machine."""
    machine = Machine(gpu_memory_bytes(), free_memory_bytes())
    return place_pair(pair, settings.placement, read_overrides(settings.serve), reader, machine)


def _at_a_time(pair: PairProfile, settings: Settings) -> PairProfile:
    """Another pair, whose engines share the same device: planned is the opened one alone."""
    if settings.placement not in ("together", "alternately"):
        return pair
    return pair.model_copy(update={"placement": settings.placement})


def _scoring(
    settings: Settings, catalog: Catalog, hub: EngineHub, traces: TraceRepository, scores: AnswerRecords[Score],
    turns: TurnService, metrics: Metrics,
) -> tuple[ScoringService, ExactScorer]:  # fmt: skip
    exact = ExactScorer(exchange_folder(settings.state_dir))
    exact.remove_leftovers()
    service = ScoringService(
        catalog=catalog, hub=hub, traces=traces, scores=scores, data_url=turns.data_url,
        exact=exact, now=utc_now, on_score=metrics.score,
    )  # fmt: skip
    return service, exact


def _recorded(
    settings: Settings, pair: PairProfile, traces: TraceRepository, scores: AnswerRecords[Score], images: ImageStore
) -> tuple[str, ...]:
    """Store the bundled turns in recorded mode; their ids, those of the pair first. Damaged files are left out."""
    if not settings.recorded:
        return ()
    folder = settings.assets_dir / "recorded"
    files = sorted(folder.glob(f"*{SUFFIX}"), key=lambda file: file.name != f"{pair.id}{SUFFIX}")
    return tuple(turn for file in files for turn in store_recorded(file, traces, scores, images))


def _memory_reader(settings: Settings, preparer: ModelPreparer, hub_token: str | None) -> ModelMemoryReader:
    figures = settings.assets_dir / "published" / "models.yaml"
    return ModelMemoryReader(preparer, figures, hub_token)


def _card_service(
    settings: Settings, catalog: Catalog, preparer: ModelPreparer, jobs: JobService, records: BenchmarkRepository,
    reader: ModelMemoryReader,
) -> CardService:  # fmt: skip
    written, hardware = ProseStore(settings.files_dir / "cards"), HardwareTable(reader, settings.profiles_dir)
    return CardService(catalog, preparer, jobs.queue, records, written, hardware, REPOSITORY)


def _benchmark_settings(settings: Settings, pair_id: str) -> BenchmarkSettings:
    # How much memory a cluster's GPUs have is not known here; it grants whole ones.
    gpus, count = (gpu_memory_bytes(), count_gpus()) if settings.cluster is None else ((), settings.cluster.gpus)
    device: Literal["cpu", "cuda"] = "cuda" if count else "cpu"
    jobs_dir = settings.files_dir / "jobs"
    return BenchmarkSettings(settings.state_dir, REPOSITORY, pair_id, device, max(gpus, default=0), jobs_dir)


def _job_service(
    settings: Settings, database: Database, lease: JobLease, after_end: Sequence[Callable[[Job], object]],
    leads: Callable[[], bool],
) -> JobService:  # fmt: skip
    """The queue with its runner; what earlier jobs made and measured is taken up."""
    repository = JobRepository(database)

    def ended(job: Job) -> None:
        for take in after_end:
            take(job)

    for job in reversed(repository.ended(_KEPT_CANDIDATES)):
        ended(job)
    queue = JobQueue(repository)
    runner_settings = RunnerSettings(
        jobs_dir=settings.files_dir / "jobs", modules=_DRIVERS, cwd=REPOSITORY, env=_driver_environment(settings)
    )
    runner = JobRunner(
        repository, queue, runner_settings, lease, on_end=ended, leads=leads, elsewhere=[_cluster(settings)]
    )
    return JobService(queue, runner)


def _here(settings: Settings, lease: JobLease) -> Callable[[JobNeeds], Wait | None]:
    """Why a job would wait on this machine; on a cluster the cluster knows."""
    return lease.look if settings.cluster is None else lambda _: None


def _cluster(settings: Settings) -> RayPlace:
    """Also without an address: a job that an earlier app handed over is still watched."""
    return RayPlace(
        RaySettings(
            address=settings.ray_address, token=settings.ray_token, python=Path(sys.executable), cwd=REPOSITORY,
            kinds=_ON_CLUSTER, cpus=settings.ray_cpus, gpus=settings.ray_gpus, concurrency=settings.ray_jobs,
            inherited=_CHILD_VARIABLES | _DRIVER_VARIABLES, inherited_prefixes=("PIP_",),
        )
    )  # fmt: skip


def _publish_service(settings: Settings, jobs: JobService, cards: CardService) -> PublishService:
    def card_of(engine_id: str) -> tuple[str, tuple[str, ...]]:
        card = cards.card(engine_id)
        return card.markdown, card.missing

    return PublishService(jobs.queue, card_of, PublishSettings(settings.files_dir, REPOSITORY, Path.home()))


def _review_service(
    settings: Settings, database: Database, catalog: Catalog, hub: EngineHub, turns: TurnService,
    scoring: ScoringService, images: ImageStore, traces: TraceRepository, scores: AnswerRecords[Score],
    queue: JobQueue, shared: SharedFolder, hub_token: str | None,
) -> ReviewService:  # fmt: skip
    reviews = ReviewRepository(database)
    bell = shared.bell("batches") if settings.database_url else None  # else no other app has these records
    parts = ElsewhereSettings(settings.state_dir, REPOSITORY, settings.files_dir / "jobs", settings.ray_jobs)
    elsewhere = Elsewhere(catalog, queue, reviews, traces, scores, parts) if settings.cluster else None
    folders = ReviewFolders(settings.state_dir / "uploads", settings.assets_dir / "review")
    return ReviewService(
        reviews=reviews, queue=ReviewQueue(database),
        runner=BatchRunner(reviews, turns, scoring, catalog, hub, shared.leads, elsewhere, bell),
        catalog=catalog, images=images, traces=traces, scores=scores, folders=folders, now=utc_now,
        hub_token=hub_token,
    )  # fmt: skip


def _child_environment() -> dict[str, str]:
    """What pip and converters of our own may know: where things are and how to get out, no secret."""
    return {name: value for name, value in os.environ.items() if name in _CHILD_VARIABLES or name.startswith("PIP_")}


def _driver_environment(settings: Settings) -> dict[str, str]:
    """What jobs may know: the same, what engines are given, and the hub's token, for gated models."""
    engines = {name: value for name, value in os.environ.items() if name in _DRIVER_VARIABLES}
    return {**_child_environment(), **engines, "DIPTYCH_STATE_DIR": str(settings.state_dir)}
