"""What a stream does when the server misbehaves (F01–F05, F23, F24, F26), against the scripted server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from components.core.answers import Sampling
from components.core.errors import (
    AppError,
    EngineFailureError,
    EngineNotReadyError,
    InputError,
    MalformedStreamError,
    RequestRefusedError,
    StreamStalledError,
    StreamTruncatedError,
)
from components.engines.stream import ChatRequest, FinishedEvent, StreamEvent, TokensEvent, stream_chat, to_records
from components.engines.stream_events import RawStep
from components.engines.transport import EngineClient
from components.engines.vocabulary import Vocabulary
from tests.service.engines.conftest import FakeEngine

pytestmark = pytest.mark.service

REQUEST = ChatRequest(messages=({"role": "user", "content": "Hi"},), logprobs=5)


async def collect(
    client: EngineClient, request: ChatRequest = REQUEST, **limits: float
) -> tuple[list[StreamEvent], AppError | None]:
    events: list[StreamEvent] = []
    try:
        async for event in stream_chat(client, request, **limits):
            events.append(event)
    except AppError as error:
        return events, error
    return events, None


def text(events: list[StreamEvent]) -> str:
    return "".join(event.text_delta for event in events if isinstance(event, TokensEvent))


def raw_steps(events: list[StreamEvent]) -> list[RawStep]:
    return [step for event in events if isinstance(event, TokensEvent) for step in event.raw_steps]


async def test_a_complete_answer_ends_with_reason_usage_and_prompt(engine: FakeEngine) -> None:
    events, error = await collect(engine.client)
    assert error is None
    assert text(events) == "w0 grün w2 w3 w4 w5 w6 w7 "
    last = events[-1]
    assert isinstance(last, FinishedEvent)
    assert last.finish_reason == "stop"
    assert last.prompt_token_ids == (1, 3, 1100, 4)
    assert (last.usage.prompt_tokens, last.usage.output_tokens, last.usage.image_tokens) == (4, 8, 0)
    steps = to_records(raw_steps(events))
    assert [step.token_id for step in steps] == list(range(1000, 1008))
    assert [step.at_ms for step in steps] == sorted(step.at_ms for step in steps)


async def test_alternatives_have_id_and_text_with_a_vocabulary(
    engine: FakeEngine, tiny_vocabulary: Callable[[], Vocabulary]
) -> None:
    vocabulary = tiny_vocabulary()
    client = engine.with_vocabulary(vocabulary)
    events, _ = await collect(client)
    await client.close()
    step = to_records(raw_steps(events), vocabulary)[0]
    assert (step.text, step.raw) == ("t1000", b"t1000")
    assert [(alternative.token_id, alternative.text) for alternative in step.top[:2]] == [
        (1000, "t1000"),
        (1100, "t1100"),
    ]


async def test_f26_the_sentinel_is_unknown_never_a_number(engine: FakeEngine) -> None:
    events, _ = await collect(engine.client)
    last_alternative = to_records(raw_steps(events))[0].top[-1]
    assert last_alternative.logprob is None


@pytest.mark.parametrize("mode", ["no_logprobs", "nan_logprobs"])
async def test_f26_missing_and_nan_logprobs_are_unknown(engine: FakeEngine, mode: str) -> None:
    engine.script(mode=mode)
    events, error = await collect(engine.client)
    assert error is None
    assert {step.logprob for step in to_records(raw_steps(events))} == {None}
    assert [step.token_id for step in raw_steps(events)] == list(range(1000, 1008))


async def test_f01_a_cut_connection_is_truncated_and_keeps_the_text(engine: FakeEngine) -> None:
    engine.script(mode="abort")
    events, error = await collect(engine.client)
    assert isinstance(error, StreamTruncatedError)
    assert "3 tokens" in error.message
    assert text(events) == "w0 grün w2 "


async def test_f02_an_error_chunk_is_an_engine_failure_with_its_message(engine: FakeEngine) -> None:
    engine.script(mode="error_chunk")
    events, error = await collect(engine.client)
    assert isinstance(error, EngineFailureError)
    assert "EngineCore encountered an issue" in error.message
    assert text(events) == "w0 grün w2 "


async def test_f02_a_dead_engine_behind_a_living_server_is_not_healthy(engine: FakeEngine) -> None:
    assert await engine.client.healthy()
    engine.script(mode="engine_dead")
    assert not await engine.client.healthy()


async def test_f03_an_end_without_a_reason_is_truncated(engine: FakeEngine) -> None:
    engine.script(mode="clean_end")
    events, error = await collect(engine.client)
    assert isinstance(error, StreamTruncatedError)
    assert not any(isinstance(event, FinishedEvent) for event in events)


async def test_an_answer_that_the_server_gives_up_is_truncated(engine: FakeEngine) -> None:
    engine.script(mode="giving_up")
    _, error = await collect(engine.client)
    assert isinstance(error, StreamTruncatedError)


async def test_f04_a_stall_between_tokens_is_noticed(engine: FakeEngine) -> None:
    engine.script(mode="stall")
    events, error = await collect(engine.client, next_token_limit_s=0.1)
    assert isinstance(error, StreamStalledError)
    assert text(events) == "w0 grün w2 "


async def test_f04_the_first_token_has_a_limit_of_its_own(engine: FakeEngine) -> None:
    engine.script(ttft_s=0.3)
    events, error = await collect(engine.client, first_token_limit_s=0.1, next_token_limit_s=60.0)
    assert isinstance(error, StreamStalledError)
    assert events == []
    assert (await collect(engine.client, first_token_limit_s=5.0, next_token_limit_s=0.2))[1] is None


async def test_f05_bad_json_is_a_malformed_stream(engine: FakeEngine) -> None:
    engine.script(mode="bad_json")
    _, error = await collect(engine.client)
    assert isinstance(error, MalformedStreamError)


async def test_f05_a_character_cut_by_the_network_stays_whole(engine: FakeEngine) -> None:
    engine.script(mode="split_utf8")
    events, error = await collect(engine.client)
    assert error is None
    assert text(events).startswith("w0 grün w2 ")


@pytest.mark.parametrize("mode", ["http_500", "http_503"])
async def test_f24_a_server_error_is_asked_once_and_shown(engine: FakeEngine, mode: str) -> None:
    engine.script(mode=mode)
    _, error = await collect(engine.client)
    assert isinstance(error, EngineFailureError)
    assert len(engine.fake.hits) == 1
    engine.script(mode="ok")
    assert (await collect(engine.client))[1] is None


async def test_f23_a_refusal_is_the_requests_fault(engine: FakeEngine) -> None:
    engine.script(mode="http_400")
    _, error = await collect(engine.client)
    assert isinstance(error, RequestRefusedError)
    assert "scripted failure" in error.message


async def test_nobody_at_the_address(tmp_path: Path) -> None:
    client = EngineClient("fake/base", uds=tmp_path / "none.sock")
    _, error = await collect(client)
    assert isinstance(error, EngineNotReadyError)
    assert not await client.healthy()
    await client.close()


async def test_f12_the_model_list_is_told_as_it_is(engine: FakeEngine) -> None:
    assert await engine.client.served_models() == {"fake/base": 2048}
    engine.script(mode="wrong_model")
    assert await engine.client.served_models() == {}
    assert await engine.client.version() == "0.32.0+fake"


async def test_f61_closing_the_stream_closes_the_request(engine: FakeEngine) -> None:
    engine.script(itl_s=0.01, tokens=10_000)
    request = REQUEST.model_copy(update={"sampling": Sampling(max_tokens=10_000)})
    async with contextlib.aclosing(stream_chat(engine.client, request)) as events:
        await anext(events)
        assert engine.fake.open_streams == 1
    async with asyncio.timeout(20):
        while engine.fake.open_streams:
            await asyncio.sleep(0.005)


async def test_a_server_that_tells_no_ids_gets_no_fields_of_vllm(engine: FakeEngine) -> None:
    engine.script(mode="plain_ids")
    engine.client.is_vllm = False
    events, error = await collect(engine.client, REQUEST.model_copy(update={"cache_salt": "salt", "logprobs": 0}))
    assert error is None
    assert {step.token_id for step in raw_steps(events)} == {None}
    body = engine.fake.hits[-1]["body"]
    assert not {"return_token_ids", "cache_salt", "logprobs"} & set(body)


async def test_the_body_carries_every_parameter(engine: FakeEngine) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    sampling = Sampling(temperature=0.5, top_p=0.9, max_tokens=3, seed=7, stop=("x",))
    request = ChatRequest(
        messages=REQUEST.messages, sampling=sampling, tools=(tool,), cache_salt="s", extra={"ignore_eos": True}
    )
    await collect(engine.client, request)
    body = engine.fake.hits[-1]["body"]
    expected = {"temperature": 0.5, "top_p": 0.9, "max_tokens": 3, "seed": 7, "stop": ["x"], "tools": [tool],
                "tool_choice": "auto", "cache_salt": "s", "ignore_eos": True, "top_logprobs": 20}  # fmt: skip
    assert expected.items() <= body.items()


async def test_a_field_that_is_not_allowed_is_named(engine: FakeEngine) -> None:
    _, error = await collect(engine.client, REQUEST.model_copy(update={"extra": {"chat_template": "x"}}))
    assert isinstance(error, InputError)
    assert "chat_template" in error.message
    assert engine.fake.hits == []


async def test_half_a_character_in_the_prompt_is_refused_before_sending(engine: FakeEngine) -> None:
    _, error = await collect(engine.client, ChatRequest(messages=({"role": "user", "content": "\ud800"},)))
    assert isinstance(error, InputError)
    assert engine.fake.hits == []
