"""One chat completion as a stream of events. Knows the OpenAI protocol and vLLM's additions to it, not HTTP.

The event stream is read by hand. The openai client would make pydantic models of every alternative of every token, on
the event loop that also serves the page; see ``stream_events`` for what is done instead.

Measured with 20 alternatives a token (2.6 kB a chunk), two cores shared with a training run: reading a chunk 36 µs
beside its HTTP (``transport``), the records 52 µs, made at the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from typing import Any

import orjson
from pydantic import Field

from components.core.answers import Record, Sampling, Usage
from components.core.errors import (
    EngineDiedError,
    InputError,
    MalformedStreamError,
    StreamStalledError,
    StreamTruncatedError,
)
from components.engines.stream_errors import chunk_error, refusal
from components.engines.stream_events import (
    ChunkReader,
    FinishedEvent,
    StreamEvent,
    TokensEvent,
    ToolCallsEvent,
    load_chunk,
    to_records,
)
from components.engines.transport import EngineClient, StreamResponse

__all__ = [
    "ChatRequest", "FinishedEvent", "StreamEvent", "TokensEvent", "ToolCallsEvent", "stream_chat", "to_records",
]  # fmt: skip

FIRST_TOKEN_LIMIT_S = 600.0  # a long prompt, behind others in the queue
NEXT_TOKEN_LIMIT_S = 60.0
EXTRA_FIELDS = frozenset(
    {"ignore_eos", "min_tokens", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty",
     "logit_bias", "stop_token_ids", "response_format", "add_generation_prompt", "continue_final_message"}
)  # fmt: skip
_MAX_LINE_BYTES = 16 * 1024 * 1024
_DONE = b"[DONE]"


class ChatRequest(Record):
    """What to ask. The model's name is the client's."""

    messages: tuple[dict[str, Any], ...] = Field(description="OpenAI messages; pictures as data: URLs only")
    sampling: Sampling = Sampling()
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: str | None = Field(
        default=None, description="auto, none or required; None = auto when tools are given"
    )
    logprobs: int = Field(default=20, ge=0, le=64, description="Alternatives per token; 0 = no log-probabilities")
    cache_salt: str | None = Field(default=None, description="Keeps prefix-cache timing from telling users apart (T14)")
    extra: dict[str, Any] = Field(default_factory=dict, description="Further request fields, of EXTRA_FIELDS")


async def stream_chat(
    client: EngineClient,
    request: ChatRequest,
    *,
    first_token_limit_s: float = FIRST_TOKEN_LIMIT_S,
    next_token_limit_s: float = NEXT_TOKEN_LIMIT_S,
) -> AsyncGenerator[StreamEvent, None]:
    """Events of one answer as they arrive; times are in ms since the request was sent.

    Ends after a ``FinishedEvent`` or with an error; what came before an error is the caller's to keep. Closing the
    generator (``contextlib.aclosing``) closes the request, and vLLM stops computing within milliseconds.

    Raises:
        InputError: ``extra`` has a field that is not allowed.
        RequestRefusedError: the request is at fault (F23).
        EngineNotReadyError, EngineDiedError: nobody answers, or the connection broke before the answer began.
        EngineFailureError: the server reported a failure, before or within the stream (F02, F24).
        StreamStalledError: no token within the limit (F04).
        StreamTruncatedError: it ended without a finish reason (F01, F03), or the server gave it up.
        MalformedStreamError: it was not what the protocol says (F05).
    """
    reader = ChunkReader()
    body = encode_body(request_body(request, client))
    limits = (first_token_limit_s, next_token_limit_s)
    async with aclosing(read_events(client, "/v1/chat/completions", body, reader, limits)) as events:
        async for event in events:
            yield event
    yield finished(reader, client, has_images=has_images(request))


async def read_events(
    client: EngineClient, endpoint: str, body: bytes, reader: ChunkReader, limits_s: tuple[float, float]
) -> AsyncGenerator[TokensEvent | ToolCallsEvent, None]:
    """Events of a request until its stream ends; ``reader`` collects what the end needs. Raises as ``stream_chat``.

    Args:
        limits_s: how long the first token may take, and each one after it.
    """
    loop = asyncio.get_running_loop()
    sent_s = loop.time()
    deadline_s = sent_s + limits_s[0]
    async with AsyncExitStack() as stack:
        payloads = await _open(client, endpoint, body, stack, deadline_s)
        while (payload := await _next_payload(payloads, deadline_s, reader)) is not None and payload != _DONE:
            now_s = loop.time()
            chunk = load_chunk(payload)
            if chunk.error:
                raise chunk_error(client.served_model, chunk.error)
            for event in reader.read(chunk, (now_s - sent_s) * 1000.0):
                deadline_s = now_s + limits_s[1]
                yield event
    reader.ended_ms = (loop.time() - sent_s) * 1000.0


def request_body(request: ChatRequest, client: EngineClient) -> dict[str, Any]:
    """The JSON body of a request. Parameters left at None are left out: the server's default holds.

    Raises:
        InputError: ``extra`` has a field that is not allowed.
    """
    unknown = sorted(set(request.extra) - EXTRA_FIELDS)
    if unknown:
        raise InputError(
            f"{unknown[0]} can't be set on a request.", f"Accepted: {', '.join(sorted(EXTRA_FIELDS))}.", field="extra"
        )
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": client.served_model,
        "messages": request.messages,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.stop:
        body["stop"] = sampling.stop
    if request.tools:
        body |= {"tools": request.tools, "tool_choice": request.tool_choice or "auto"}
    if request.logprobs:
        body |= {"logprobs": True, "top_logprobs": request.logprobs}
    if client.is_vllm:
        body["return_token_ids"] = True
        # Then alternatives come as ids and lose their text, which the vocabulary gives back.
        body["return_tokens_as_token_ids"] = bool(request.logprobs and client.vocabulary)
        if request.cache_salt:
            body["cache_salt"] = request.cache_salt
    return body | request.extra


def encode_body(body: dict[str, Any]) -> bytes:
    """The body of a request.

    Raises:
        InputError: it holds what is no text.
    """
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError as exc:
        raise InputError(
            "The prompt holds something that can't be sent as text.",
            "Remove half characters (lone surrogates); paste the text anew.",
            field="prompt",
            detail=str(exc),
        ) from exc


async def _open(
    client: EngineClient, endpoint: str, body: bytes, stack: AsyncExitStack, deadline_s: float
) -> AsyncIterator[bytes]:
    try:
        async with asyncio.timeout_at(deadline_s):
            response = await stack.enter_async_context(client.request_stream(endpoint, body))
            if response.status != 200:
                raise refusal(client.served_model, response.status, await response.read_error())
    except TimeoutError as exc:
        raise _stalled(ChunkReader()) from exc
    payloads = _payloads(response)
    stack.push_async_callback(payloads.aclose)
    return payloads


async def _next_payload(payloads: AsyncIterator[bytes], deadline_s: float, reader: ChunkReader) -> bytes | None:
    """The next payload, or None at the end of the stream."""
    try:
        async with asyncio.timeout_at(deadline_s):
            return await anext(payloads, None)
    except TimeoutError as exc:
        if reader.finish_reason is not None:  # only the usage is missing
            return None
        raise _stalled(reader) from exc
    except EngineDiedError as exc:
        if reader.finish_reason is not None:
            return None
        raise StreamTruncatedError(
            f"The connection to the engine broke after {_tokens(reader)}.",
            "The engine probably ended; its log says why. The partial answer is kept. Retry once it is ready again.",
            detail=exc.detail,
        ) from exc


async def _payloads(response: StreamResponse) -> AsyncGenerator[bytes, None]:
    """The ``data:`` payloads. Lines are split as bytes, so a character cut by the network stays whole (F05)."""
    rest = b""
    async for chunk in response.chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > _MAX_LINE_BYTES:
            raise MalformedStreamError("The server sent a line without an end.", detail=repr(rest[:200]))
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()
    if rest.startswith(b"data:"):
        yield rest[5:].strip()


def finished(reader: ChunkReader, client: EngineClient, *, has_images: bool) -> FinishedEvent:
    """The event that ends a complete answer.

    Raises:
        StreamTruncatedError: the server gave no reason for its end, or gave the answer up.
    """
    if reader.finish_reason is None:
        raise StreamTruncatedError(
            f"The stream ended after {_tokens(reader)} without saying why.",
            "The partial answer is kept, but does not count as an answer. Retry.",
        )
    if reader.finish_reason == "abort":
        raise StreamTruncatedError(
            f"The engine gave the answer up after {_tokens(reader)}.",
            "It was probably being stopped. The partial answer is kept. Retry once it is ready again.",
        )
    usage = _usage(reader, client, has_images)
    return FinishedEvent(reader.finish_reason, usage, reader.prompt_token_ids, reader.ended_ms)


def _usage(reader: ChunkReader, client: EngineClient, has_images: bool) -> Usage:
    details = reader.usage.get("prompt_tokens_details") or {}
    output = reader.usage.get("completion_tokens")
    return Usage(
        prompt_tokens=reader.usage.get("prompt_tokens") or len(reader.prompt_token_ids) or None,
        image_tokens=_image_tokens(reader, client) if has_images else 0,
        output_tokens=reader.output_tokens if output is None else output,
        cached_tokens=details.get("cached_tokens"),
    )


def _image_tokens(reader: ChunkReader, client: EngineClient) -> int | None:
    """How many prompt tokens stand for pictures; None where it can't be known."""
    told = ((reader.usage.get("prompt_tokens_details") or {}).get("multimodal_tokens") or {}).get("image")
    if isinstance(told, int):  # vLLM with --enable-prompt-tokens-details; equal to the count below for Pixtral
        return told
    image_ids = client.vocabulary.image_token_ids if client.vocabulary else frozenset()
    if not image_ids or not reader.prompt_token_ids:
        return None
    return sum(token_id in image_ids for token_id in reader.prompt_token_ids)


def has_images(request: ChatRequest) -> bool:
    """Whether any message carries a picture."""
    parts = (part for message in request.messages for part in message.get("content") or () if isinstance(part, dict))
    return any(part.get("type") == "image_url" for part in parts)


def _stalled(reader: ChunkReader) -> StreamStalledError:
    return StreamStalledError(
        f"The engine sent nothing more after {_tokens(reader)}.",
        "It may hang while its health check still answers: restart it on the Models tab. The partial answer is kept.",
    )


def _tokens(reader: ChunkReader) -> str:
    return "1 token" if reader.output_tokens == 1 else f"{reader.output_tokens} tokens"
