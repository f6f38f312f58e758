"""The driver of a benchmark: ``python -m components.benchmark.job JOB_FOLDER``.

Serves base and candidate itself, runs the suites, and hands over records. What it finished is kept under the state
folder until the whole job has succeeded, so that a retry goes on from there.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import orjson
from pydantic import JsonValue

from components.benchmark.accuracy import ComparedItems, Judged, MeasuredSet, add_accuracy, ask_all, judged_by
from components.benchmark.environment import environment
from components.benchmark.flipped import folder_name, keep_flipped
from components.benchmark.load import LoadMaker
from components.benchmark.quality import QualityRun, ScoredSet
from components.benchmark.quality_records import add_generation, add_quality
from components.benchmark.rates import add_rates, measure_rates
from components.benchmark.recorder import Recorder
from components.benchmark.rows import Item, read_items
from components.benchmark.spec import AccuracySettings, BenchmarkSpec
from components.benchmark.store import PieceStore
from components.benchmark.text_tasks import TextTaskRun, compare_answers
from components.benchmark.throughput import add_cost, add_throughput, measure_throughput
from components.benchmark.tokens import TextTokenizer, load_tokenizer
from components.benchmark.vision_sets import VISION_SETS, VisionSet, fetch_items
from components.benchmark.weights import weights_bytes
from components.core.benchmarks import RecordBatch
from components.engines.exact_scoring import ExactScorer
from components.engines.serving import Served, ServingPlace, serve_model
from components.jobs.driver import run_driver, until_cancelled
from components.jobs.records import JobEvent, JobFolder
from components.profiles.schema import ModelProfile

RECORDS, KL_BASE = "records.json", "base.kld"
_WORDS_FOR_LOAD = 400_000  # characters
_MOST_ITEMS = 20_000
_PAUSE_S = 0.3  # between two events: a page asks every second or so


@dataclass(frozen=True)
class _Pair:
    """What is compared now."""

    base: Served
    candidate: Served
    model: ModelProfile
    tokenizer: TextTokenizer


class Driver:
    """One job."""

    def __init__(self, folder: JobFolder) -> None:
        self._folder = folder
        self._spec = BenchmarkSpec.model_validate_json(orjson.dumps(folder.read_spec()))
        self._recorder = Recorder(folder.path.name, environment(self._spec.device))
        self._work = folder.common / "benchmark" / "work" / self._spec.work_key
        self._started_s = time.monotonic()
        self._told_s = 0.0
        self._base_answers: list[Judged] | None = None

    def run(self) -> dict[str, JsonValue]:
        """The whole job; its result."""
        partial = self._folder.partial
        partial.mkdir(mode=0o700, parents=True)
        asyncio.run(until_cancelled(self._measure()))
        records = self._recorder.records
        (partial / RECORDS).write_bytes(RecordBatch(records=records).model_dump_json().encode())
        shutil.rmtree(partial / "exchange", ignore_errors=True)
        self._folder.finish_result()
        shutil.rmtree(self._work, ignore_errors=True)
        pair = self._spec.pair
        return {
            "records": len(records),
            "suite": self._spec.suite,
            "base": pair.engine_id(pair.base),
            "models": [pair.engine_id(pair.model(name)) for name in self._spec.candidate_ids],
            "took_s": round(time.monotonic() - self._started_s, 1),
        }

    async def _measure(self) -> None:
        spec = self._spec
        pair, partial = spec.pair, self._folder.partial
        place = ServingPlace(
            Path(spec.state_dir), Path(spec.repository), spec.device, logs=partial, exchange=partial / "exchange"
        )
        self._say("Starting", f"Starting {pair.base.label}")
        async with serve_model(pair, pair.base, place) as base:
            tokenizer = load_tokenizer(base.folder)
            for model_id in spec.candidate_ids:
                model = pair.model(model_id)
                self._say("Starting", f"Starting {model.label}")
                async with serve_model(pair, model, place) as candidate:
                    await self._compare(_Pair(base, candidate, model, tokenizer))

    async def _compare(self, now: _Pair) -> None:
        pair = self._spec.pair
        for model, served in ((pair.base, now.base), (now.model, now.candidate)):
            size = await asyncio.to_thread(weights_bytes, served.folder)
            base = None if model is pair.base else pair.engine_id(pair.base)
            self._recorder.add(
                "cost", pair.engine_id(model), "weights", "weights_gb", size / 1e9, base=base, scheme=model.scheme,
                note="Of the .safetensors files that are served; 1 GB = 10⁹ bytes.",
            )  # fmt: skip
        for suite in self._spec.runs:
            if suite == "quality":
                await self._quality(now)
            elif suite == "accuracy":
                await self._accuracy(now)
            else:
                await self._throughput(now)

    async def _quality(self, now: _Pair) -> None:
        settings, pair = self._spec.quality, self._spec.pair
        model, base, scheme = pair.engine_id(now.model), pair.engine_id(pair.base), now.model.scheme
        scorer = ExactScorer(self._folder.partial / "exchange", quick=True)
        run = QualityRun(
            now.base, now.candidate, scorer, now.tokenizer, settings,
            PieceStore(self._work / now.model.id), self._work, self._tell,
        )  # fmt: skip

        async def keep(found: ScoredSet) -> None:
            await asyncio.to_thread(
                add_quality, self._recorder, found, model, base, scheme, settings.draws, now.tokenizer.piece
            )

        for text in settings.texts:
            await keep(await run.text(text))
        if settings.write_kl_base:
            for text in settings.texts:
                await run.write_file(text, self._folder.partial / KL_BASE)
        if settings.kl_base_file is not None:
            await keep(await run.against_file(Path(settings.kl_base_file)))
        for questions in settings.questions:
            await keep(await run.questions(questions))
        for length in settings.prompt_lengths if settings.texts else ():
            continued = await run.generation(settings.texts[0], length)
            await asyncio.to_thread(add_generation, self._recorder, continued, model, base, scheme, settings.draws)

    async def _accuracy(self, now: _Pair) -> None:
        settings, found = self._spec.accuracy, []
        if settings.file is not None:
            found.append(await self._items(now, Path(settings.file)))
        for name in settings.vision_sets:
            found += await self._vision_set(now, VISION_SETS[name])
        if settings.lm_eval:
            found += await self._text_tasks(now)
        if not found:
            self._say("Accuracy", "There are no items for this pair; name some as overrides.items_file or lm_eval.")
        pair = self._spec.pair
        for number, one in enumerate(found):
            kept = folder_name(now.model.id, number)
            await asyncio.to_thread(keep_flipped, self._folder.partial / kept, one.found, one.pictures)
            add_accuracy(
                self._recorder, one, kept, pair.engine_id(now.model), pair.engine_id(pair.base), now.model.scheme
            )

    async def _items(self, now: _Pair, file: Path) -> MeasuredSet:
        settings = self._spec.accuracy
        items = await asyncio.to_thread(read_items, file, settings.items)
        if self._base_answers is None:
            self._base_answers = await self._ask(now.base, items, file, "base", settings)
        answers = await self._ask(now.candidate, items, file, now.model.id, settings)
        metric = settings.metric or ", ".join(sorted({item.metric for item in items}))
        found = ComparedItems.of(items, self._base_answers, answers)
        return MeasuredSet(settings.name, metric, found, asked=len(items), pictures=file.parent)

    async def _vision_set(self, now: _Pair, wanted: VisionSet) -> list[MeasuredSet]:
        self._say("Accuracy", f"Fetching {wanted.repo_id}")
        limit = self._spec.accuracy.items or _MOST_ITEMS
        file = await asyncio.to_thread(fetch_items, wanted, limit, self._work / "sets" / wanted.id)
        items = await asyncio.to_thread(read_items, file, limit)
        room = min(now.base.max_model_len, now.candidate.max_model_len) // 2
        longest = min(wanted.max_tokens, room)
        settings = self._spec.accuracy.model_copy(update={"metric": None, "max_tokens": longest})
        base, candidate = [
            await self._ask(served, items, file, f"{wanted.id}-{name}", settings)
            for served, name in ((now.base, "base"), (now.candidate, now.model.id))
        ]
        found = []
        for metric in wanted.metrics:
            judged = [judged_by(metric, items, answers) for answers in (base, candidate)]
            name = wanted.id if len(wanted.metrics) == 1 else f"{wanted.id}, {metric.split('_')[0]}"
            compared = ComparedItems.of(items, *judged)
            details = {"set": wanted.repo_id, "max_tokens": longest}
            found.append(MeasuredSet(name, metric, compared, len(items), file.parent, details))
        return found

    async def _text_tasks(self, now: _Pair) -> list[MeasuredSet]:
        spec = self._spec
        store, work = PieceStore(self._work / "answers"), self._folder.partial / "lm-eval"
        run = TextTaskRun(
            Path(spec.repository), Path(spec.state_dir), work, store, spec.accuracy, self._folder.append_event
        )
        base, candidate = await run.answers(now.base, "base"), await run.answers(now.candidate, now.model.id)
        await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)
        return compare_answers(base, candidate)

    async def _ask(
        self, served: Served, items: list[Item], file: Path, name: str, settings: AccuracySettings
    ) -> list[Judged]:
        def tell(done: int, count: int) -> None:
            self._tell("Accuracy", done, count, f"{served.client.served_model} answers", None)

        store = PieceStore(self._work / "answers")
        return await ask_all(served.client, items, file.parent, settings, store, f"answers-{name}", tell)

    async def _throughput(self, now: _Pair) -> None:
        settings, pair = self._spec.throughput, self._spec.pair
        model, base = pair.engine_id(now.model), pair.engine_id(pair.base)
        maker = await asyncio.to_thread(self._load_maker, now.tokenizer)
        clients = {base: now.base.client, model: now.candidate.client}

        def tell(step: int, steps: int, message: str) -> None:
            self._tell("Throughput", step, steps, message, None)

        results = await measure_throughput(clients, maker, settings, tell)
        schemes: dict[str, str] = {base: pair.base.scheme, model: now.model.scheme}
        add_throughput(self._recorder, results, settings, base, schemes)
        add_cost(self._recorder, results, settings, self._spec.cost, base, schemes)
        curves = await measure_rates(clients, base, maker, settings, tell)
        add_rates(self._recorder, curves, settings, base, schemes)

    def _load_maker(self, tokenizer: TextTokenizer) -> LoadMaker:
        texts = [Path(text.file) for text in self._spec.quality.texts if text.file]
        fallback = Path(self._spec.repository) / "assets" / "benchmark" / "own-text" / "text.txt"
        words = (texts[0] if texts else fallback).read_text(encoding="utf-8")[:_WORDS_FOR_LOAD]
        return LoadMaker(words, len(words) / max(1, len(tokenizer.encode(words))))

    def _tell(self, phase: str, step: int, steps: int, message: str, remaining_s: float | None) -> None:
        now_s = time.monotonic()
        if now_s - self._told_s < _PAUSE_S and step < steps:
            return
        self._told_s = now_s
        remaining = None if remaining_s is None or len(self._spec.runs) > 1 else remaining_s
        self._folder.append_event(JobEvent(phase=phase, step=step, steps=steps, message=message, remaining_s=remaining))

    def _say(self, phase: str, message: str) -> None:
        self._folder.append_event(JobEvent(phase=phase, message=message))


if __name__ == "__main__":
    logging.getLogger("httpx").setLevel(logging.WARNING)  # else a line for every request
    logging.getLogger("mistral_common").setLevel(logging.WARNING)
    sys.exit(run_driver(sys.argv[1:], lambda folder: Driver(folder).run()))
