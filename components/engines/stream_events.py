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
from itertools import repeat
from typing import Any, NamedTuple

import msgspec
from pydantic import TypeAdapter

from components.core.answers import TokenStep, ToolCall, Usage
from components.core.errors import MalformedStreamError
from components.engines.vocabulary import Vocabulary

_ID_PREFIX = "token_id:"
_NOT_RETURNED = -9999.0  # what vLLM sends for minus infinity
_UNKNOWN = math.nan


class _Alternative(msgspec.Struct):
    token: str
    logprob: float | None = None


class _Token(msgspec.Struct):
    token: str
    logprob: float | None = None
    bytes: list[int] | None = None
    top_logprobs: list[_Alternative] | None = None


class _Logprobs(msgspec.Struct):
    content: list[_Token] | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    token_ids: list[int] | None = None
    logprobs: _Logprobs | None = None


class Chunk(msgspec.Struct):
    """What of a ``data:`` payload is read. The rest, the bytes of every alternative above all, is skipped unread,
    which takes a third of the time that ``orjson.loads`` takes for all of it.
    """

    choices: list[_Choice] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None
    prompt_token_ids: list[int] | None = None
    mm_placeholders: dict[str, Any] | None = None


_CHUNKS = msgspec.json.Decoder(Chunk)
_TOKEN_STEPS = TypeAdapter(tuple[TokenStep, ...])


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
    # All in one call of pydantic: a quarter less time than a call for each of a step's twenty alternatives.
    return _TOKEN_STEPS.validate_python([_to_values(step, vocabulary) for step in raw_steps])


def _to_values(step: RawStep, vocabulary: Vocabulary | None) -> dict[str, Any]:
    names: Iterable[int | str] = step.top
    # vLLM puts the sampled token first, whatever its rank.
    ranked = sorted(zip(names, map(_known, step.top_logprobs), strict=True), key=_rank, reverse=True)
    known = vocabulary.raw(step.token_id) if vocabulary and step.token_id is not None else None
    return {
        "token_id": step.token_id,
        "text": step.text if known is None else known.decode("utf-8", "replace"),
        "raw": step.raw if known is None else known,
        "logprob": _known(step.logprob),
        "top": [_alternative(name, value, vocabulary) for name, value in ranked],
        "at_ms": step.at_ms,
    }


def _rank(alternative: tuple[int | str, float | None]) -> float:
    return -math.inf if alternative[1] is None else alternative[1]


def _alternative(name: int | str, value: float | None, vocabulary: Vocabulary | None) -> dict[str, Any]:
    if isinstance(name, str):
        return {"token_id": None, "text": name, "logprob": value}
    return {"token_id": name, "text": vocabulary.text(name) if vocabulary else "", "logprob": value}


def _known(value: float) -> float | None:
    return value if math.isfinite(value) and value > _NOT_RETURNED else None


def load_chunk(payload: bytes) -> Chunk:
    """One ``data:`` payload.

    Raises:
        MalformedStreamError: it is no JSON, or a field has another type than the protocol says (F05). NaN and
            Infinity, which JSON has not but Python servers write, pass.
    """
    try:
        return _CHUNKS.decode(payload)
    except ValueError:  # msgspec's errors are ValueErrors too
        try:
            return msgspec.convert(json.loads(payload), Chunk)
        except ValueError as exc:
            raise _malformed(payload) from exc


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

    def read(self, chunk: Chunk, at_ms: float) -> tuple[TokensEvent | ToolCallsEvent, ...]:
        """The events of one chunk; none for one that only opens or closes the stream.

        Raises:
            MalformedStreamError: its parts do not fit together.
        """
        try:
            return self._read(chunk, at_ms)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as exc:
            raise _malformed(msgspec.json.encode(chunk)) from exc

    def _read(self, chunk: Chunk, at_ms: float) -> tuple[TokensEvent | ToolCallsEvent, ...]:
        if chunk.prompt_token_ids:
            self.prompt_token_ids = tuple(chunk.prompt_token_ids)
            self.placeholders = chunk.mm_placeholders or {}
        if chunk.usage:
            self.usage = chunk.usage
        if not chunk.choices:
            return ()
        choice = chunk.choices[0]
        self.finish_reason = choice.finish_reason or self.finish_reason
        delta = choice.delta or _Delta()
        text = delta.content or choice.text or ""
        steps = _steps(choice, text, at_ms)
        self.output_tokens += len(steps)
        tokens = (TokensEvent(text, steps, at_ms),) if text or steps else ()
        if not delta.tool_calls:
            return tokens
        self._add_calls(delta.tool_calls)
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


def _steps(choice: _Choice, text: str, at_ms: float) -> tuple[RawStep, ...]:
    ids = choice.token_ids
    content = choice.logprobs.content if choice.logprobs else None
    if content:
        known: Iterable[int | None] = repeat(None, len(content)) if ids is None else ids
        return tuple(_step(entry, token_id, at_ms) for entry, token_id in zip(content, known, strict=True))
    if ids is None:
        # A server that tells no ids: a chunk stands for a token, which is what can be known.
        return (RawStep(None, text, text.encode(), _UNKNOWN, (), array("d"), at_ms),) if text else ()
    texts = [text, *[""] * (len(ids) - 1)]
    return tuple(
        RawStep(token_id, part, None, _UNKNOWN, (), array("d"), at_ms)
        for token_id, part in zip(ids, texts, strict=False)
    )


def _step(entry: _Token, token_id: int | None, at_ms: float) -> RawStep:
    token, top = entry.token, entry.top_logprobs or ()
    by_id = token.startswith(_ID_PREFIX) and token_id is not None
    raw = bytes(entry.bytes) if entry.bytes is not None else (None if by_id else token.encode())
    values = array("d", [_UNKNOWN if item.logprob is None else item.logprob for item in top])
    if by_id:
        names: Sequence[int] | Sequence[str] = array("i", [int(item.token[9:]) for item in top])
        token = (raw or b"").decode("utf-8", "replace")
    else:
        names = [item.token for item in top]
    logprob = _UNKNOWN if entry.logprob is None else entry.logprob
    return RawStep(token_id, token, raw, logprob, names, values, at_ms)
