"""The exact method on real engines: its hidden states, logits and statistics are the ones they are said to be."""

from __future__ import annotations

import asyncio
import base64
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from components.compare.eyes import without_pictures
from components.core import divergence
from components.core.errors import EngineFailureError, RequestRefusedError
from components.engines.exact_scoring import ExactResult, ExactScorer, PathTokens, post_json
from components.engines.transport import EngineClient
from tests.engine.serving import BASE, ROOT, Engines, ScoredPair, answered_path, client_of, served
from tests.noise import NOISE

HEAD_NAME = "language_model.model.embed_tokens.weight"
SAMPLES = ROOT / "assets" / "samples"


@pytest.fixture
def pair(engines: Engines) -> ScoredPair:
    return ScoredPair(engines.base, engines.w4a16, engines.exchange)


def data_url(name: str) -> str:
    return "data:image/png;base64," + base64.b64encode((SAMPLES / name).read_bytes()).decode("ascii")


async def answer(client: EngineClient, picture: str, prompt: str, **sampling: Any) -> PathTokens:
    """What the engine answers, as tokens on a path."""
    content = [{"type": "image_url", "image_url": {"url": data_url(picture)}}, {"type": "text", "text": prompt}]
    return await answered_path(client, [{"role": "user", "content": content}], **sampling)


async def states(client: EngineClient, exchange: Path, path: PathTokens) -> torch.Tensor:
    """The hidden states that the extension writes for a path."""
    job = secrets.token_hex(16)
    await ExactScorer(exchange)._run(client, path, {"id": job})  # the half of a comparison
    with safe_open(exchange / f"{job}.safetensors", "pt") as file:
        return file.get_tensor("hidden")


def head() -> torch.Tensor:
    """The pair's output projection, which is its tied embedding."""
    for path in sorted(BASE.glob("*.safetensors")):
        tensors = load_file(path)
        if HEAD_NAME in tensors:
            return tensors[HEAD_NAME]
    raise AssertionError("no embedding")


async def test_the_end_of_an_answer_counts_as_a_token(pair: ScoredPair) -> None:
    path = await answer(client_of(pair.base), "one-circle.png", "Describe the picture.")
    assert path.answer_ids[-1] == 2, "the end-of-sequence token"


