"""A repeat as JSON, as Markdown and for the page: figures that are known, words that are true, hostile text as text."""

from __future__ import annotations

import json

from components.compare.repeat_view import page_view, repeat_to_dict, repeats_markdown
from components.core.answers import Sampling
from components.core.states import Outcome, RepeatState
from tests.data.repeats import FAILED, column, repeat, sample


def test_the_document_has_samples_groups_and_figures() -> None:
    document = json.loads(json.dumps(repeat_to_dict(repeat()), allow_nan=False))
    base, candidate = document["columns"]
    assert [(group["count"], group["text"], group["seeds"]) for group in base["distinct"]] == [
        (2, "seven", [5, 6]),
        (1, "eight", [7]),
    ]
    assert (base["answers"], base["failures"], base["self_consistency"]) == (3, 0, 2 / 3)
    assert (candidate["answers"], candidate["failures"]) == (2, 1)
    assert candidate["samples"][2]["error"]["code"] == "stream_truncated"
    assert candidate["sampling"]["temperature"] == 0.7
    assert "seed" not in candidate["sampling"]
    (flips,) = document["flips"]
    assert (flips["flipped"], flips["pairs"], flips["flip_rate"]["value"]) == (1, 2, 0.5)
    assert flips["verdict"] == "undecidable"
    assert document["base_self_disagreement"] == base["self_disagreement"]
    assert (document["n"], document["seed"], document["state"]) == (3, 5, "finished")


def test_failures_cuts_and_other_parameters_are_said() -> None:
    cut = column(0, sample(5, "x", finish_reason="length"), sample(6, "y"), sampling=Sampling(temperature=0.0))
    short = column(1, sample(5, "x"), FAILED, ended_early="It ended.", sampling=Sampling(temperature=0.5))
    words = repeat_to_dict(repeat(columns=(cut, short), state=RepeatState.INCOMPLETE))["notes"]
    assert any("different parameters" in note for note in words)
    assert any("1 of 2 answers were cut off" in note for note in words)
    assert any("1 failed, not counted as answers: The connection broke." in note for note in words)
    assert any("not all samples were asked for. It ended." in note for note in words)
    assert not any("temperature 0" in note for note in words), "not all columns were greedy"


def test_temperature_0_is_explained() -> None:
    greedy = tuple(column(i, sample(5, "x"), sample(6, "x"), sampling=Sampling()) for i in range(2))
    view = page_view(repeat(columns=greedy))
    assert any("At temperature 0" in note for note in view["notes"])
    assert view["columns"][0]["facts"] == ["2 of 3 answers", "1 different", "most frequent 100 %"]


def test_the_page_gets_rates_that_stand_on_one_scale() -> None:
    base, candidate = page_view(repeat())["rates"]
    assert base["role"] == "base" and candidate["role"] == "candidate"
    assert "two seeds differ in 67 % (95 % interval" in base["figures"]
    assert "1 of 2 seeds flip, 50 %" in candidate["figures"]
    assert "too few samples" in candidate["verdict"]
    for rate in (base, candidate):
        assert 0 <= rate["low"] <= rate["value"] <= rate["high"] <= 1


def test_long_answers_are_cut_on_the_page_only() -> None:
    long = repeat(columns=(column(0, sample(5, "x" * 5000), sample(6, "short")),))
    first, second = page_view(long)["columns"][0]["answers"]
    assert (len(first["text"]), first["cut"], second["cut"]) == (4000, True, False)
    assert len(repeat_to_dict(long)["columns"][0]["distinct"][0]["text"]) == 5000


def test_without_a_base_there_are_no_rates() -> None:
    alone = repeat(columns=(column(1, sample(5, "x"), sample(6, "y")),))
    assert page_view(alone)["rates"] == []
    document = repeat_to_dict(alone)
    assert document["flips"] == [] and document["base_self_disagreement"] is None


def test_a_running_repeat_without_a_sample_is_drawn() -> None:
    empty = repeat(state=RepeatState.RUNNING, columns=(column(0), column(1)), finished_at=None)
    view = page_view(empty, "Loading weights")
    assert (view["done"], view["wanted"], view["waiting"], view["rates"]) == (0, 6, "Loading weights", [])
    assert view["columns"][0]["facts"] == ["0 of 3 answers"]


def test_f38_markdown_holds_hostile_answers_in_fences() -> None:
    hostile = "```\n# heading\n![x](http://evil.example)\u202e\ud800"
    failed = FAILED.model_copy(update={"seed": 6, "outcome": Outcome.FAILED})
    text = repeats_markdown([repeat(columns=(column(0, sample(5, hostile), failed), column(1, sample(5, "ok"))))])
    assert "````text\n```\n# heading\n![x](http://evil.example)\\u{202e}\\u{d800}\n````" in text
    assert "3 samples per column, seeds 5 to 7, finished" in text
    assert "1 failed" in text
    text.encode()


def test_half_a_character_reaches_no_page_and_no_document() -> None:
    odd = repeat(columns=(column(0, sample(5, "a\ud800"), sample(6, "b")),))
    for value in (page_view(odd), repeat_to_dict(odd)):
        json.dumps(value, ensure_ascii=False).encode()
