"""What the exact method does with files and with engines that do not play along: scripted servers, real sockets."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.core.errors import EngineFailureError, EngineNotReadyError, InputError
from components.engines.exact_scoring import ExactScorer, PathTokens
from components.engines.inside_vllm.diptych_scoring import is_supported
from components.engines.transport import EngineClient

PATH = PathTokens((1, 2, 3), (4, 5))


def test_leftovers_of_a_dead_app_are_deleted_at_the_start(tmp_path: Path) -> None:
    ExactScorer(tmp_path / "none").remove_leftovers()
    (tmp_path / f"{'a' * 32}.safetensors").write_bytes(b"hidden states of somebody")
    ExactScorer(tmp_path).remove_leftovers()
    assert list(tmp_path.iterdir()) == []


async def test_an_answer_without_tokens_can_not_be_scored(tmp_path: Path) -> None:
    client = EngineClient("m", uds=tmp_path / "s")
    with pytest.raises(InputError, match="no tokens"):
        await ExactScorer(tmp_path).score(client, client, PathTokens((1,), ()))


async def test_an_engine_that_is_gone_is_said(tmp_path: Path) -> None:
    client = EngineClient("m", uds=tmp_path / "s")
    with pytest.raises(EngineNotReadyError, match="does not answer"):
        await ExactScorer(tmp_path / "x").score(client, client, PATH)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"prompt_token_ids": [1, 2, 3, 4]}, "wrote no result"),
        ({"prompt_token_ids": [1, 2, 9, 4]}, "computed other tokens"),
        ({}, "computed other tokens"),
        ({"prompt_token_ids": [1, 2, 3, 4], "mm_placeholders": {"image": [{"offset": 1, "length": 1}]}}, "0 pictures"),
    ],
)
async def test_what_was_not_computed_as_asked_is_never_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: dict[str, object], words: str
) -> None:
    async def answer(*_: object) -> dict[str, object]:
        return told

    monkeypatch.setattr("components.engines.exact_scoring.post_json", answer)
    client = EngineClient("m", uds=tmp_path / "s")
    with pytest.raises(EngineFailureError, match=words):
        await ExactScorer(tmp_path).score(client, client, PATH)


@pytest.mark.parametrize(
    ("version", "known"), [("0.32.0", True), ("0.32.0+cpu", True), ("0.33.0", False), (None, False)]
)
def test_only_versions_that_were_read_are_hooked(version: str | None, known: bool) -> None:
    assert is_supported(version) is known