async def test_hidden_states_give_the_served_logits_bit_for_bit(pair: ScoredPair) -> None:
    client = client_of(pair.base)
    path = await answer(client, "four-shapes.png", "Describe the picture.")
    hidden = await states(client, pair.exchange, path)
    logits = torch.nn.functional.linear(hidden, head())
    ours = torch.log_softmax(logits.float(), dim=-1)
    body = {
        "model": client.served_model, "token_ids": [*path.prompt_ids, *path.answer_ids],
        "content_parts": [{"type": "image_url", "url": url} for url in path.images],
        "sampling_params": {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": -1},
    }  # fmt: skip
    told = (await post_json(client, "/inference/v1/generate", body))["prompt_logprobs"][len(path.prompt_ids) :]
    assert len(told) == len(path.answer_ids) == len(ours)
    for row, entry in zip(ours, told, strict=True):
        served_row = torch.tensor([entry[str(index)]["logprob"] for index in range(len(entry))])
        assert torch.equal(served_row, row)


async def test_statistics_equal_float64_from_the_same_states(pair: ScoredPair) -> None:
    base, candidate = client_of(pair.base), client_of(pair.candidate)
    path = await answer(base, "number.png", NOISE, temperature=2.0, seed=1, max_tokens=64)
    result = await ExactScorer(pair.exchange).score(base, candidate, path)
    weight = head().double()
    log_p, log_q = [
        divergence.log_softmax(((await states(client, pair.exchange, path)).double() @ weight.T).numpy())
        for client in (base, candidate)
    ]
    targets = np.array(path.answer_ids)
    expected = {
        "kl_base_to_candidate_nats": divergence.kl_nats(log_p, log_q),
        "kl_candidate_to_base_nats": divergence.kl_nats(log_q, log_p),
        "jensen_shannon_nats": divergence.jensen_shannon_nats(log_p, log_q),
        "total_variation": divergence.total_variation(log_p, log_q),
        "base_entropy_nats": divergence.entropy_nats(log_p),
        "candidate_entropy_nats": divergence.entropy_nats(log_q),
        "base_target_logprob": divergence.of_target(log_p, targets),
        "candidate_target_logprob": divergence.of_target(log_q, targets),
        "base_margin_nats": divergence.margin_nats(log_p),
        "candidate_margin_nats": divergence.margin_nats(log_q),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(result.statistics[name], values, atol=1e-6, err_msg=name)
    assert (result.statistics["kl_base_to_candidate_nats"] > 0).any()
    assert (result.statistics["kl_base_to_candidate_nats"] >= 0).all()
    np.testing.assert_array_equal(result.statistics["base_target_rank"], divergence.rank_of_target(log_p, targets))
    quick = await ExactScorer(pair.exchange, quick=True).score(base, candidate, path)
    assert (result.logits_dtype, quick.logits_dtype) == ("float64", "float32")
    for name, values in expected.items():
        np.testing.assert_allclose(quick.statistics[name], values, atol=2e-5, err_msg=name)
    assert not any(pair.exchange.glob("*.error"))


async def test_the_base_against_itself_is_zero_and_its_floor_is_measured_in_another_batch(pair: ScoredPair) -> None:
    client = client_of(pair.base)
    path = await answer(client, "word.png", NOISE, temperature=2.0, seed=2, max_tokens=48)
    scorer = ExactScorer(pair.exchange)
    same = await scorer.score(client, client, path)
    assert same.statistics["kl_base_to_candidate_nats"].max() == 0.0
    alone = len(path.prompt_ids) + len(path.answer_ids) - 1
    assert same.batch_tokens == (alone,)
    floor = await scorer.floor(client, path)
    assert max(floor.batch_tokens) > alone, "it was computed together with another request"
    assert floor.statistics["kl_base_to_candidate_nats"].max() < 0.05


async def test_a_picture_is_seen_in_the_tokens_that_tell_of_it_and_nowhere_else(pair: ScoredPair) -> None:
    client = client_of(pair.base, with_vocabulary=True)
    vocabulary = client.vocabulary
    assert vocabulary is not None
    path = await answer(client, "plain-blue.png", "What colour fills this picture?")
    pieces = [vocabulary.text(token_id) for token_id in path.answer_ids]
    assert "".join(pieces).startswith("The picture is blue.")
    ends = np.cumsum([len(piece) for piece in pieces])
    before = ends <= len("The picture is")
    colour = ~before & (ends <= len("The picture is blue"))
    scorer = ExactScorer(pair.exchange)
    same = await scorer.across_prompts(client, path, path)
    assert not reliance(same).any(), "the same picture tells nothing new"

    asked = await answered_path(client, [{"role": "user", "content": "What colour fills this picture?"}], max_tokens=1)
    removed = without_pictures(path, client)
    assert removed.prompt_ids == asked.prompt_ids, "as it would have been asked without the picture"
    swapped = replace(path, images=(data_url("one-circle.png"),))
    # Without any picture this model begins another kind of answer, so there the first word tells of the picture too.
    for changed, first in ((removed, 1), (swapped, 0)):
        alone = await scorer.across_prompts(client, path, changed)
        again = await scorer.across_prompts(client, path, changed, in_company=True)
        nats = reliance(alone)
        print(list(zip(pieces, nats.round(3), strict=True)), np.abs(reliance(again) - nats).max())
        assert nats[colour].sum() > 1.0
        assert np.abs(nats[before][first:]).max() < 0.05
        assert again.base_batch_tokens > alone.base_batch_tokens and again.batch_tokens > alone.batch_tokens
        assert np.abs(reliance(again) - nats).max() < 0.25


def reliance(result: ExactResult) -> Any:
    return result.statistics["base_target_logprob"] - result.statistics["candidate_target_logprob"]


async def test_chunked_prompts_give_the_same_states(pair: ScoredPair) -> None:
    """Several requests at once fill a step's budget, so that a prompt is computed in parts."""
    client = client_of(pair.base)
    path = await answer(client, "bar-chart.png", NOISE * 2, temperature=2.0, seed=3, max_tokens=128)
    alone = await states(client, pair.exchange, path)
    together = await asyncio.gather(*(states(client, pair.exchange, path) for _ in range(6)))
    for rows in together:
        assert rows.shape == alone.shape
        assert (rows.float() - alone.float()).abs().max() < 0.25  # another batch shape rounds otherwise in bfloat16


async def test_what_goes_wrong_inside_comes_out_as_an_error(pair: ScoredPair) -> None:
    base, candidate = client_of(pair.base), client_of(pair.candidate)
    path = await answer(base, "one-circle.png", "Describe the picture.")
    scorer = ExactScorer(pair.exchange)
    with pytest.raises(EngineFailureError, match="exact scoring failed") as raised:
        await scorer._run(candidate, path, {"id": "0" * 32, "compare": "f" * 32})
    assert "No such file" in raised.value.detail
    too_long = PathTokens(path.prompt_ids, path.answer_ids * 400, path.images)
    with pytest.raises(RequestRefusedError):
        await scorer.score(base, candidate, too_long)
    seeing = client_of(pair.base, with_vocabulary=True)
    with pytest.raises(EngineFailureError, match="0 pictures, 0 found"):
        await scorer.score(seeing, candidate, PathTokens(path.prompt_ids, path.answer_ids, ()))
    assert await candidate.healthy(), "the engine goes on"


@pytest.fixture
def other_head(pair: ScoredPair, tmp_path: Path) -> Iterator[Path]:
    """An engine of the base with an output projection (which is its embedding, too) 2 % larger."""
    folder = tmp_path / "other"
    shutil.copytree(BASE, folder)
    for path in folder.glob("*.safetensors"):
        tensors = load_file(path)
        if HEAD_NAME in tensors:
            path.unlink()
            save_file({**tensors, HEAD_NAME: (tensors[HEAD_NAME].float() * 1.02).bfloat16()}, path)
    with served(folder, exchange=pair.exchange) as socket:
        yield socket


async def test_each_model_gets_its_own_head_where_they_differ(pair: ScoredPair, other_head: Path) -> None:
    """The base's head travels too, once."""
    base, other = client_of(pair.base), client_of(other_head)
    path = await answer(base, "word.png", "Describe the picture.")
    result = await ExactScorer(pair.exchange).score(base, other, path)
    hidden = [(await states(client, pair.exchange, path)).double() for client in (base, other)]
    heads = head().double(), (head().float() * 1.02).bfloat16().double()
    log_p, log_q = (divergence.log_softmax((h @ w.T).numpy()) for h, w in zip(hidden, heads, strict=True))
    expected = divergence.kl_nats(log_p, log_q)
    np.testing.assert_allclose(result.statistics["kl_base_to_candidate_nats"], expected, atol=1e-6)
    assert len(list(pair.exchange.glob("head-*.safetensors"))) == 1
