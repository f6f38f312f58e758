"""What the exact method does with files and with engines that do not play along: scripted servers, real sockets."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from components.core.errors import EngineDiedError, EngineFailureError, EngineNotReadyError, InputError
from components.engines.exact_scoring import ExactScorer, PathTokens, other_batch
from components.engines.inside_vllm.diptych_scoring import is_supported
from components.engines.transport import EngineClient
from components.engines.vocabulary import Vocabulary

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


@pytest.mark.parametrize(
    ("alone", "in_company", "shapes"),
    [
        ((70,), (73,), (70, 73)),
        ((70,), (70,), None),
        ((2048, 500), (2048, 506), (500, 506)),  # a long prompt's first step is full either way
        ((2048,), (2048, 3), (2048, 3)),
        ((2048, 500), (2048, 500), None),
    ],
)
def test_another_batch_shape_is_seen_in_the_steps_of_both_runs(
    alone: tuple[int, ...], in_company: tuple[int, ...], shapes: tuple[int, int] | None
) -> None:
    assert other_batch(alone, in_company) == shapes


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("NotImplementedError: the output projection is quantized (int8)", "engine: the output projection is quant"),
        ("ValueError: the base's logits are not finite numbers at token 2 of the answer", "engine: the base's logits"),
        ("OSError: [Errno 28] No space left on device: '/srv/secret'", "inside the engine\\."),
    ],
)
async def test_the_extensions_own_reasons_are_told_others_are_for_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str, told: str
) -> None:
    async def compute(_: object, __: object, job: dict[str, str]) -> None:
        (tmp_path / f"{job['id']}.error").write_text(reason)

    monkeypatch.setattr("components.engines.exact_scoring.prefill", compute)
    client = EngineClient("m", uds=tmp_path / "s")
    with pytest.raises(EngineFailureError, match=told) as raised:
        await ExactScorer(tmp_path).score(client, client, PATH)
    assert raised.value.detail == reason
    assert "secret" not in str(raised.value)


async def test_files_that_are_none_are_an_error_that_can_be_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def compute(_: object, __: object, job: dict[str, str]) -> None:
        (tmp_path / f"{job['id']}.safetensors").write_bytes(b"half of one")

    monkeypatch.setattr("components.engines.exact_scoring.prefill", compute)
    client = EngineClient("m", uds=tmp_path / "s")
    with pytest.raises(EngineFailureError, match="can't be used"):
        await ExactScorer(tmp_path).score(client, client, PATH)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("in the way of the folder")
    with pytest.raises(EngineFailureError, match="can't be used"):
        await ExactScorer(tmp_path / "file").score(client, client, PATH)


async def test_an_answer_that_ends_at_once_is_no_company(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def compute(_: object, __: object, job: dict[str, str]) -> None:
        (tmp_path / "x" / f"{job['id']}.safetensors").write_bytes(b"")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    monkeypatch.setattr("components.engines.exact_scoring.prefill", compute)
    async with await asyncio.start_unix_server(answer, tmp_path / "s"):
        with pytest.raises(EngineDiedError, match="ended an answer before it began"):
            await ExactScorer(tmp_path / "x").floor(EngineClient("m", uds=tmp_path / "s"), PATH)


async def test_models_of_other_vocabularies_are_not_compared(tmp_path: Path) -> None:
    def client(name: str, words: dict[int, bytes], specials: dict[int, str]) -> EngineClient:
        return EngineClient(name, uds=tmp_path / "s", vocabulary=Vocabulary(words, specials))

    base = client("base", {5: b"red", 6: b"blue"}, {0: "<unk>"})
    with pytest.raises(InputError, match="id 6 is 'blue' for base and 'green' for other"):
        await ExactScorer(tmp_path).score(base, client("other", {5: b"red", 6: b"green"}, {0: "<unk>"}), PATH)
    with pytest.raises(EngineNotReadyError):  # the same words, whatever a control token is called
        await ExactScorer(tmp_path).score(base, client("same", {5: b"red", 6: b"blue"}, {0: "<SPECIAL_0>"}), PATH)
