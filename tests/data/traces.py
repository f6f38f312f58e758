"""Records with every field filled, for tests of storage and export."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from components.core.answers import Answer, ImageRecord, Sampling, Timing, TokenStep, TopLogprob, Usage
from components.core.states import Outcome, Sight
from components.core.traces import AnswerSlot, ColumnLabel, StoredAnswer, Trace

MOMENT = datetime(2026, 11, 21, 1, 2, 3, 456789, tzinfo=UTC)


def label(role: str = "base", **changes: Any) -> ColumnLabel:
    """What a column ran on."""
    values: dict[str, Any] = {
        "engine_id": f"embedded/{role}",
        "model": f"Embedded {role}",
        "pair": "embedded",
        "role": role,
        "scheme": "BF16" if role == "base" else "W4A16",
        "revision": "a" * 40,
        "unquantized": ("vision", "head"),
        "kv_cache_dtype": "auto",
        "engine_version": "0.32.0",
        "max_model_len": 2048,
        "sight": Sight.SEES,
    }
    return ColumnLabel(**values | changes)


def slot(answer_id: str, position: int = 0, attempt: int = 1, **changes: Any) -> AnswerSlot:
    """A place for an answer."""
    place = label("base" if position == 0 else "candidate")
    return AnswerSlot(id=answer_id, position=position, attempt=attempt, label=place, **changes)


def finished(text: str = "Two red circles.", steps: int = 3, **changes: Any) -> Answer:
    """An answer with ``steps`` tokens of 20 alternatives each."""
    alternatives = tuple(TopLogprob(token_id=i, text=f"t{i}", logprob=-0.1 * i - 0.0123456) for i in range(20))
    tokens = tuple(
        TokenStep(token_id=i, text=f"t{i % 20}", raw=bytes([200 + i % 50]), logprob=-0.5, top=alternatives, at_ms=i)
        for i in range(steps)
    )
    values: dict[str, Any] = {
        "text": text,
        "tokens": tokens,
        "finish_reason": "stop",
        "outcome": Outcome.FINISHED,
        "prompt_token_ids": (1, 2, 3),
        "usage": Usage(prompt_tokens=70, image_tokens=64, output_tokens=steps, cached_tokens=0),
        "timing": Timing(ttft_ms=12.5, tpot_ms=3.25, e2el_ms=40.0, output_tokens_per_s=307.7),
    }
    return Answer(**values | changes)


def image(**changes: Any) -> ImageRecord:
    """An image of a turn."""
    values: dict[str, Any] = {
        "sha256": "b" * 64,
        "width": 96,
        "height": 64,
        "name": "shapes.jpg",
        "source_format": "JPEG",
        "source_sha256": "c" * 64,
        "notes": ("rotated upright as its EXIF tag says",),
    }
    return ImageRecord(**values | changes)


def turn(trace_id: str = "t1", columns: int = 2, **changes: Any) -> Trace:
    """A turn whose answers have begun; the answers' ids are ``<trace_id>-a0`` and so on."""
    begun = tuple(
        StoredAnswer(slot=slot(f"{trace_id}-a{i}", i, sampling=Sampling(seed=7)), started_at=MOMENT)
        for i in range(columns)
    )
    values: dict[str, Any] = {
        "id": trace_id,
        "created_at": MOMENT,
        "conversation_id": "c1",
        "pair": "embedded",
        "prompt": "How many circles?",
        "system": "Be brief.",
        "images": (image(),),
        "tools": ({"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}},),
        "answers": begun,
        "app_version": "0.1.0",
    }
    return Trace(**values | changes)


def answered_turn(
    trace_id: str = "t1", *, texts: tuple[str, ...] = ("yes", "no"), retry: str = "", **changes: Any
) -> Trace:
    """A finished turn with one answer a column; ``retry`` adds a second attempt of the first column."""
    stored = [
        StoredAnswer(
            slot=slot(f"{trace_id}-a{i}", i, sampling=changes.pop(f"sampling{i}", Sampling())),
            answer=finished(text, usage=Usage(prompt_tokens=70, image_tokens=64, output_tokens=3)),
            started_at=MOMENT,
        )
        for i, text in enumerate(texts)
    ]
    if retry:
        stored.insert(1, StoredAnswer(slot=slot(f"{trace_id}-b0", 0, 2), answer=finished(retry), started_at=MOMENT))
    return turn(trace_id, answers=tuple(stored), **changes)
