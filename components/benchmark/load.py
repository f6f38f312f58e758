"""Load on one engine: requests of one shape at one concurrency, timed as they stream.

Definitions are vLLM's (vllm/benchmarks/serve.py): TTFT to the first token; TPOT = the rest of the time over the other
tokens, the first excluded; ITL between two pieces; E2EL the whole request, queueing included; throughput = tokens of
all requests over the wall time.
"""

from __future__ import annotations

import asyncio
import base64
import io
import random
import secrets
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from PIL import Image

from components.benchmark.spec import UseCase
from components.benchmark.tasks import run_all
from components.core.answers import Sampling
from components.core.errors import StreamError
from components.core.latency import timing_from_arrivals
from components.engines.stream import ChatRequest, FinishedEvent, TokensEvent, stream_chat
from components.engines.transport import EngineClient

_JPEG_QUALITY = 85
_NOTHING_TO_SAY = "Go on."


@dataclass(frozen=True)
class RequestTiming:
    """One request; times in ms. ``error`` is empty for one that succeeded."""

    error: str = ""
    ttft_ms: float | None = None
    tpot_ms: float | None = None
    e2el_ms: float = 0.0
    itl_ms: tuple[float, ...] = ()
    prompt_tokens: int = 0
    output_tokens: int = 0
    finish_reason: str = ""


@dataclass(frozen=True)
class LoadResult:
    """One use case at one concurrency on one engine, in one round."""

    wall_s: float
    requests: tuple[RequestTiming, ...]

    @property
    def succeeded(self) -> tuple[RequestTiming, ...]:
        """Without those that failed."""
        return tuple(request for request in self.requests if not request.error)


class LoadMaker:
    """Makes requests of a use case: a text of about so many tokens, and a picture that no other request has.

    Args:
        text: where words are taken from.
        characters_per_token: of that text under the models' tokenizer.
    """

    def __init__(self, text: str, characters_per_token: float) -> None:
        self._text, self._width = text, characters_per_token

    def messages(self, case: UseCase, rng: random.Random) -> tuple[dict[str, Any], ...]:
        """OpenAI messages of one request."""
        parts: list[dict[str, Any]] = []
        if case.image:
            parts.append({"type": "image_url", "image_url": {"url": _picture(*case.image, rng)}})
        if case.prompt_tokens or not case.image:
            parts.append({"type": "text", "text": self._words(case.prompt_tokens, rng)})
        return ({"role": "user", "content": parts if case.image else parts[0]["text"]},)

    def _words(self, tokens: int, rng: random.Random) -> str:
        length = max(1, round(tokens * self._width))
        start = rng.randrange(max(1, len(self._text) - length))
        return (self._text * (1 + length // max(1, len(self._text))))[start : start + length] or _NOTHING_TO_SAY


def _picture(width: int, height: int, rng: random.Random) -> str:
    """A gradient as JPEG, another one each time, so that no cache answers."""
    across, down = Image.linear_gradient("L").rotate(90), Image.linear_gradient("L")
    flat = Image.new("L", across.size, rng.randrange(256))
    bands = [across, down, flat]
    rng.shuffle(bands)
    picture = Image.merge("RGB", bands).resize((width, height))
    picture.putpixel((0, 0), (rng.randrange(256), rng.randrange(256), rng.randrange(256)))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


async def put_load(
    client: EngineClient, chats: Sequence[tuple[dict[str, Any], ...]], case: UseCase, concurrency: int, *, fixed: bool
) -> LoadResult:
    """All chats, ``concurrency`` at a time, each as soon as one has ended.

    Raises:
        EngineNotReadyError: the engine does not answer at all.
    """
    waiting = iter(chats)
    found: list[RequestTiming] = []

    async def worker() -> None:
        for messages in waiting:
            found.append(await _one(client, messages, case, fixed=fixed))

    started_s = time.perf_counter()
    await run_all(worker() for _ in range(min(concurrency, len(chats))))
    return LoadResult(time.perf_counter() - started_s, tuple(found))


async def put_load_at_rate(
    client: EngineClient, chats: Sequence[tuple[dict[str, Any], ...]], case: UseCase, requests_per_s: float,
    rng: random.Random, *, fixed: bool,
) -> LoadResult:  # fmt: skip
    """All chats, each sent at its own time whether earlier ones have ended or not: Poisson arrivals.

    Args:
        rng: draws the gaps, exponential with mean 1 / ``requests_per_s``; equal ones make equal arrivals.

    Raises:
        EngineNotReadyError: the engine does not answer at all.
    """
    found: list[RequestTiming] = []
    due_s, due = 0.0, list[float]()
    for _ in chats:
        due.append(due_s)
        due_s += rng.expovariate(requests_per_s)

    async def send(messages: tuple[dict[str, Any], ...], after_s: float) -> None:
        await asyncio.sleep(after_s)
        found.append(await _one(client, messages, case, fixed=fixed))

    started_s = time.perf_counter()
    await run_all(send(messages, after_s) for messages, after_s in zip(chats, due, strict=True))
    return LoadResult(time.perf_counter() - started_s, tuple(found))


async def _one(
    client: EngineClient, messages: tuple[dict[str, Any], ...], case: UseCase, *, fixed: bool
) -> RequestTiming:
    request = ChatRequest(
        messages=messages, sampling=Sampling(temperature=0.0, max_tokens=case.output_tokens), logprobs=0,
        cache_salt=secrets.token_hex(8), extra={"ignore_eos": True} if fixed else {},
    )  # fmt: skip
    arrivals, pieces, end = list[float](), list[float](), None
    try:
        async with aclosing(stream_chat(client, request)) as events:
            async for event in events:
                if isinstance(event, TokensEvent):
                    arrivals += [event.at_ms] * len(event.raw_steps)
                    pieces.append(event.at_ms)
                elif isinstance(event, FinishedEvent):
                    end = event
    except StreamError as exc:
        return RequestTiming(error=str(exc)[:300])
    if end is None or not arrivals:
        return RequestTiming(error="The answer held no token.")
    timing = timing_from_arrivals(arrivals, end.at_ms)
    return RequestTiming(
        ttft_ms=timing.ttft_ms, tpot_ms=timing.tpot_ms, e2el_ms=end.at_ms,
        itl_ms=tuple(later - sooner for sooner, later in pairwise(pieces)),
        prompt_tokens=end.usage.prompt_tokens or 0, output_tokens=end.usage.output_tokens or len(arrivals),
        finish_reason=end.finish_reason,
    )  # fmt: skip
