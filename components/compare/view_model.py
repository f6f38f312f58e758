"""Records → plain values that the views in the browser draw. Every text is data, never markup."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from components.compare.continuation import continuation_note
from components.core.answers import Answer, ImageRecord, Sampling
from components.core.states import EngineState, Outcome, Sight, Turn
from components.core.traces import Alarm, StoredAnswer, Trace, TraceSummary
from components.engines.catalog import CatalogEntry
from components.engines.supervisor import EngineStatus

_SHORT_TYPES = {"bfloat16": "bf16", "float16": "fp16"}
_SIGHT_CHIPS = {
    Sight.SEES: ("sees ✓", "ok", "The sight check passed: its answers follow the picture"),
    Sight.BLIND: ("blind", "bad", "It answers alike with and without a picture"),
    Sight.UNCLEAR: ("sight unclear", "warn", "Its answers follow the picture, but are wrong"),
}


def image_url(sha256: str) -> str:
    """Address of a canonical picture, relative to the page."""
    return f"media/{sha256}.png"


def image_view(image: ImageRecord) -> dict[str, Any]:
    """What the picture viewer and the thumbnails need."""
    return {
        "sha256": image.sha256,
        "url": image_url(image.sha256),
        "name": image.name,
        "width": image.width,
        "height": image.height,
        "notes": list(image.notes),
    }


def column_view(position: int, conversation: Sequence[Trace], empty: str = "") -> dict[str, Any]:
    """One column's whole conversation.

    ``made_us`` orders the values of a column: when all of an answer's updates come in one piece, Gradio 6.31's page
    may put the value from before the question back after the last of them; the page ignores what is older.
    """
    turns = [turn_view(turn, position) for turn in conversation]
    return {"position": position, "empty": empty, "turns": turns, "made_us": time.monotonic_ns() // 1000}


def turn_view(turn: Trace, position: int) -> dict[str, Any]:
    """One turn in one column: the prompt and every attempt at an answer."""
    mine = [stored for stored in turn.answers if stored.slot.position == position]
    return {
        "id": turn.id,
        "prompt": turn.prompt,
        "images": [image_view(image) for image in turn.images],
        "answers": [answer_view(turn, stored) for stored in mine],
    }


def answer_view(turn: Trace, stored: StoredAnswer, waiting: str = "") -> dict[str, Any]:
    """One attempt at an answer."""
    answer = stored.answer
    return {
        "id": stored.slot.id,
        "attempt": stored.slot.attempt,
        "engine": stored.slot.label.engine_id,
        "outcome": answer.outcome.value,
        "text": answer.text,
        "tools": [{"name": call.name, "arguments": call.arguments} for call in answer.tool_calls],
        "error": answer.error.model_dump() if answer.error else None,
        "stats": stats_line(answer),
        "settings": settings_line(stored.slot.sampling),
        "image_tokens": answer.usage.image_tokens,
        "waiting": waiting,
        "continued": stored.slot.continued is not None,
        "note": continuation_note(turn, stored),
    }


def stats_line(answer: Answer) -> str:
    """The speed line. What was not measured is left out, never guessed."""
    if answer.outcome is Outcome.STREAMING:
        return ""
    timing, usage = answer.timing, answer.usage
    parts = [
        _number("TTFT", timing.ttft_ms, "ms"),
        _number("TPOT", timing.tpot_ms, "ms", digits=1),
        _number("", timing.output_tokens_per_s, "tok/s"),
        _prompt_tokens(usage.prompt_tokens, usage.image_tokens),
        f"{usage.output_tokens} out" if usage.output_tokens is not None else "",
        answer.finish_reason or answer.outcome.value,
    ]
    return " · ".join(part for part in parts if part)


def settings_line(sampling: Sampling) -> str:
    """The parameters an answer was made with."""
    parts = [
        f"temperature {sampling.temperature:g}",
        f"top-p {sampling.top_p:g}",
        f"at most {sampling.max_tokens} tokens",
    ]
    parts += [f"seed {sampling.seed}"] if sampling.seed is not None else []
    parts += [f"{len(sampling.stop)} stop string{'s' if len(sampling.stop) > 1 else ''}"] if sampling.stop else []
    return " · ".join(parts)


def _number(name: str, value: float | None, unit: str, digits: int = 0) -> str:
    return f"{name} {value:.{digits}f} {unit}".strip() if value is not None else ""


def _prompt_tokens(prompt: int | None, image: int | None) -> str:
    if prompt is None:
        return ""
    return f"{prompt - image}+{image} in" if image else f"{prompt} in"


def head_view(position: int, entry: CatalogEntry, status: EngineStatus) -> dict[str, Any]:
    """A column's head: role, chips, state, and the full label."""
    idle = status.state in (EngineState.STOPPED, EngineState.FATAL) and not status.is_asleep
    return {
        "position": position,
        "role": entry.model.role,
        "label": entry.model.label,
        "scheme": entry.model.scheme,
        "chips": _chips(entry, status),
        "ready": status.ready,
        "message": _state_words(status),
        "hint": status.hint or "",
        "progress": status.progress,
        "trouble": status.state in (EngineState.FATAL, EngineState.BACKOFF, EngineState.EXITED)
        or status.sight is Sight.BLIND,
        "can_start": idle,
        "start_label": "Start" if status.state is EngineState.STOPPED else "Try again",
        "details": _details(entry, status),
    }


def _state_words(status: EngineStatus) -> str:
    words = {
        EngineState.STOPPED: "Not started",
        EngineState.FATAL: "Could not start",
        EngineState.BACKOFF: "Ended; starting again",
        EngineState.EXITED: "Ended unexpectedly",
        EngineState.STOPPING: "Stopping",
    }
    said = status.message if status.is_asleep else words.get(status.state) or status.message or "Starting"
    return f"{said}: {status.reason}" if status.reason else said


