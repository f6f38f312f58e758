"""Real vLLM keeps the wire contract; its refusals are readable (F23); tokens, pictures and closing are as promised."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest

from components.core.answers import Sampling
from components.core.errors import AppError, RequestRefusedError
from components.engines.sight_pictures import picture
from components.engines.stream import ChatRequest, stream_chat, to_records
from components.engines.transport import EngineClient
from tests.engine.serving import BASE, Engines, client_of
from tests.fakes.stream_contract import REQUEST, StreamContract, steps_and_end

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not (BASE / "params.json").exists(), reason="the embedded pair is not built"),
]


@pytest.fixture
def socket(engines: Engines) -> Path:
    """Of the engine that was started with the profile's own options."""
    return engines.w4a16


@pytest.fixture
async def client(socket: Path) -> AsyncIterator[EngineClient]:
    client = client_of(socket)
    yield client
    await client.close()


@pytest.fixture
async def knowing(socket: Path) -> AsyncIterator[EngineClient]:
    client = client_of(socket, with_vocabulary=True)
    yield client
    await client.close()


def ask(text: str = "What colour is this picture?", *pictures: str, **changes: Any) -> ChatRequest:
    parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}} for url in pictures]
    messages = ({"role": "user", "content": [*parts, {"type": "text", "text": text}]},)
    return REQUEST.model_copy(update={"messages": messages, **changes})


async def refusal(client: EngineClient, request: ChatRequest) -> AppError:
    with pytest.raises(RequestRefusedError) as caught:
        await steps_and_end(client, request)
    return caught.value


class TestContract(StreamContract):
    """All of the contract, against the real server."""


async def test_ids_with_a_vocabulary_say_the_same_as_texts_without(client: EngineClient, knowing: EngineClient) -> None:
    request = ask("Hi", logprobs=20)
    by_text, _ = await steps_and_end(client, request)
    by_id, _ = await steps_and_end(knowing, request)
    for texts, ids in zip(to_records(by_text), to_records(by_id, knowing.vocabulary), strict=True):
        assert texts.token_id == ids.token_id
        assert [round(item.logprob or 0, 4) for item in texts.top] == [round(item.logprob or 0, 4) for item in ids.top]
        # Alternatives of equal probability may change places; a text may be lossy or empty.
        sure = {item.text for item in texts.top if item.text and "\ufffd" not in item.text}
        assert sure - {item.text for item in ids.top} == set()


async def test_image_tokens_are_counted_and_the_same_with_and_without_the_servers_help(knowing: EngineClient) -> None:
    _, end = await steps_and_end(knowing, ask("What colour is this picture?", picture("plain")))
    ids = knowing.vocabulary.image_token_ids if knowing.vocabulary else frozenset()
    assert end.usage.image_tokens == sum(token_id in ids for token_id in end.prompt_token_ids) > 0
    _, end = await steps_and_end(knowing, ask("Hi"))
    assert end.usage.image_tokens == 0


async def test_f23_a_prompt_over_the_context_names_both_numbers(client: EngineClient) -> None:
    error = await refusal(client, ask("colour " * 3000))
    assert "2048" in error.message
    assert "tokens, but the model's context holds" in error.message


async def test_f23_max_tokens_over_the_context_names_both_numbers(client: EngineClient) -> None:
    error = await refusal(client, ask("Hi", sampling=Sampling(max_tokens=5000)))
    assert "5000" in error.message
    assert "2048" in error.message


async def test_f23_one_picture_too_many(client: EngineClient) -> None:
    error = await refusal(client, ask("?", *[picture("plain")] * 5))
    assert "at most 4 pictures" in error.message


async def test_f23_bytes_that_are_no_picture(client: EngineClient) -> None:
    error = await refusal(client, ask("?", "data:image/png;base64,bm9uc2Vuc2U="))
    assert "can't decode the picture" in error.message


async def test_f26_more_alternatives_than_allowed_come_as_an_error_inside_a_200(client: EngineClient) -> None:
    error = await refusal(client, ask("Hi", extra={"ignore_eos": True}, logprobs=65))
    assert "at most 64" in error.message


async def test_f61_closing_the_stream_stops_the_engine(client: EngineClient, socket: Path) -> None:
    request = ask("Hi", sampling=Sampling(max_tokens=1900), logprobs=0)
    async with aclosing(stream_chat(client, request)) as events:
        await anext(events)
    transport = httpx.AsyncHTTPTransport(uds=str(socket))
    deadline = time.monotonic() + 2.0
    async with httpx.AsyncClient(transport=transport, base_url="http://engine") as http:
        while (running := _running((await http.get("/metrics")).text)) != 0:
            assert time.monotonic() < deadline, running
            await asyncio.sleep(0.02)


def _running(metrics: str) -> float:
    line = next(line for line in metrics.splitlines() if line.startswith("vllm:num_requests_running"))
    return float(line.split()[-1])
