"""Token steps as bytes."""

from __future__ import annotations

import gzip
import math

import pytest

from components.core.answers import Answer, TokenStep
from components.core.errors import BlobDamagedError
from components.storage.steps import pack_steps, unpack_steps
from tests.data.traces import finished


def test_steps_come_back_as_they_were() -> None:
    answer = finished(steps=40)
    data = pack_steps(answer)
    assert data is not None
    assert data == pack_steps(answer)
    steps = unpack_steps(data)
    assert steps.tokens == answer.tokens
    assert steps.prompt_token_ids == answer.prompt_token_ids


def test_an_answer_without_tokens_needs_no_file() -> None:
    assert pack_steps(Answer(text="x")) is None


@pytest.mark.parametrize("number", [math.nan, -math.inf])
def test_no_nan_is_stored(number: float) -> None:
    data = pack_steps(Answer(tokens=(TokenStep(token_id=1, text="a", logprob=number, at_ms=1.0),)))
    assert data is not None
    assert b"nan" not in gzip.decompress(data).lower()
    assert unpack_steps(data).tokens[0].logprob is None


@pytest.mark.parametrize("data", [b"", b"text", gzip.compress(b"{"), gzip.compress(b'{"version": 2}')])
def test_what_is_not_ours_is_a_typed_error(data: bytes) -> None:
    with pytest.raises(BlobDamagedError):
        unpack_steps(data)
