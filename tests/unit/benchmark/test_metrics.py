"""Metrics, case by case from their definitions (quantize_bench.md 10.2)."""

from __future__ import annotations

import pytest

from components.benchmark.metrics import (
    anls,
    anywhere_relaxed,
    exact_match,
    explicit_prompt_relaxed,
    relaxed,
    vqa_match,
)


@pytest.mark.parametrize(
    ("answer", "references", "score"),
    [
        ("yes", ["yes"] * 10, 1.0),
        ("yes", ["yes", "yes", "no"], 2 / 3),
        ("yes", ["yes", "no", "no"], 1 / 3),
        ('"yes"', ["yes"] * 3, 1.0),
        ("'yes'", ["yes"] * 3, 1.0),
        ("Yes", ["yes"] * 10, 0.0),  # case counts
        ("5.", ["5"] * 10, 0.0),  # a full stop fails
        ("", ["yes"], 0.0),
    ],
)
def test_vqa_match(answer: str, references: list[str], score: float) -> None:
    assert vqa_match(answer, references) == pytest.approx(score)


@pytest.mark.parametrize(
    ("answer", "references", "score"),
    [
        ("5.", ["5"], 1.0),
        ("  Hello   World ", ["hello world"], 1.0),
        ("abcd", ["abcx"], 0.75),
        ("abc", ["xyz", "abd"], 2 / 3),
        ("", [""], 1.0),
        ("10%", ["10%"], 1.0),
        ("abc", ["xyz"], 0.0),  # threshold 0.0: no cut at 0.5
        ("ab", ["abcdef"], 2 / 6),
    ],
)
def test_anls(answer: str, references: list[str], score: float) -> None:
    assert anls(answer, references) == pytest.approx(score)


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("95", "100", 1.0),  # 5 % exactly
        ("94.9", "100", 0.0),
        ("105", "100", 1.0),
        ("1,234", "1234", 1.0),
        ("$1,234", "1234", 1.0),
        ("12%", "0.12", 1.0),
        ("0.12", "12%", 1.0),
        ("12%", "12", 1.0),
        ("12", "0.12", 0.0),  # no percent sign anywhere
        ("0", "0", 1.0),
        ("0.1", "0", 0.0),
        ("B. Paris", "B", 1.0),
        ("(B)", "B", 0.0),  # brackets are only taken away after "answer:"
        ("paris", "Paris", 1.0),
        ('"Paris"', "Paris", 1.0),
        ("5.", "5", 1.0),
        ("", "B", 0.0),
    ],
)
def test_relaxed(answer: str, reference: str, score: float) -> None:
    assert relaxed(answer, [reference]) == score
    assert relaxed(answer, ["something else", reference]) == score


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("Steps.\nFinal Answer: 42", "42", 1.0),
        ("**Final Answer:** 42", "42", 1.0),
        ("**Answer**: (B)", "B", 1.0),
        ("Answer: 1\nAnswer: 2", "2", 1.0),  # the last one
        ("Answer: 1\nAnswer: 2", "1", 0.0),
        ("Answer:\n\n  Paris \nmore", "Paris", 1.0),  # the first line that holds something
        ("Answer:\n\n", "Paris", 0.0),
        ("The result is 42", "42", 0.0),  # nowhere "answer:"
    ],
)
def test_explicit_prompt_relaxed(answer: str, reference: str, score: float) -> None:
    assert explicit_prompt_relaxed(answer, [reference]) == score


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("Final Answer: 41", "42", 1.0),  # within 5 %
        ("I think 42.\nFinal Answer: 7", "42", 0.0),  # an explicit answer gets no second chance
        ("It is about 1,500 people", "1500", 1.0),
        ("There are 3 of 14 left", "4", 1.0),  # a substring: "overly generous", by definition
        ("The capital is paris", "Paris", 1.0),
        ("The capital is Paris", "Paris", 0.0),  # the raw answer against the lower-cased word
        ("They are red", "red", 1.0),
        ("So: red.", "red", 1.0),
        ("red", "red", 0.0),
    ],
)
def test_anywhere_relaxed(answer: str, reference: str, score: float) -> None:
    assert anywhere_relaxed(answer, [reference]) == score


def test_exact_match() -> None:
    assert exact_match(" There are two shapes.\n", ["There are two shapes."]) == 1.0
    assert exact_match("There are two shapes", ["There are two shapes."]) == 0.0
