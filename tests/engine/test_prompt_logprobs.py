"""The lower bound along a whole answer on real vLLM servers that were started without our extension."""

from __future__ import annotations

import asyncio
import base64
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError as ClientError

from components.compare.score_tokens import whole_path_tokens
from components.core.answers import Answer, TokenStep
from components.core.errors import RequestRefusedError
from components.engines.exact_scoring import PathTokens
from components.engines.prompt_logprobs import NotOnThePathError, Row, rows_of
from components.engines.token_id_scores import stock_rows
from tests.engine.serving import BASE, KEY, ROOT, answered_path, client_of, launched, prepared, remote_client
from tests.noise import NOISE
from tests.running_app import RunningApp, copy_of_app, free_port, new_state_dir

SAMPLES = ROOT / "assets" / "samples"


@dataclass(frozen=True)
class Servers:
    """Ports of two servers that run elsewhere, as far as the app knows."""

    base: int
    candidate: int


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    ports = Servers(free_port(), free_port())
    with tempfile.TemporaryDirectory() as folder:
        base = launched(BASE, all_logprobs=True, port=ports.base)
        candidate = launched(prepared("coarse", Path(folder)), all_logprobs=True, port=ports.candidate)
        with base as first, candidate as second:
            for server in (first, second):
                asyncio.run(server.wait_healthy())
            yield ports


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
    clients = remote_client(servers.base), remote_client(servers.candidate)
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
    path = await answered_path(remote_client(servers.base), messages)
    assert path.answer_ids[-1] == 2, "it ended by itself, and the end is scored too"
    few, usual, whole = [bounds(await both(servers, messages, path, k), path) for k in (2, 20, -1)]
    assert max(whole) > 0.1, "the coarse one is of another opinion somewhere"
    for low, middle, exact in zip(few, usual, whole, strict=True):
        # What is left for the tail is one minus a sum of float32 values.
        assert 0 <= low <= middle + 2e-6 <= exact + 4e-6
    print(f"mean KL over {len(whole)} tokens: k 2 {sum(few):.4f}, 20 {sum(usual):.4f}, all {sum(whole):.4f} in sum")


async def test_an_answer_that_was_cut_has_no_end_to_score(servers: Servers) -> None:
    messages = asked("four-shapes.png", "Describe the picture.")
    path = await answered_path(remote_client(servers.base), messages, max_tokens=9)
    base, candidate = await both(servers, messages, path, 20)
    assert len(base) == len(candidate) == 9
    assert [row.target_rank for row in base] == [1] * 9, "it wrote what it found likeliest"
    assert min(len(row.logprobs) for row in (*base, *candidate)) >= 20


async def test_without_scale_out_endpoints_the_method_stock_says_what_is_missing(servers: Servers) -> None:
    path = PathTokens((1, 3), (5, 2))
    with pytest.raises(RequestRefusedError, match="no endpoint for token ids") as raised:
        await stock_rows(remote_client(servers.base), remote_client(servers.candidate), path)
    assert "--enable-scale-out" in raised.value.hint


async def test_what_is_read_as_other_tokens_is_never_scored(servers: Servers) -> None:
    client = remote_client(servers.base)
    messages = asked("four-shapes.png", NOISE)
    path = await answered_path(client, messages, temperature=2.0, seed=4, max_tokens=64)
    with pytest.raises(NotOnThePathError, match="other tokens, from token 3 of the answer on"):
        changed = (*path.answer_ids[:2], path.answer_ids[2] + 1, *path.answer_ids[3:])
        await rows_of(client, messages, (), replace(path, answer_ids=changed), text_of(path))
    with pytest.raises(NotOnThePathError, match="from the prompt on"):
        await rows_of(client, asked("word.png", "Read the word."), (), path, text_of(path))


_PROFILE = """
schema_version: 1
kind: pair
id: elsewhere
title: Two servers
description: Real vLLM servers without our extension.
vision: true
max_image_size: 112
max_images: 4
models:
- id: base
  role: base
  label: Base
  scheme: BF16
  source: {{kind: remote, url: "http://127.0.0.1:{base}/v1", served_model: embedded/base, api_key_env: A_KEY}}
  description: The base.
- id: coarse
  role: candidate
  label: Coarse
  scheme: W4A16
  source: {{kind: remote, url: "http://127.0.0.1:{candidate}/v1", served_model: embedded/base, api_key_env: A_KEY}}
  description: The coarse one.
"""


@pytest.fixture
def app(servers: Servers) -> Iterator[RunningApp]:
    copy = new_state_dir()
    profile = _PROFILE.format(base=servers.base, candidate=servers.candidate)
    root = copy_of_app(copy, {"elsewhere": profile})
    app = RunningApp(new_state_dir(), "--pair", "elsewhere", root=root, environment={"A_KEY": KEY}).start()
    try:
        app.wait_for_page()
        app.wait_ready("elsewhere/base", "elsewhere/coarse")
        yield app
    finally:
        app.close()
        shutil.rmtree(copy, ignore_errors=True)


def test_a_pair_of_remote_servers_is_scored_along_the_whole_answer(app: RunningApp) -> None:
    """The lists that came with the answers would go as far as the first different word; this goes to the end."""
    client = Client(app.url, verbose=False)
    picture = handle_file(SAMPLES / "four-shapes.png")
    trace = client.predict("Describe the picture.", [picture], {}, api_name="/compare")
    for path, column in zip(("base", "candidate"), trace["columns"], strict=True):
        score = client.predict(trace["id"], {"path": path}, api_name="/score")
        assert (score["method"], score["floor"]) == ("top_k", None)
        assert "lower bound" in score["precision"] and "along the whole answer" in score["notes"][0]
        assert [token["token_id"] for token in score["tokens"]] == column["answer"]["token_ids"]
        assert score["tokens_scored"] == len(score["tokens"]) > score["first_fork"] + 1
        assert all(0 < token["covered_mass"] <= 1 for token in score["tokens"])
        assert all(token["base_rank"] >= 1 for token in score["tokens"][:-1])
    with pytest.raises(ClientError, match="enable-scale-out"):
        client.predict(trace["id"], {"method": "stock"}, api_name="/score")
    with pytest.raises(ClientError, match="without our extension"):
        client.predict(trace["id"], {"picture": "removed"}, api_name="/score")
