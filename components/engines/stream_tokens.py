"""A continuation as a stream of events: the engine is given token ids as they are, and goes on from the last one.

Only our own engines have the route (``--enable-scale-out``). Nothing is tokenized again, so a half character or two
tokens that could be one stay what they are.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from components.core.answers import Sampling, TokenStep
from components.engines.exact_scoring import GENERATE, PathTokens, check_prompt, tokens_body
from components.engines.stream import FIRST_TOKEN_LIMIT_S, NEXT_TOKEN_LIMIT_S, encode_body, finished, read_events
from components.engines.stream_events import ChunkReader, StreamEvent
from components.engines.transport import EngineClient

_ALTERNATIVES = 20


@dataclass(frozen=True)
class TokensRequest:
    """Go on after ``path``: its prompt, its pictures, and its answer's ids, which are those of ``given``."""

    path: PathTokens
    given: tuple[TokenStep, ...]
    sampling: Sampling

    @property
    def text(self) -> str:
        """What is given, as text."""
        return b"".join(step.text.encode() if step.raw is None else step.raw for step in self.given).decode(
            "utf-8", "replace"
        )


async def stream_tokens(client: EngineClient, request: TokensRequest) -> AsyncGenerator[StreamEvent, None]:
    """Events of what comes after the given tokens, as ``stream_chat`` has them; raises the same, and

    Raises:
        EngineFailureError: the engine did not begin with these very tokens and pictures.
    """
    reader, path = ChunkReader(), request.path
    sent = (*path.prompt_ids, *path.answer_ids)
    body = encode_body(_body(client, request, sent))
    limits = (FIRST_TOKEN_LIMIT_S, NEXT_TOKEN_LIMIT_S)
    checked = False
    async with aclosing(read_events(client, GENERATE, body, reader, limits)) as events:
        async for event in events:
            if not checked:
                check_prompt(client, path, sent, reader.prompt_token_ids, reader.placeholders)
                checked = True
            yield event
    yield finished(reader, client, has_images=bool(path.images))


def _body(client: EngineClient, request: TokensRequest, sent: tuple[int, ...]) -> dict[str, Any]:
    sampling, path = request.sampling, request.path
    wanted = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": max(1, sampling.max_tokens - len(path.answer_ids)),
        "logprobs": _ALTERNATIVES,
        "stop": list(sampling.stop),
    }
    if sampling.seed is not None:
        wanted["seed"] = sampling.seed
    streamed = {"stream": True, "stream_options": {"include_usage": True}, "output_mode": "text"}
    return tokens_body(client, path, sent, wanted) | streamed
