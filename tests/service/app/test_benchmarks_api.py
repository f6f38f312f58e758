"""The endpoints of benchmarks on the real app: what they give, what they refuse, and what visitors may not do."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.running_app import RefusedError, RunningApp

pytestmark = pytest.mark.service


def test_the_published_figures_are_there_and_flagged(app: RunningApp) -> None:
    found = app.call("results", {"source": "published"})
    assert len(found) > 100
    wrong = [record for record in found if record["verified"] is False]
    assert any(record["metric"] == "queries_per_usd" and record["recomputed"] == 620.7 for record in wrong)
    assert {record["suite"] for record in found} == {"quality", "accuracy", "throughput", "cost"}
    one = app.call("results", {"source": "published", "suite": "accuracy"})
    assert {record["suite"] for record in one} == {"accuracy"}


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"source": "guessed"}, "source: There is no source 'guessed'. Accepted: measured, published."),
        ({"suite": "speed"}, "suite: "),
        ({"colour": "red"}, "colour: There is no field 'colour'."),
        ({"model": 3}, "model: "),
        ([], "filter: "),
    ],
)
def test_a_bad_filter_is_refused_by_field(app: RunningApp, wanted: object, words: str) -> None:
    with pytest.raises(RefusedError) as caught:
        app.call("results", wanted)
    assert words in caught.value.args[0]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"suite": "speed"}, "suite: There is no suite 'speed'. Accepted: all, quality, accuracy, throughput."),
        ({"models": ["embedded/none"]}, "models: "),
        ({"models": ["embedded/base"]}, "models: One candidate at least"),
        ({"models": 7}, "models: "),
        ({"overrides": {"chunks": "many"}}, "overrides.chunks: "),
        ({"overrides": {"speed": 3}}, "overrides.speed: "),
        ({"overrides": {"convention": "x"}}, "overrides.convention: "),
        ({"overrides": {"text_file": "relative.txt"}}, "overrides.text_file: "),
        ({"overrides": {"text_file": "/no/such/file.txt"}}, "overrides.text_file: "),
        ({"overrides": {"hardware": "abacus"}}, "overrides.hardware: "),
        ({"overrides": []}, "overrides: "),
        ({"speed": 1}, "speed: "),
        ("all", "spec: "),
    ],
)
def test_a_bad_spec_is_refused_by_field(app: RunningApp, spec: object, words: str) -> None:
    with pytest.raises(RefusedError) as caught:
        app.call("benchmark", spec)
    assert words in caught.value.args[0]
    assert "Traceback" not in caught.value.args[0]


def test_the_card_of_a_model_that_was_never_measured_says_so(app: RunningApp) -> None:
    card = app.call("card", "embedded/w4a16")
    assert card["markdown"].startswith("---\nbase_model: embedded/base\nbase_model_relation: quantized\n")
    assert "Perplexity" in card["missing"]
    with pytest.raises(RefusedError, match="model: "):
        app.call("card", "embedded/base")
    with pytest.raises(RefusedError, match="model: "):
        app.call("card", "<script>")


def test_visitors_start_nothing_but_may_look(public_app: RunningApp) -> None:
    with pytest.raises(RefusedError, match="Visitors can't start or change jobs"):
        public_app.call("benchmark", {})
    assert public_app.call("results", {"source": "published"})
    assert public_app.call("card", "embedded/w8a8")["markdown"]


def test_the_charts_script_is_the_installed_one(app: RunningApp) -> None:
    import plotly

    answer = httpx.get(app.url + "plotly.js", trust_env=False)
    installed = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    assert answer.content == installed.read_bytes()
