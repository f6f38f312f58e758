"""What a streamed answer consists of, and how one chunk of it is read. Pure: no network, no clock.

A chunk is read on the event loop that also serves the page, so it is reduced to a few small objects at once and made
into records only when an answer is over: ``TokensEvent.raw_steps`` → ``to_records``.
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from components.core.answers import TokenStep, ToolCall, TopLogprob, Usage
from components.core.errors import MalformedStreamError
from components.engines.vocabulary import Vocabulary

_ID_PREFIX = "token_id:"
_NOT_RETURNED = -9999.0  # what vLLM sends for minus infinity
_UNKNOWN = math.nan


class RawStep(NamedTuple):
    """One generated token, compact. ``top`` names alternatives by id (our engines) or by text (others)."""

    token_id: int | None
    text: str
    raw: bytes | None
    logprob: float  # NaN = not returned
    top: Sequence[int] | Sequence[str]
    top_logprobs: array[float]
    at_ms: float


@dataclass(frozen=True, slots=True)
class TokensEvent:
    """New text, and the tokens it came from (a held-back token may add no text, a chunk may hold several tokens)."""

    text_delta: str
    raw_steps: tuple[RawStep, ...]
    at_ms: float

    @property
    def steps(self) -> tuple[TokenStep, ...]:
        """The tokens as records, without a vocabulary. Costs some 30 µs a token: call it where that is nothing."""
        return to_records(self.raw_steps)


@dataclass(frozen=True, slots=True)
class ToolCallsEvent:
    """The tool calls so far, whole: each event replaces the one before."""

    calls: tuple[ToolCall, ...]
    at_ms: float


@dataclass(frozen=True, slots=True)
class FinishedEvent:
    """The server said why it ended. Always the last event, and only of a complete answer."""

    finish_reason: str
    usage: Usage
    prompt_token_ids: tuple[int, ...]
    at_ms: float


StreamEvent = TokensEvent | ToolCallsEvent | FinishedEvent


def to_records(raw_steps: Iterable[RawStep], vocabulary: Vocabulary | None = None) -> tuple[TokenStep, ...]:
    """Steps as records: alternatives best first, texts from the vocabulary, what was not returned as None (F26)."""
    return tuple(_to_record(step, vocabulary) for step in raw_steps)


def _to_record(step: RawStep, vocabulary: Vocabulary | None) -> TokenStep:
    names: Iterable[int | str] = step.top
    top = [_alternative(name, value, vocabulary) for name, value in zip(names, step.top_logprobs, strict=True)]
    # vLLM puts the sampled token first, whatever its rank.
    top.sort(key=lambda item: -math.inf if item.logprob is None else item.logprob, reverse=True)
    known = vocabulary.raw(step.token_id) if vocabulary and step.token_id is not None else None
    return TokenStep(
        token_id=step.token_id,
        text=step.text if known is None else known.decode("utf-8", "replace"),
        raw=step.raw if known is None else known,
        logprob=_known(step.logprob),
        top=tuple(top),
        at_ms=step.at_ms,
    )


def _alternative(name: int | str, value: float, vocabulary: Vocabulary | None) -> TopLogprob:
    if isinstance(name, str):
        return TopLogprob(token_id=None, text=name, logprob=_known(value))
    return TopLogprob(token_id=name, text=vocabulary.text(name) if vocabulary else "", logprob=_known(value))


def _known(value: float) -> float | None:
    return value if math.isfinite(value) and value > _NOT_RETURNED else None


def load_chunk(payload: bytes) -> dict[str, Any]:
    """One ``data:`` payload as a JSON object.

    Raises:
        MalformedStreamError: it is none (F05). NaN and Infinity, which JSON has not but Python servers write, pass.
    """
    try:
        document = orjson.loads(payload)
    except orjson.JSONDecodeError:
        try:
            document = json.loads(payload)
        except ValueError as exc:
            raise _malformed(payload) from exc
    if not isinstance(document, dict):
        raise _malformed(payload)
    return document


def _malformed(payload: bytes) -> MalformedStreamError:
    return MalformedStreamError(
        "The server sent something that is not a chat completion chunk.",
        "Check that the address is an OpenAI-compatible server; the text so far is kept.",
        detail=repr(payload[:500]),
    )


@dataclass
class ChunkReader:
    """Reads the chunks of one answer in order and remembers what the end needs."""

    finish_reason: str | None = None
    prompt_token_ids: tuple[int, ...] = ()
    placeholders: dict[str, Any] = field(default_factory=dict)  # where pictures lie; only told of token prompts
    usage: dict[str, Any] = field(default_factory=dict)
    output_tokens: int = 0
    ended_ms: float = 0.0  # since the request was sent
    _calls: dict[int, dict[str, str]] = field(default_factory=dict)

    def read(self, chunk: dict[str, Any], at_ms: float) -> tuple[TokensEvent | ToolCallsEvent, ...]:
        """The events of one chunk; none for one that only opens or closes the stream.

        Raises:
            MalformedStreamError: a field has another type than the protocol says.
        """
        try:
            return self._read(chunk, at_ms)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as exc:
            raise _malformed(orjson.dumps(chunk, default=str)) from exc

    def _read(self, chunk: dict[str, Any], at_ms: float) -> tuple[TokensEvent | ToolCallsEvent, ...]:
        if chunk.get("prompt_token_ids"):
            self.prompt_token_ids = tuple(chunk["prompt_token_ids"])
            self.placeholders = dict(chunk.get("mm_placeholders") or {})
        if chunk.get("usage"):
            self.usage = dict(chunk["usage"])
        if not chunk.get("choices"):
            return ()
        choice = chunk["choices"][0]
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        delta = choice.get("delta") or {}
        text = delta.get("content") or choice.get("text") or ""
        steps = _steps(choice, text, at_ms)
        self.output_tokens += len(steps)
        tokens = (TokensEvent(text, steps, at_ms),) if text or steps else ()
        if not delta.get("tool_calls"):
            return tokens
        self._add_calls(delta["tool_calls"])
        return (*tokens, ToolCallsEvent(self.tool_calls, at_ms))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls so far."""
        return tuple(ToolCall(**self._calls[index]) for index in sorted(self._calls))

    def _add_calls(self, deltas: list[dict[str, Any]]) -> None:
        for delta in deltas:
            call = self._calls.setdefault(delta["index"], {"id": "", "name": "", "arguments": ""})
            function = delta.get("function") or {}
            call["id"] = delta.get("id") or call["id"]
            call["name"] += function.get("name") or ""
            call["arguments"] += function.get("arguments") or ""


