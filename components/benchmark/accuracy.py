"""The same items asked of base and candidate, greedily; judged, compared item by item."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from components.benchmark.metrics import METRICS
from components.benchmark.recorder import Recorder
from components.benchmark.rows import Item, messages_of
from components.benchmark.spec import AccuracySettings
from components.benchmark.store import PieceStore
from components.benchmark.tasks import run_all
from components.core.answers import Sampling
from components.core.errors import EngineDiedError, EngineNotReadyError, StreamError
from components.core.resampling import PairedResult, paired
from components.core.statistics import wilson_of_counts
from components.engines.stream import ChatRequest, FinishedEvent, TokensEvent, stream_chat
from components.engines.transport import EngineClient

Tell = Callable[[int, int], None]  # done, all
_RIGHT = 0.5
_MOST_FLIPPED = 400


@dataclass(frozen=True)
class Judged:
    """One item's answer; ``score`` is None where the request failed."""

    answer: str
    score: float | None
    finish_reason: str = ""


async def ask_all(
    client: EngineClient, items: Sequence[Item], folder: Path, settings: AccuracySettings, store: PieceStore,
    name: str, tell: Tell,
) -> list[Judged]:  # fmt: skip
    """Every item's answer of one model; those of an earlier attempt are not asked again.

    Raises:
        InputError: an item's picture can't be used. EngineNotReadyError, EngineDiedError: the engine is gone.
    """
    gate, done = asyncio.Semaphore(settings.concurrency), 0
    found: dict[int, Judged] = {}

    async def one(index: int, item: Item) -> None:
        nonlocal done
        async with gate:
            saved = await asyncio.to_thread(store.document, f"{name}-{index:05d}")
            if saved is None:
                answer, reason, failed = await _ask(
                    client, await asyncio.to_thread(messages_of, item, folder), settings
                )
                saved = {"answer": answer, "finish_reason": reason, "failed": failed}
                if not failed:  # the next attempt asks it again
                    await asyncio.to_thread(store.save_document, f"{name}-{index:05d}", saved)
        metric = METRICS[settings.metric or item.metric]
        answer = str(saved["answer"])
        score = None if saved["failed"] else metric(answer, item.answers)
        found[index] = Judged(answer, score, str(saved["finish_reason"]))
        done += 1
        tell(done, len(items))

    await run_all(one(index, item) for index, item in enumerate(items))
    return [found[index] for index in range(len(items))]


def judged_by(metric: str, items: Sequence[Item], answers: Sequence[Judged]) -> list[Judged]:
    """The same answers under another metric."""
    return [
        one if one.score is None else replace(one, score=METRICS[metric](one.answer, item.answers))
        for item, one in zip(items, answers, strict=True)
    ]


async def _ask(
    client: EngineClient, messages: list[dict[str, Any]], settings: AccuracySettings
) -> tuple[str, str, bool]:
    request = ChatRequest(
        messages=tuple(messages), sampling=Sampling(temperature=0.0, max_tokens=settings.max_tokens), logprobs=0
    )
    words, reason = list[str](), ""
    try:
        async with aclosing(stream_chat(client, request)) as events:
            async for event in events:
                if isinstance(event, TokensEvent):
                    words.append(event.text_delta)
                elif isinstance(event, FinishedEvent):
                    reason = event.finish_reason
    except (EngineNotReadyError, EngineDiedError):
        raise
    except StreamError as exc:
        return "", str(exc), True
    return "".join(words), reason, False


