"""A trace for other programs (JSON) and for other people (Markdown). Pure.

Both name every field they let out: a field that is added to a record does not leave the house by itself. Prompts and
answers are untrusted text: in Markdown they stand in fences that they can't close, with invisible characters shown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from components.core.answers import Answer, ImageRecord, Timing, TokenStep
from components.core.markdown import code, escape_code, fenced, inline
from components.core.traces import Continuation, StoredAnswer, Trace

FORMAT = "diptych-trace"
FORMAT_VERSION = 1
_HALF_SURROGATE = re.compile("[\ud800-\udfff]")


def trace_to_dict(trace: Trace) -> dict[str, Any]:
    """The whole trace as JSON values: token ids and log-probabilities included, a number without a value is None."""
    document = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "id": trace.id,
        "created_at": trace.created_at.isoformat(),
        "conversation_id": trace.conversation_id,
        "parent_id": trace.parent_id,
        "pair": trace.pair,
        "prompt": trace.prompt,
        "system": trace.system,
        "tools": list(trace.tools),
        "images": [_image(image) for image in trace.images],
        "columns": [_column(stored) for stored in trace.answers],
        "alarms": [alarm.model_dump(mode="json") for alarm in trace.alarms],
        "app_version": trace.app_version,
        "schema_version": trace.schema_version,
    }
    return {key: json_value(value) for key, value in document.items()}


def traces_to_dict(traces: Sequence[Trace]) -> dict[str, Any]:
    """A conversation, first turn first."""
    return {
        "format": f"{FORMAT}s",
        "format_version": FORMAT_VERSION,
        "traces": [trace_to_dict(trace) for trace in traces],
    }


def traces_to_markdown(traces: Sequence[Trace]) -> str:
    """A conversation as one document, first turn first."""
    return "\n---\n\n".join(trace_to_markdown(trace) for trace in traces)


def trace_to_markdown(trace: Trace) -> str:
    """One turn as a person would paste it into an issue."""
    moment = trace.created_at.strftime("%Y-%m-%d %H:%M UTC")
    parts = [f"## Diptych comparison: {inline(trace.pair)}", f"{moment} · trace {code(trace.id)}"]
    parts += [f"> **{alarm.severity}**: {inline(alarm.message)}" for alarm in trace.alarms]
    if trace.system:
        parts += ["### System prompt", fenced(trace.system)]
    parts += ["### Prompt", fenced(trace.prompt)]
    if trace.images:
        parts += ["\n".join(_image_line(image) for image in trace.images)]
    for stored in trace.answers:
        parts += _column_section(stored)
    parts += [f"Made with Diptych {inline(trace.app_version)}. Times are of one run; they vary from run to run."]
    return "\n\n".join(parts) + "\n"


def export_name(trace: Trace, suffix: str) -> str:
    """A file name for an export: made of our own date and id only, never of a prompt or an uploaded name."""
    if not re.fullmatch(r"[a-z]{1,8}", suffix):
        raise ValueError(f"not a suffix: {suffix!r}")
    return f"diptych-{trace.created_at:%Y%m%d-%H%M%S}-{trace.id}.{suffix}"


def _image(image: ImageRecord) -> dict[str, Any]:
    names = {"sha256", "width", "height", "name", "source_format", "source_sha256", "notes"}
    return image.model_dump(mode="json", include=names)


def _column(stored: StoredAnswer) -> dict[str, Any]:
    slot = stored.slot
    return {
        "id": slot.id,
        "position": slot.position,
        "attempt": slot.attempt,
        "role": slot.label.role,
        "model": slot.label.model,
        "engine_id": slot.label.engine_id,
        "label": slot.label.model_dump(mode="json"),
        "sampling": slot.sampling.model_dump(mode="json"),
        "history": list(slot.history),
        "continued": None if slot.continued is None else slot.continued.model_dump(mode="json"),
        "answer": _answer(stored.answer),
        "timing": _timing(stored.answer.timing),
        "started_at": stored.started_at.isoformat(),
        "finished_at": None if stored.finished_at is None else stored.finished_at.isoformat(),
    }


def _answer(answer: Answer) -> dict[str, Any]:
    return {
        "text": answer.text,
        "outcome": answer.outcome.value,
        "finish_reason": answer.finish_reason,
        "error": None if answer.error is None else answer.error.model_dump(mode="json"),
        "tool_calls": [call.model_dump(mode="json") for call in answer.tool_calls],
        "usage": answer.usage.model_dump(mode="json"),
        "prompt_token_ids": list(answer.prompt_token_ids),
        "token_ids": list(answer.token_ids),
        "tokens": [_step(step) for step in answer.tokens],
    }


def _step(step: TokenStep) -> dict[str, Any]:
    names = {"token_id", "text", "raw", "logprob", "top", "at_ms"}
    return step.model_dump(mode="json", include=names)


def _timing(timing: Timing) -> dict[str, Any]:
    return timing.model_dump(mode="json", include={"ttft_ms", "tpot_ms", "e2el_ms", "output_tokens_per_s"})


def json_value(value: Any) -> Any:
    """Without NaN and infinities, which are no JSON, and without half surrogates, which are no UTF-8."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value if value.isascii() else _HALF_SURROGATE.sub(lambda match: escape_code(match[0]), value)
    if isinstance(value, dict):
        return {json_value(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    return value


def _column_section(stored: StoredAnswer) -> list[str]:
    slot, answer = stored.slot, stored.answer
    retry = f", attempt {slot.attempt}" if slot.attempt > 1 else ""
    parts = [f"### {slot.label.role.capitalize()}: {inline(slot.label.model)}{retry}", _label_line(stored)]
    parts += [_given_line(slot.continued)] if slot.continued else []
    parts += [fenced(answer.text)] if answer.text else ["(no text)"]
    parts += [fenced(f"{call.name}({call.arguments})") for call in answer.tool_calls]
    if answer.error is not None:
        parts.append(
            f"> **{answer.outcome.value}**: {inline(answer.error.message)} {inline(answer.error.hint)}".strip()
        )
    return [*parts, _speed_line(answer), _settings_line(stored)]


def _given_line(continued: Continuation) -> str:
    """What this model did not write by itself."""
    count, answer = continued.given_tokens - 1, code(continued.answer_id)
    return f"Given {count} tokens of answer {answer}, then {code(continued.token_text)}; the rest is this model's own."


def _label_line(stored: StoredAnswer) -> str:
    label = stored.slot.label
    facts = [f"weights {label.scheme}"]
    facts += [f"revision {label.revision[:12]}"] if label.revision else []
    facts += [f"unquantized: {', '.join(label.unquantized)}"] if label.unquantized else []
    facts += [f"KV cache {label.kv_cache_dtype}"] if label.kv_cache_dtype else []
    facts += [f"vLLM {label.engine_version}"] if label.engine_version else []
    facts += [f"context {label.max_model_len} tokens"] if label.max_model_len else []
    facts += [f"sight: {label.sight.value}"]
    facts += ["emulated kernels"] if label.emulated else []
    return " · ".join(inline(fact) for fact in facts)


def _speed_line(answer: Answer) -> str:
    timing, usage = answer.timing, answer.usage
    facts = [
        ("TTFT {:.0f} ms", timing.ttft_ms),
        ("TPOT {:.1f} ms", timing.tpot_ms),
        ("{:.1f} tok/s", timing.output_tokens_per_s),
        ("prompt {:.0f} tokens", usage.prompt_tokens),
        ("image {:.0f} tokens", usage.image_tokens),
        ("output {:.0f} tokens", usage.output_tokens),
    ]
    known = [form.format(value) for form, value in facts if value is not None and math.isfinite(value)]
    ending = f"finish reason: {inline(answer.finish_reason)}" if answer.finish_reason else answer.outcome.value
    return " · ".join([*known, ending])


def _settings_line(stored: StoredAnswer) -> str:
    sampling = stored.slot.sampling
    facts = [f"temperature {sampling.temperature:g}", f"top-p {sampling.top_p:g}", f"max tokens {sampling.max_tokens}"]
    facts += [f"seed {sampling.seed}"] if sampling.seed is not None else []
    facts += [f"stop {code(text)}" for text in sampling.stop]
    return "Settings: " + " · ".join(facts)


def _image_line(image: ImageRecord) -> str:
    notes = f" ({inline('; '.join(image.notes))})" if image.notes else ""
    return f"- {inline(image.name)}, {image.width} × {image.height}, sha256 {code(image.sha256)}{notes}"