def _chips(entry: CatalogEntry, status: EngineStatus) -> list[dict[str, str]]:
    serve = entry.pair.serve_of(entry.model)
    chips: list[dict[str, str]] = []
    if status.engine_version:
        chips.append(
            {
                "text": f"vLLM {status.engine_version}" if not status.remote else status.engine_version,
                "title": "Engine version",
            }
        )
    if entry.model.emulated:
        chips.append(
            {
                "text": "emulated",
                "tone": "warn",
                "title": "Served decompressed: the numbers are the scheme's, the speed is not",
            }
        )
    if entry.model.unquantized:
        kept = ", ".join(entry.model.unquantized)
        chips.append({"text": f"BF16: {kept}", "title": f"What stayed unquantized: {kept}"})
    if not status.remote:
        kind = serve.dtype if serve.kv_cache_dtype == "auto" else serve.kv_cache_dtype
        chips.append({"text": f"KV {_SHORT_TYPES.get(kind, kind)}", "title": "Type of the KV cache"})
    if status.sight in _SIGHT_CHIPS:
        text, tone, title = _SIGHT_CHIPS[status.sight]
        chips.append({"text": text, "tone": tone, "title": title})
    return chips


def _details(entry: CatalogEntry, status: EngineStatus) -> list[list[str]]:
    """Rows of the nutrition label; what is not known says so."""
    serve = entry.pair.serve_of(entry.model)
    source = entry.model.source
    origin = getattr(source, "repo_id", None) or getattr(source, "folder", None) or getattr(source, "url", None)
    rows = [
        ("Model", entry.model.label),
        ("What it is", entry.model.description),
        ("Pair", f"{entry.pair.title}"),
        ("Role", entry.model.role),
        ("Scheme", entry.model.scheme + (" (emulated)" if entry.model.emulated else "")),
        (
            "Stayed unquantized",
            ", ".join(entry.model.unquantized) or ("everything" if entry.model.scheme == "BF16" else "not stated"),
        ),
        ("From", origin or getattr(source, "package", "unknown")),
        ("Revision", getattr(source, "revision", None) or "not pinned"),
        ("Engine", f"vLLM {status.engine_version}" if status.engine_version else "version not known yet"),
        ("KV cache", "not known (remote)" if status.remote else f"{serve.kv_cache_dtype} (activations {serve.dtype})"),
        ("Context", "not known (remote)" if status.remote else f"{serve.max_model_len:,} tokens"),
        (
            "Pictures",
            f"up to {entry.pair.max_images}, longer side {entry.pair.max_image_size} px"
            if entry.pair.vision
            else "none: text only",
        ),
        ("Placement", "not known (remote)" if status.remote else _placement(entry)),
        ("Sight check", status.sight.value),
        ("State", f"{status.state.value}, {status.turn or ('ready' if status.ready else 'not ready')}"),
    ]
    return [[name, str(value)] for name, value in rows]


def _placement(entry: CatalogEntry) -> str:
    at_a_time = "one engine at a time" if entry.pair.placement == "alternately" else "together with others"
    gpus = f"GPU {', '.join(map(str, entry.model.gpus))}, " if entry.model.gpus else ""
    return gpus + at_a_time


def notices_view(turn: Trace | None, refused: dict[str, Any] | None = None) -> dict[str, Any]:
    """Alarms of a turn, its links, and a refusal if there is one."""
    alarms: Sequence[Alarm] = turn.alarms if turn else ()
    return {
        "turn": turn.id if turn else None,
        "alarms": [{"severity": alarm.severity, "message": alarm.message} for alarm in alarms],
        "refused": refused,
    }


def recent_view(summaries: Sequence[TraceSummary], now: datetime) -> dict[str, Any]:
    """The history list, newest first."""
    items = []
    for summary in summaries:
        images = f", {summary.images} image{'s' if summary.images != 1 else ''}" if summary.images else ""
        items.append(
            {
                "id": summary.id,
                "prompt": " ".join(summary.prompt.split()),
                "when": ago((now - summary.created_at).total_seconds()),
                "title": f"{summary.prompt} ({' and '.join(summary.models)}{images})",
            }
        )
    return {"items": items}


def ago(seconds: float) -> str:
    """How long something is past, short."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return "now"


def _who_is_awake(statuses: Sequence[EngineStatus]) -> str:
    awake = next((status for status in statuses if status.turn is Turn.AWAKE), None)
    leaving = next((status for status in statuses if status.state is EngineState.STOPPING), None)
    if awake is None:
        return f"{leaving.engine_id.rpartition('/')[2]} goes to sleep" if leaving else "all asleep"
    name = awake.engine_id.rpartition("/")[2]
    return f"{name} is awake" if awake.ready else f"{name} wakes: {awake.message or awake.state.value}"


def status_line(title: str, statuses: Sequence[EngineStatus]) -> str:
    """One sentence for the page's corner."""
    ready = sum(status.ready for status in statuses)
    if any(status.turn is not None for status in statuses):
        return f"{title} · one at a time · {_who_is_awake(statuses)}"
    if statuses and ready == len(statuses):
        return f"{title} · {'both' if ready == 2 else 'all ' + str(ready)} ready"
    busy = [s for s in statuses if s.state in (EngineState.STARTING, EngineState.RUNNING) and not s.ready]
    if busy:
        return f"{title} · {ready} of {len(statuses)} ready · {busy[0].message or 'starting'}"
    return f"{title} · {ready} of {len(statuses)} ready"