def _steps(choice: dict[str, Any], text: str, at_ms: float) -> tuple[RawStep, ...]:
    ids = choice.get("token_ids")
    content = (choice.get("logprobs") or {}).get("content")
    if content:
        pairs = zip(content, ids if ids is not None else [None] * len(content), strict=True)
        return tuple(_step(entry, token_id, at_ms) for entry, token_id in pairs)
    if ids is None:
        # A server that tells no ids: a chunk stands for a token, which is what can be known.
        return (RawStep(None, text, text.encode(), _UNKNOWN, (), array("d"), at_ms),) if text else ()
    texts = [text, *[""] * (len(ids) - 1)]
    return tuple(
        RawStep(token_id, part, None, _UNKNOWN, (), array("d"), at_ms)
        for token_id, part in zip(ids, texts, strict=False)
    )


def _step(entry: dict[str, Any], token_id: int | None, at_ms: float) -> RawStep:
    token, raw = entry["token"], entry.get("bytes")
    by_id = token.startswith(_ID_PREFIX) and token_id is not None
    raw = bytes(raw) if raw is not None else (None if by_id else token.encode())
    top = entry.get("top_logprobs") or ()
    values = array("d", [_UNKNOWN if item["logprob"] is None else item["logprob"] for item in top])
    logprob = entry.get("logprob")
    if by_id:
        names: Sequence[int] | Sequence[str] = array("i", [int(item["token"][9:]) for item in top])
        token = (raw or b"").decode("utf-8", "replace")
    else:
        names = [item["token"] for item in top]
    return RawStep(token_id, token, raw, _UNKNOWN if logprob is None else logprob, names, values, at_ms)
