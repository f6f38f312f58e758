"""Scored sets → records: every row of the cards with its interval and floor, and the curves behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from components.benchmark.corpora import classes_of, find_convention
from components.benchmark.quality import Generation, ScoredSet
from components.benchmark.recorder import Recorder
from components.benchmark.tables import (
    FIGURES,
    column,
    examples,
    figures_of,
    kl_by_class,
    kl_by_confidence,
    kl_by_position,
    kl_histogram,
)
from components.core.resampling import bootstrap, survival
from components.core.statistics import Interval, wilson_of_counts

_ENOUGH_TOKENS = 100  # llama.cpp's own limit
_AGREEMENT = "same_top_p_percent"


def add_quality(
    recorder: Recorder, found: ScoredSet, model: str, base: str, scheme: str, draws: int, piece: Callable[[int], str]
) -> None:
    """Records of one text or set of questions.

    Args:
        piece: text of one token id.
    """
    table = np.concatenate(found.groups)
    task = f"{found.name}, {found.convention}" if found.convention else found.name
    about = {
        "base": base, "scheme": scheme, "n": len(table), "n_unit": "tokens",
        "interval": f"95 %, bootstrap over {len(found.groups)} {found.unit}, {draws} draws",
    }  # fmt: skip
    floors = figures_of(np.concatenate(found.floor)) if found.floor else None
    values, intervals = figures_of(table), bootstrap(found.groups, figures_of, draws=draws)
    settings = _settings(found)
    for index, kind in enumerate(FIGURES):
        if not np.isfinite(values[index]):
            continue  # a base's file does not tell
        floor = float(floors[index]) if floors is not None and kind.of_floor else None
        value = intervals[index] or float(values[index])
        told = about
        if kind.metric == _AGREEMENT and values[index] == 100:  # each draw of the bootstrap would be 100 too
            value, told = _of_full_agreement(len(table)), {**about, "interval": "95 %, Wilson over tokens: all agree"}
        note = found.note if len(table) >= _ENOUGH_TOKENS else "Fewer than 100 tokens: too few for a figure."
        recorder.add("quality", model, task, kind.metric, value, floor=floor, note=note, details=settings, **told)
    classes = classes_of([piece(int(token)) for token in column(table, "target_id")])
    curves: dict[str, Any] = {
        "kl_histogram": kl_histogram(table), "kl_by_confidence": kl_by_confidence(table),
        "kl_by_class": kl_by_class(table, classes), "kl_by_position": kl_by_position(found.groups),
    }  # fmt: skip
    for metric, curve in curves.items():
        details = {**settings, "curve": curve}
        if metric == "kl_histogram":
            details["examples"] = examples(found.groups, classes, piece)
        recorder.add("quality", model, task, metric, None, details=details, **about)
    if found.tokens_per_s is not None:
        recorder.add(
            "quality", model, task, "scoring_tokens_per_s", found.tokens_per_s, base=base, scheme=scheme,
            n=len(table), n_unit="tokens", details=settings,
            note="Tokens of the text, context included, through both models and all statistics.",
        )  # fmt: skip


def _of_full_agreement(tokens: int) -> Interval:
    """What so many tokens without a fork still allow."""
    return Interval(100.0, 100 * wilson_of_counts(tokens, tokens).low, 100.0)


def _settings(found: ScoredSet) -> dict[str, Any]:
    known: dict[str, Any] = {"pieces": len(found.groups), "floor_pieces": len(found.floor)}
    if found.convention:
        convention = find_convention(found.convention)
        known |= {
            "convention": convention.words, "window": convention.window,
            "targets_per_chunk": convention.targets_per_chunk,
            "text_sha256": found.text_sha256, "text_tokens": found.text_tokens,
        }  # fmt: skip
    return known


def add_generation(recorder: Recorder, found: Generation, model: str, base: str, scheme: str, draws: int) -> None:
    """Records of one prompt length: KL at the first step and over all, the curve, and the survival of free answers."""
    prompts = len(found.kl_nats)
    about = {
        "base": base, "scheme": scheme, "n": prompts, "n_unit": "prompts",
        "interval": f"95 %, bootstrap over {prompts} prompts, {draws} draws",
        "note": "Greedy continuations by the base, the end of the answer ignored; scored on the base's path.",
    }  # fmt: skip
    task = f"generation, prompts of {found.prompt_tokens} tokens, {found.steps} steps"
    groups = [row[None, :] for row in found.kl_nats]
    steps: Sequence[Interval | None] = bootstrap(groups, lambda table: table.mean(axis=0), draws=draws)
    whole = bootstrap(groups, lambda table: np.array([table[:, 0].mean(), table.mean()]), draws=draws)
    floor = found.floor_nats
    for index, metric in enumerate(("step0_kl_base_to_candidate_nats", "mean_kl_base_to_candidate_nats")):
        value = whole[index]
        noise = float(floor[0, 0] if index == 0 else floor.mean()) if floor.size else None
        recorder.add("quality", model, task, metric, value, floor=noise, **about)
    curve = [
        {"step": step, "mean_kl_nats": float(found.kl_nats[:, step].mean()), "low": one.low if one else None,
         "high": one.high if one else None}
        for step, one in enumerate(steps)
    ]  # fmt: skip
    recorder.add("quality", model, task, "kl_by_step", None, details={"curve": curve}, **about)
    _add_sampled(recorder, found, model, task, draws, about)
    ways = (
        ("free_answers_alike_percent", "Greedy answers of both", found.first_forks),
        ("free_sampled_answers_alike_percent", "Both drew at temperature 1 with the same seed", found.sampled_forks),
    )
    for metric, words, forks in ways:
        alive = survival(forks, found.steps)
        parted = sum(fork is not None for fork in forks)
        recorder.add(
            "quality", model, task, metric, 100 * float(alive[-1]),
            details={"survival": alive.tolist(), "first_forks": list(forks)},
            **{**about, "interval": "", "note": f"{words}, each on its own path; {parted} of {prompts} parted."},
        )  # fmt: skip


def _add_sampled(
    recorder: Recorder, found: Generation, model: str, task: str, draws: int, about: dict[str, Any]
) -> None:
    """KL of whole sequences: by the chain rule the mean of the steps' sums over paths that the base drew itself."""
    sums = [np.array([[row.sum()]]) for row in found.sampled_kl_nats]
    note = f"Sum over {found.steps} steps on paths that the base drew at temperature 1, the end of the answer ignored."
    recorder.add(
        "quality", model, task, "sequence_kl_base_to_candidate_nats",
        bootstrap(sums, lambda table: table.mean(axis=0), draws=draws)[0], **{**about, "note": note},
    )  # fmt: skip
