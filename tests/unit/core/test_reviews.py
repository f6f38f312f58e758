"""What follows from a verdict, and which tokens and words count."""

from __future__ import annotations

import pytest

from components.core.content_tokens import content_divergence, disagreement, is_content, matches
from components.core.reviews import Choice, ReviewOutcome, Side, outcome_of, settled
from components.core.scores import TokenScore


@pytest.mark.parametrize("a_is", ["base", "candidate"])
@pytest.mark.parametrize(
    ("base_right", "candidate_right", "outcome"),
    [(True, False, "regressed"), (False, True, "improved"), (False, False, "both_wrong"), (True, True, "same")],
)
@pytest.mark.parametrize("verdict", list(Choice))
def test_right_and_wrong_decide(
    a_is: Side, base_right: bool, candidate_right: bool, outcome: str, verdict: Choice
) -> None:
    rights = (base_right, candidate_right) if a_is == "base" else (candidate_right, base_right)
    assert outcome_of(verdict, a_is, *rights) == ReviewOutcome(outcome)


@pytest.mark.parametrize(
    ("verdict", "a_is", "outcome"),
    [
        ("a", "base", "regressed"),
        ("b", "base", "improved"),
        ("a", "candidate", "improved"),
        ("b", "candidate", "regressed"),
        ("tie", "base", "same"),
        ("both_bad", "candidate", "both_wrong"),
    ],
)
def test_without_them_the_better_one_decides(verdict: str, a_is: Side, outcome: str) -> None:
    assert outcome_of(Choice(verdict), a_is, None, None) == ReviewOutcome(outcome)
    assert outcome_of(Choice(verdict), a_is, True, None) == ReviewOutcome(outcome), "half of it says nothing"


def test_settled() -> None:
    assert settled([], None) is None
    assert settled(["same", "same"], None) == "same"
    assert settled(["same", "regressed"], None) == "conflict"
    assert settled(["same", "regressed"], "regressed") == "regressed"


def test_content_tokens() -> None:
    assert [is_content(text) for text in (" red", "7", " is", ".", "\n", "  ", "")] == [
        True, True, True, True, False, False, False,
    ]  # fmt: skip


def test_divergence_of_content() -> None:
    def token(text: str, kl: float | None) -> TokenScore:
        return TokenScore(token_id=1, text=text, kl_base_to_candidate_nats=kl)

    assert content_divergence([token("\n", 9.0), token(" red", 0.5), token(" star", 0.25)]) == 0.5
    assert content_divergence([token(" ", 9.0)]) == 9.0, "an answer of nothing else"
    assert content_divergence([token(" red", None)]) is None


def test_disagreement_and_reference() -> None:
    assert disagreement("A red star.", "a  red star .") == 0.0
    assert disagreement("", "") == 0.0
    assert disagreement("one two", "three four") == 1.0
    assert 0 < disagreement("a red star", "a blue star") < 1
    assert matches("It is  Seven.\n", "it is seven.") is True
    assert matches("It is seven", "It is seven.") is False
    assert matches("x", None) is None
