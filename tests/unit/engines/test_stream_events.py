"""Reading one chunk of a streamed answer."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from components.core.errors import MalformedStreamError
from components.engines.stream_events import ChunkReader, TokensEvent, load_chunk


def _chunk(**choice: Any) -> bytes:
    return json.dumps({"id": "x", "choices": [{"index": 0, **choice}]}).encode()


def test_ids_logprobs_and_bytes_of_a_token() -> None:
    top = [{"token": "token_id:7", "logprob": -0.5, "bytes": [1]}, {"token": "token_id:9", "logprob": -1}]
    entry = {"token": "token_id:9", "logprob": -1.0, "bytes": [0xF0, 0x9F], "top_logprobs": top}
    payload = _chunk(delta={"content": "�"}, token_ids=[9], logprobs={"content": [entry]})
    (event,) = ChunkReader().read(load_chunk(payload), 3.0)
    assert isinstance(event, TokensEvent)
    (step,) = event.raw_steps
    assert (step.token_id, step.raw, step.logprob, list(step.top)) == (9, b"\xf0\x9f", -1.0, [7, 9])
    assert list(step.top_logprobs) == [-0.5, -1.0]


def test_numbers_that_json_has_not_pass_as_unknown() -> None:
    entry = {"token": "a", "logprob": math.nan, "top_logprobs": [{"token": "b", "logprob": -math.inf}]}
    (event,) = ChunkReader().read(load_chunk(_chunk(delta={"content": "a"}, logprobs={"content": [entry]})), 0.0)
    assert isinstance(event, TokensEvent)
    assert event.steps[0].logprob is None
    assert event.steps[0].top[0].logprob is None


@pytest.mark.parametrize(
    "payload",
    [
        b"[]",
        b'"text"',
        b"{",
        b"\xff\xfe",
        b'{"choices": {}}',
        b'{"choices": [{"delta": "text"}]}',
        b'{"choices": [{"delta": {"content": 3}}]}',
        b'{"choices": [{"logprobs": {"content": [{"token": 5}]}}]}',
    ],
)
def test_f05_what_is_no_chunk_is_named(payload: bytes) -> None:
    with pytest.raises(MalformedStreamError):
        load_chunk(payload)


def test_f05_more_ids_than_tokens() -> None:
    payload = _chunk(delta={"content": "a"}, token_ids=[1, 2], logprobs={"content": [{"token": "a"}]})
    with pytest.raises(MalformedStreamError):
        ChunkReader().read(load_chunk(payload), 0.0)


@pytest.mark.parametrize("logprobs", [None, {}, {"content": None}, {"tokens": ["a"], "token_logprobs": [-1.0]}])
def test_no_logprobs_or_those_of_another_protocol_are_none(logprobs: Any) -> None:
    (event,) = ChunkReader().read(load_chunk(_chunk(delta={"content": "a"}, logprobs=logprobs)), 0.0)
    assert isinstance(event, TokensEvent)
    assert math.isnan(event.raw_steps[0].logprob)
