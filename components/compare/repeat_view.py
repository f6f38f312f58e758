"""A repeat as JSON for scripts and exports, as Markdown, and as what the card on the page draws. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from components.core.markdown import fenced, inline
from components.core.repeats import (
    DistinctAnswer,
    Repeat,
    RepeatColumn,
    Sample,
    Verdict,
    distinct_answers,
    flip_rate,
    self_consistency,
    self_disagreement,
    verdict,
)
from components.core.states import RepeatState
from components.core.statistics import Interval
from components.core.trace_export import json_value

COMPARED_BY = "text without regard to white space, and tool calls"
_PAGE_CHARACTERS = 4000  # of an answer; the exports have all of it
_STATE_WORDS = {
    RepeatState.RUNNING: "still running",
    RepeatState.FINISHED: "finished",
    RepeatState.INCOMPLETE: "incomplete: an engine gave out",
    RepeatState.STOPPED: "stopped before its end",
    RepeatState.INTERRUPTED: "interrupted: Diptych ended meanwhile",
}
_GREEDY = (
    "At temperature 0 a model takes its likeliest token at every step, whatever the seed: what varies here is rounding "
    "in other batches, not the model's own variation."
)


# ---- for scripts and exports ----------------------------------------------------------------------------------------


def repeat_to_dict(repeat: Repeat) -> dict[str, Any]:
    """The whole repeat as JSON values; a figure that is not known is None."""
    own = None if repeat.base is None else self_disagreement(repeat.base.samples)
    document = {
        "id": repeat.id,
        "trace_id": repeat.trace_id,
        "state": repeat.state.value,
        "n": repeat.count,
        "seed": repeat.first_seed,
        "compared_by": COMPARED_BY,
        "created_at": repeat.created_at.isoformat(),
        "finished_at": None if repeat.finished_at is None else repeat.finished_at.isoformat(),
        "columns": [_column(column) for column in repeat.columns],
        "base_self_disagreement": _interval(own),
        "flips": [_flips(repeat.base, column, own) for column in repeat.candidates if repeat.base is not None],
        "notes": notes(repeat),
    }
    return {key: json_value(value) for key, value in document.items()}


def _column(column: RepeatColumn) -> dict[str, Any]:
    label = column.label
    return {
        "position": column.position,
        "role": label.role,
        "model": label.model,
        "engine_id": label.engine_id,
        "answer_id": column.answer_id,
        "label": label.model_dump(mode="json"),
        "sampling": column.sampling.model_dump(mode="json", exclude={"seed"}),
        "answers": len(column.answers),
        "failures": len(column.failures),
        "ended_early": column.ended_early,
        "self_consistency": self_consistency(column.samples),
        "self_disagreement": _interval(self_disagreement(column.samples)),
        "distinct": [
            {"count": found.count, "seeds": list(found.seeds), **_said(found.example)}
            for found in distinct_answers(column.samples)
        ],
        "samples": [_sample(sample) for sample in column.samples],
    }


def _said(sample: Sample) -> dict[str, Any]:
    calls = [{"name": call.name, "arguments": call.arguments} for call in sample.tool_calls]
    return {"text": sample.text, "tool_calls": calls}


def _sample(sample: Sample) -> dict[str, Any]:
    return {
        "seed": sample.seed,
        **_said(sample),
        "outcome": sample.outcome.value,
        "finish_reason": sample.finish_reason,
        "error": None if sample.error is None else sample.error.model_dump(mode="json"),
        "output_tokens": sample.output_tokens,
        "e2el_ms": sample.e2el_ms,
    }


def _interval(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else {"value": interval.value, "low": interval.low, "high": interval.high}


def _flips(base: RepeatColumn, column: RepeatColumn, own: Interval | None) -> dict[str, Any]:
    flips = flip_rate(base.samples, column.samples)
    return {
        "position": column.position,
        "candidate": column.label.engine_id,
        "flipped": None if flips is None else flips.flipped,
        "pairs": 0 if flips is None else flips.pairs,
        "flip_rate": _interval(None if flips is None else flips.rate),
        "verdict": verdict(flips, own),
    }


# ---- in words -------------------------------------------------------------------------------------------------------


def notes(repeat: Repeat) -> list[str]:
    """What a reader should know about the figures."""
    found = []
    if repeat.columns and all(column.sampling.temperature == 0 for column in repeat.columns):
        found.append(_GREEDY)
    if len({column.sampling for column in repeat.columns}) > 1:
        found.append("The columns were asked with different parameters: flips are not of the models alone.")
    for column in repeat.columns:
        cut = sum(sample.finish_reason == "length" for sample in column.answers)
        if cut:
            found.append(f"{column.label.model}: {cut} of {len(column.answers)} answers were cut off at max tokens.")
        found += [f"{column.label.model}: {words}" for words in _failure_words(column)]
        if column.ended_early:
            found.append(f"{column.label.model}: not all samples were asked for. {column.ended_early}")
    return found


def _failure_words(column: RepeatColumn) -> list[str]:
    counts: dict[str, int] = {}
    for sample in column.failures:
        said = sample.error.message if sample.error else sample.outcome.value
        counts[said] = counts.get(said, 0) + 1
    return [f"{count} failed, not counted as answers: {said}" for said, count in counts.items()]


_VERDICT_WORDS: dict[Verdict, str] = {
    "beyond": "differs from the base beyond the base's own variation.",
    "within": "is not shown to differ beyond the base's own variation.",
    "undecidable": "can't be told from the base's own variation: too few samples, or the base varies too much.",
}


def _rates(repeat: Repeat) -> list[dict[str, Any]]:
    """The base's own variation and every candidate's flips: what the card draws and the Markdown says."""
    base = repeat.base
    own = None if base is None else self_disagreement(base.samples)
    if base is None or own is None:
        return []
    found = [_rate("base", f"{base.label.model} against itself", own, "two seeds differ in", "")]
    for column in repeat.candidates:
        flips = flip_rate(base.samples, column.samples)
        if flips is not None:
            judged = verdict(flips, own)
            words = f"{column.label.model} {_VERDICT_WORDS[judged]}" if judged else ""
            said = f"{flips.flipped} of {flips.pairs} seeds flip,"
            found.append(_rate("candidate", f"{column.label.model} against the base", flips.rate, said, words))
    return found


def _rate(role: str, label: str, rate: Interval, said: str, verdict_words: str) -> dict[str, Any]:
    figures = f"{said} {_percent(rate.value)} (95 % interval {_percent(rate.low)} to {_percent(rate.high)})"
    return {"role": role, "label": label, "figures": figures, "verdict": verdict_words, **(_interval(rate) or {})}


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def repeats_markdown(repeats: Sequence[Repeat]) -> str:
    """Repeats of one turn as a section of its Markdown export."""
    parts = [f"### Repeats of turn `{repeats[0].trace_id}`"]
    for repeat in repeats:
        last = repeat.first_seed + repeat.count - 1
        parts.append(
            f"{repeat.count} samples per column, seeds {repeat.first_seed} to {last}, {_STATE_WORDS[repeat.state]}; "
            f"compared by {COMPARED_BY}."
        )
        for column in repeat.columns:
            parts += _column_markdown(column)
        for rate in _rates(repeat):
            parts.append(f"{inline(rate['label'])}: {rate['figures']}. {inline(rate['verdict'])}".strip())
        parts += [f"> {inline(note)}" for note in notes(repeat)]
    return "\n\n".join(parts) + "\n"


def _column_markdown(column: RepeatColumn) -> list[str]:
    asked = f"temperature {column.sampling.temperature:g}, top-p {column.sampling.top_p:g}"
    parts = [f"#### {inline(column.label.model)}: {len(column.answers)} answers, {asked}"]
    for found in distinct_answers(column.samples):
        calls = [fenced(f"{call.name}({call.arguments})") for call in found.example.tool_calls]
        parts += [f"{found.count} ×", fenced(found.example.text) if found.example.text else "(no text)", *calls]
    return parts


# ---- for the page ---------------------------------------------------------------------------------------------------


def page_view(repeat: Repeat, waiting: str = "") -> dict[str, Any]:
    """What the card draws of one repeat."""
    view = {
        "id": repeat.id,
        "state": repeat.state.value,
        "state_words": _STATE_WORDS[repeat.state],
        "title": run_title(repeat),
        "done": sum(len(column.samples) for column in repeat.columns),
        "wanted": repeat.count * len(repeat.columns),
        "waiting": waiting,
        "asked": {"n": repeat.count, "temperature": common_temperature(repeat), "seed": repeat.first_seed},
        "columns": [_page_column(column, repeat.count) for column in repeat.columns],
        "rates": _rates(repeat),
        "notes": notes(repeat),
    }
    return {key: json_value(value) for key, value in view.items()}


def common_temperature(repeat: Repeat) -> float | None:
    """The temperature of all columns; None where they had different ones."""
    hot = {column.sampling.temperature for column in repeat.columns}
    return hot.pop() if len(hot) == 1 else None


def run_title(repeat: Repeat) -> str:
    """A repeat in a list: how often, how hot, from which seed on."""
    hot = sorted({f"{column.sampling.temperature:g}" for column in repeat.columns})
    return f"{repeat.count} × at temperature {' and '.join(hot)}, seed {repeat.first_seed}"


def _page_column(column: RepeatColumn, wanted: int) -> dict[str, Any]:
    answers = distinct_answers(column.samples)
    share = self_consistency(column.samples)
    facts = [f"{len(column.answers)} of {wanted} answers"]
    facts += [f"{len(column.failures)} failed"] if column.failures else []
    facts += [f"{len(answers)} different"] if answers else []
    facts += [f"most frequent {_percent(share)}"] if share is not None else []
    return {
        "role": column.label.role,
        "model": column.label.model,
        "facts": facts,
        "answered": len(column.answers),
        "answers": [_page_answer(found) for found in answers],
    }


def _page_answer(found: DistinctAnswer) -> dict[str, Any]:
    text = found.example.text
    calls = [f"{call.name}({call.arguments})"[:_PAGE_CHARACTERS] for call in found.example.tool_calls]
    return {"count": found.count, "text": text[:_PAGE_CHARACTERS], "cut": len(text) > _PAGE_CHARACTERS, "calls": calls}
