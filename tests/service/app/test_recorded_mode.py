"""``app.py --recorded``: quick, without vLLM, without a process but its own, and nothing can be started."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.running_app import RefusedError, RunningApp, new_state_dir

pytestmark = pytest.mark.service
ABSENT = ("vllm", "torch", "transformers", "mistral_common", "tokenizers", "gguf", "accelerate")


@pytest.fixture(scope="module")
def recorded() -> Iterator[RunningApp]:
    """An app whose interpreter can't import vLLM or what comes with it."""
    state = new_state_dir()
    site = state / "site"
    site.mkdir()
    names = ", ".join(f'"{name}"' for name in ABSENT)
    (site / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys(({names}), None))\n")
    app = RunningApp(state, "--recorded", environment={"PYTHONPATH": str(site)}).start()
    try:
        app.wait_for_page()
        yield app
    finally:
        app.close()


def test_it_runs_no_other_process(recorded: RunningApp) -> None:
    recorded.wait_alone()
    assert {model["state"] for model in recorded.models().values()} == {"STOPPED"}
    ready = httpx.get(f"{recorded.url}readyz", timeout=30, trust_env=False)
    assert ready.json() == {"ready": True, "missing": []}


@pytest.mark.parametrize(
    ("endpoint", "arguments"),
    [("compare", ("Hello", [], {})), ("benchmark", ({"models": ["embedded/w4a16"]},))],
)
def test_what_needs_an_engine_is_refused_in_words(
    recorded: RunningApp, endpoint: str, arguments: tuple[object, ...]
) -> None:
    with pytest.raises(RefusedError, match="replays recorded turns"):
        recorded.call(endpoint, *arguments)


def test_recorded_turns_have_their_score_and_exports(recorded: RunningApp) -> None:
    config = httpx.get(f"{recorded.url}config", timeout=30, trust_env=False).json()
    assert "quantize" not in {dependency.get("api_name") for dependency in config["dependencies"]}
    turn = first_turn()
    score = recorded.call("score", turn, {})
    assert score["method"] == "exact"
    assert score["tokens"]
    for kind in ("json", "md"):
        assert httpx.get(f"{recorded.url}traces/{turn}.{kind}", timeout=30, trust_env=False).status_code == 200
    with pytest.raises(RefusedError, match="replays recorded turns"):
        recorded.call("repeat", turn, {})
    published = recorded.call("results", {"source": "published"})
    assert len(published) > 20


def first_turn() -> str:
    """Its id, from the bundled file itself."""
    file = Path(__file__).parents[3] / "assets" / "recorded" / "embedded.jsonl.gz"
    return str(json.loads(gzip.decompress(file.read_bytes()).splitlines()[0])["trace"]["id"])
