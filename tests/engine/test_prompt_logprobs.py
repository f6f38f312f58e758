"""The lower bound along a whole answer on real vLLM servers that were started without our extension."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from components.compare.score_tokens import whole_path_tokens
from components.core.answers import Answer, TokenStep
from components.core.errors import RequestRefusedError
from components.engines.exact_scoring import PathTokens
from components.engines.prepare import ModelPreparer
from components.engines.prompt_logprobs import NotOnThePathError, Row, rows_of
from components.engines.token_id_scores import stock_rows
from components.profiles.loader import load_pair
from tests.engine.serving import BASE, ROOT, answered_path, client_of, served
from tests.noise import NOISE

SAMPLES = ROOT / "assets" / "samples"


@dataclass(frozen=True)
class Servers:
    base: Path
    candidate: Path


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    profile = load_pair(ROOT / "profiles", "embedded")
    model = next(m for m in profile.candidates if m.id == "coarse")
    with tempfile.TemporaryDirectory() as folder:
        prepared = ModelPreparer(Path(folder), ROOT).prepare(profile, model, lambda _text, _share: None)
        with served(BASE, all_logprobs=True) as base, served(Path(prepared), all_logprobs=True) as candidate:
            yield Servers(base, candidate)


def asked(picture: str, prompt: str) -> list[dict[str, Any]]:
    url = "data:image/png;base64," + base64.b64encode((SAMPLES / picture).read_bytes()).decode("ascii")
    return [
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": prompt}],
        }
    ]


def text_of(path: PathTokens) -> str:
    """The answer as the page has it: an end of sequence has no text."""
    vocabulary = client_of(Path("/none"), with_vocabulary=True).vocabulary
    assert vocabulary is not None
    return b"".join(vocabulary.raw(i) or b"" for i in path.answer_ids if i != 2).decode()


async def both(
    servers: Servers, messages: list[dict[str, Any]], path: PathTokens, k: int
) -> tuple[list[Row], list[Row]]:
    clients = client_of(servers.base), client_of(servers.candidate)
    base, candidate = [await rows_of(client, messages, (), path, text_of(path), k) for client in clients]
    return base, candidate


def bounds(rows: tuple[list[Row], list[Row]], path: PathTokens) -> list[float]:
    written = Answer(tokens=tuple(TokenStep(token_id=i, text="", at_ms=0.0) for i in path.answer_ids))
    tokens, notes = whole_path_tokens(*rows, written, str)
    assert len(tokens) == len(path.answer_ids) and notes
    values = [token.kl_base_to_candidate_nats for token in tokens]
    assert all(value is not None for value in values)
    assert all(0 < (token.covered_mass or 0) <= 1 for token in tokens)
    return [value for value in values if value is not None]


async def test_every_token_of_the_answer_gets_a_bound_that_rises_with_k_to_the_whole_vocabulary(
    servers: Servers,
) -> None:
    messages = asked("four-shapes.png", "Describe the picture.")
    path = await answered_path(client_of(servers.base), messages)
    assert path.answer_ids[-1] == 2, "it ended by itself, and the end is scored too"
    few, usual, whole = [bounds(await both(servers, messages, path, k), path) for k in (2, 20, -1)]
    assert max(whole) > 0.1, "the coarse one is of another opinion somewhere"
    for low, middle, exact in zip(few, usual, whole, strict=True):
        # What is left for the tail is one minus a sum of float32 values.
        assert 0 <= low <= middle + 2e-6 <= exact + 4e-6
    print(f"mean KL over {len(whole)} tokens: k 2 {sum(few):.4f}, 20 {sum(usual):.4f}, all {sum(whole):.4f} in sum")


async def test_an_answer_that_was_cut_has_no_end_to_score(servers: Servers) -> None:
    messages = asked("four-shapes.png", "Describe the picture.")
    path = await answered_path(client_of(servers.base), messages, max_tokens=9)
    base, candidate = await both(servers, messages, path, 20)
    assert len(base) == len(candidate) == 9
    assert [row.target_rank for row in base] == [1] * 9, "it wrote what it found likeliest"
    assert min(len(row.logprobs) for row in (*base, *candidate)) >= 20


async def test_without_scale_out_endpoints_the_method_stock_says_what_is_missing(servers: Servers) -> None:
    path = PathTokens((1, 3), (5, 2))
    with pytest.raises(RequestRefusedError, match="no endpoint for token ids") as raised:
        await stock_rows(client_of(servers.base), client_of(servers.candidate), path)
    assert "--enable-scale-out" in raised.value.hint


async def test_what_is_read_as_other_tokens_is_never_scored(servers: Servers) -> None:
    client = client_of(servers.base)
    messages = asked("four-shapes.png", NOISE)
    path = await answered_path(client, messages, temperature=2.0, seed=4, max_tokens=64)
    with pytest.raises(NotOnThePathError, match="other tokens, from token 3 of the answer on"):
        changed = (*path.answer_ids[:2], path.answer_ids[2] + 1, *path.answer_ids[3:])
        await rows_of(client, messages, (), replace(path, answer_ids=changed), text_of(path))
    with pytest.raises(NotOnThePathError, match="from the prompt on"):
        await rows_of(client, asked("word.png", "Read the word."), (), path, text_of(path))