@dataclass(frozen=True)
class ComparedItems:
    """Items that both models answered."""

    items: list[Item]
    base: list[Judged]
    candidate: list[Judged]

    @classmethod
    def of(cls, items: Sequence[Item], base: Sequence[Judged], candidate: Sequence[Judged]) -> ComparedItems:
        """Without those that one of the two could not be asked."""
        kept = [
            row for row in zip(items, base, candidate, strict=True) if None not in (row[1].score, row[2].score)
        ]  # fmt: skip
        return cls([row[0] for row in kept], [row[1] for row in kept], [row[2] for row in kept])

    def scores(self, chosen: Sequence[int]) -> tuple[list[float], list[float]]:
        """Of base and candidate, for these indices."""
        return [self.base[i].score or 0.0 for i in chosen], [self.candidate[i].score or 0.0 for i in chosen]

    def flipped(self) -> list[dict[str, Any]]:
        """Items that only one of the two has right, those that the candidate lost first."""
        rows = []
        for item, base, candidate in zip(self.items, self.base, self.candidate, strict=True):
            one, other = (base.score or 0.0) >= _RIGHT, (candidate.score or 0.0) >= _RIGHT
            if one != other:
                rows.append({
                    "id": item.id, "kind": item.kind, "lost": one, "question": item.messages[-1].content[:500],
                    "images": list(item.images), "expected": item.answers[0][:300],
                    "base": base.answer[:500], "candidate": candidate.answer[:500],
                })  # fmt: skip
        return sorted(rows, key=lambda row: (not row["lost"], row["id"]))[:_MOST_FLIPPED]


@dataclass(frozen=True)
class MeasuredSet:
    """One set of items, asked of both models.

    Attributes:
        asked: how many were asked; those that could not be are not in ``found``.
        pictures: where the items' pictures lie; None = they have none.
        details: what a reader must know to compare the figures with others'.
    """

    name: str
    metric: str
    found: ComparedItems
    asked: int
    pictures: Path | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


def add_accuracy(recorder: Recorder, measured: MeasuredSet, kept: str, model: str, base: str, scheme: str) -> None:
    """Records of one set: per kind and over all, both models' scores, recovery, McNemar's p, the items that flipped.

    Args:
        kept: the folder in the job's result that holds the items that flipped.
    """
    found, name = measured.found, measured.name
    every = list(range(len(found.items)))
    kinds = sorted({item.kind for item in found.items if item.kind})
    failed = measured.asked - len(every)
    note = f"{failed} of {measured.asked} items could not be asked and are left out." if failed else ""
    for kind, chosen in [("", every), *((kind, [i for i in every if found.items[i].kind == kind]) for kind in kinds)]:
        task = f"{name}: {kind}" if kind else name
        result = paired(*found.scores(chosen))
        about: dict[str, Any] = {"base": base, "scheme": scheme, "n": len(chosen), "n_unit": "items", "note": note}
        details: dict[str, Any] = {
            "metric": measured.metric, "kind": kind, "base_only_right": result.base_only,
            "candidate_only_right": result.candidate_only, **({} if kind else measured.details),
        }  # fmt: skip
        _add_scores(recorder, result, model, task, about, details)
    recorder.add(
        "accuracy", model, name, "flipped_items", float(len(found.flipped())), base=base, scheme=scheme,
        n=len(every), n_unit="items", note=note,
        details={"metric": measured.metric, "items": found.flipped(), "kept": kept},
    )  # fmt: skip


def _add_scores(
    recorder: Recorder, result: PairedResult, model: str, task: str, about: dict[str, Any], details: dict[str, Any]
) -> None:
    add = recorder.add
    for metric, share in (("base_score_percent", result.base), ("candidate_score_percent", result.candidate)):
        right = round(share * result.items)
        interval = wilson_of_counts(right, result.items)
        # Shares of a right answer have no binomial interval.
        exact = abs(share * result.items - right) < 1e-9
        ends = {"low": 100 * interval.low, "high": 100 * interval.high, "interval": "95 %, Wilson"} if exact else {}
        add("accuracy", model, task, metric, 100 * share, details=details, **about, **ends)
    spread = result.interval
    if result.recovery_percent is not None:
        add(
            "accuracy",
            model,
            task,
            "recovery_percent",
            result.recovery_percent,
            details=details,
            interval=spread,
            **about,
        )
    if result.difference is not None:
        points = result.difference
        ends = {"low": 100 * points.low, "high": 100 * points.high, "interval": spread}
        add("accuracy", model, task, "difference_points", 100 * points.value, details=details, **about, **ends)
    add("accuracy", model, task, "mcnemar_p", result.mcnemar_p, details=details, **about)
