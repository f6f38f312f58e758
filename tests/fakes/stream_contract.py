"""What a server of one model does on the wire, whether it is scripted or real: subclass it and give it a ``client``.

Only what both do alike stands here, so that the scripted server can't drift from vLLM.
"""

from __future__ import annotations

from contextlib import aclosing

import orjson
import pytest

from components.core.answers import Sampling
from components.core.errors import RequestRefusedError
from components.engines.stream import ChatRequest, FinishedEvent, TokensEvent, request_body, stream_chat, to_records
from components.engines.stream_events import RawStep
from components.engines.transport import EngineClient

REQUEST = ChatRequest(
    messages=({"role": "user", "content": "Hi"},),
    sampling=Sampling(max_tokens=5),
    logprobs=3,
    extra={"ignore_eos": True},
)


async def steps_and_end(client: EngineClient, request: ChatRequest = REQUEST) -> tuple[list[RawStep], FinishedEvent]:
    steps: list[RawStep] = []
    async for event in stream_chat(client, request):
        if isinstance(event, TokensEvent):
            steps += event.raw_steps
        elif isinstance(event, FinishedEvent):
            return steps, event
    raise AssertionError("no FinishedEvent")


async def raw_lines(client: EngineClient, request: ChatRequest = REQUEST, **changes: object) -> list[bytes]:
    body = orjson.dumps(request_body(request, client) | changes)
    async with client.request_stream("/v1/chat/completions", body) as response:
        data = b"".join([chunk async for chunk in response.chunks])
    return [line for line in data.split(b"\n") if line]


class StreamContract:
    """Each method is a test; ``client`` is a fixture of the subclass."""

    async def test_it_is_healthy_and_lists_its_model(self, client: EngineClient) -> None:
        assert await client.healthy()
        assert client.served_model in await client.served_models()
        assert (await client.version() or "").startswith("0.32")

    async def test_events_are_data_lines_and_the_last_is_done(self, client: EngineClient) -> None:
        lines = await raw_lines(client)
        assert all(line.startswith(b"data: ") for line in lines)
        assert lines[-1] == b"data: [DONE]"
        assert b'"usage"' in lines[-2]

    async def test_the_first_chunk_has_the_prompt_and_no_token(self, client: EngineClient) -> None:
        first = orjson.loads((await raw_lines(client))[0].removeprefix(b"data: "))
        assert first["prompt_token_ids"][0] == 1
        assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        assert "token_ids" not in first["choices"][0]

    async def test_every_token_has_id_logprob_and_alternatives(self, client: EngineClient) -> None:
        steps, end = await steps_and_end(client)
        assert len(steps) == end.usage.output_tokens == 5
        assert end.usage.prompt_tokens == len(end.prompt_token_ids) > 0
        for step in to_records(steps):
            assert step.token_id is not None
            assert step.logprob is not None
            assert len(step.top) == 3

    async def test_ids_on_request_replace_the_text_of_alternatives(self, client: EngineClient) -> None:
        lines = await raw_lines(client, return_tokens_as_token_ids=True)
        entry = orjson.loads(lines[1].removeprefix(b"data: "))["choices"][0]["logprobs"]["content"][0]
        assert entry["token"].startswith("token_id:")
        assert all(item["token"].startswith("token_id:") for item in entry["top_logprobs"])
        assert not bytes(entry["bytes"]).startswith(b"token_id:")  # the chosen token keeps its own bytes

    async def test_no_logprobs_unless_asked_for(self, client: EngineClient) -> None:
        steps, _ = await steps_and_end(client, REQUEST.model_copy(update={"logprobs": 0}))
        assert len(steps) == 5
        assert {step.logprob for step in to_records(steps)} == {None}

    async def test_another_models_name_is_refused(self, client: EngineClient) -> None:
        name, client.served_model = client.served_model, "nope"
        try:
            with pytest.raises(RequestRefusedError, match="does not exist"):
                await steps_and_end(client)
        finally:
            client.served_model = name

    async def test_a_stream_can_be_left_early_and_the_server_goes_on(self, client: EngineClient) -> None:
        async with aclosing(stream_chat(client, REQUEST)) as events:
            await anext(events)
        assert len((await steps_and_end(client))[0]) == 5
