"""Alarms of a turn: what makes a comparison unfair or meaningless. Pure: a finished trace in, alarms out."""

from __future__ import annotations

from components.core.answers import Sampling
from components.core.states import Outcome, Sight
from components.core.traces import Alarm, StoredAnswer, Trace

_SETTING_NAMES = {
    "temperature": "temperature",
    "top_p": "top-p",
    "max_tokens": "max tokens",
    "seed": "seed",
    "stop": "stop strings",
}


def alarms_of(trace: Trace) -> tuple[Alarm, ...]:
    """Everything that a reader of this turn must know before trusting the comparison.

    Only the newest attempt of each column counts. With one column there is nothing to compare, and only alarms that
    concern a column by itself remain.
    """
    columns = trace.latest_answers
    found = [
        _blind_columns(trace, columns),
        _settings_differ(columns),
        _conditions_differ(columns),
        _image_tokens_differ(trace, columns),
        _prompts_differ(columns),
        *_identical_to_base(columns),
    ]
    return tuple(alarm for alarm in found if alarm is not None)


def _blind_columns(trace: Trace, columns: tuple[StoredAnswer, ...]) -> Alarm | None:
    blind = tuple(c.slot.position for c in columns if c.slot.label.sight is Sight.BLIND)
    if not blind or not trace.images:
        return None
    names = _names(columns, blind)
    return Alarm(
        code="blind_engine",
        severity="error",
        message=f"{names} failed the sight check: it answers alike with and without a picture.",
        columns=blind,
    )


def _settings_differ(columns: tuple[StoredAnswer, ...]) -> Alarm | None:
    """Sampling parameters must be equal, else not only the weights differ."""
    if len(columns) < 2:
        return None
    different = [words for name, words in _SETTING_NAMES.items() if len({_value(c, name) for c in columns}) > 1]
    if not different:
        return None
    message = f"Settings differ between the columns ({', '.join(different)}): differences are not the weights' alone."
    return Alarm(code="settings_differ", severity="warning", message=message)


def _value(column: StoredAnswer, name: str) -> object:
    sampling: Sampling = column.slot.sampling
    return getattr(sampling, name)


def _conditions_differ(columns: tuple[StoredAnswer, ...]) -> Alarm | None:
    """Engine version, KV type and pair are conditions too. Unknown (None) is compared with nothing."""
    different = []
    for words, values in (
        ("the pair", {c.slot.label.pair for c in columns}),
        ("the engine's version", {c.slot.label.engine_version for c in columns} - {None}),
        ("the KV cache's type", {c.slot.label.kv_cache_dtype for c in columns} - {None}),
    ):
        if len(values) > 1:
            different.append(words)
    if not different:
        return None
    message = f"The columns differ in {' and '.join(different)}: this is not a comparison of weights alone."
    return Alarm(code="conditions_differ", severity="warning", message=message)


def _image_tokens_differ(trace: Trace, columns: tuple[StoredAnswer, ...]) -> Alarm | None:
    if not trace.images:
        return None
    counts = {c.slot.position: c.answer.usage.image_tokens for c in columns}
    known = {position: count for position, count in counts.items() if count is not None}
    without = tuple(position for position, count in known.items() if count == 0)
    if without:
        message = f"{_names(columns, without)} got no image token: the picture did not reach the model."
        return Alarm(code="image_missing", severity="error", message=message, columns=without)
    if len(set(known.values())) > 1:
        listed = ", ".join(f"{_names(columns, (p,))} {n}" for p, n in known.items())
        message = f"The columns saw different numbers of image tokens ({listed}): no comparison holds."
        return Alarm(code="image_mismatch", severity="error", message=message, columns=tuple(known))
    return None


def _prompts_differ(columns: tuple[StoredAnswer, ...]) -> Alarm | None:
    """Equal conversations of one pair must tokenize alike; different histories are said, not alarmed."""
    asked = [c for c in columns if c.answer.prompt_token_ids]
    if len({c.answer.prompt_token_ids for c in asked}) < 2:
        return None
    if any(c.slot.history for c in asked):
        message = "The columns continue their own earlier answers, so their prompts are not the same."
        return Alarm(code="histories_differ", severity="warning", message=message)
    message = "The engines turned the same prompt into different tokens: no comparison holds."
    return Alarm(code="prompt_mismatch", severity="error", message=message)


def _identical_to_base(columns: tuple[StoredAnswer, ...]) -> list[Alarm]:
    """A candidate whose log-probabilities equal the base's bit for bit is probably the base."""
    base = next((c for c in columns if c.slot.label.role == "base"), None)
    if base is None:
        return []
    expected = _logprobs(base)
    return [
        Alarm(
            code="identical_logprobs",
            severity="error",
            message=f"{c.slot.label.model}: every log-probability is bit-identical to the base's. "
            "This engine may not serve a quantized model.",
            columns=(c.slot.position,),
        )
        for c in columns
        if c.slot.label.role == "candidate" and expected and _logprobs(c) == expected
    ]


def _logprobs(column: StoredAnswer) -> tuple[tuple[int | None, float], ...]:
    """Ids and values of a finished answer; empty where a value is unknown, since unknown equals nothing."""
    if column.answer.outcome is not Outcome.FINISHED:
        return ()
    pairs = [(step.token_id, step.logprob) for step in column.answer.tokens]
    if any(logprob is None for _, logprob in pairs):
        return ()
    return tuple((token_id, logprob) for token_id, logprob in pairs if logprob is not None)


def _names(columns: tuple[StoredAnswer, ...], positions: tuple[int, ...]) -> str:
    chosen = [f"Column {c.slot.position + 1} ({c.slot.label.model})" for c in columns if c.slot.position in positions]
    return " and ".join(chosen)
