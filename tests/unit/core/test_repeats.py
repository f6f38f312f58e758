"""What repeats say about stability: groups, rates and intervals, against counting pairs by hand and simulation."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core.answers import ToolCall
from components.core.errors import InputError
from components.core.repeats import (
    Sample,
    distinct_answers,
    flip_rate,
    self_consistency,
    self_disagreement,
    verdict,
)
from components.core.states import Outcome
from components.core.statistics import Interval, wilson

TEXTS = st.lists(st.sampled_from(["one", "two", "three", " one\n", "One"]), min_size=2, max_size=64)


def samples(*texts: str | None, first_seed: int = 0) -> list[Sample]:
    """A sample per text, with ascending seeds; None stands for one that failed."""
    return [
        Sample(seed=seed, text=text or "", outcome=Outcome.FAILED if text is None else Outcome.FINISHED)
        for seed, text in enumerate(texts, start=first_seed)
    ]


def test_answers_that_differ_in_white_space_only_are_one() -> None:
    found = distinct_answers(samples("eight", "It is  seven.", "It is\nseven.\n", "it is seven."))
    assert [(answer.example.text, answer.seeds) for answer in found] == [
        ("It is  seven.", (1, 2)),
        ("eight", (0,)),
        ("it is seven.", (3,)),
    ]


def test_tool_calls_are_part_of_an_answer_and_their_ids_are_not() -> None:
    def call(name: str, call_id: str) -> Sample:
        seed = int(call_id)
        calls = (ToolCall(id=call_id, name=name, arguments="{}"),)
        return Sample(seed=seed, tool_calls=calls, outcome=Outcome.FINISHED)

    found = distinct_answers([call("look", "1"), call("look", "2"), call("zoom", "3"), *samples("")])
    assert [answer.count for answer in found] == [2, 1, 1]


def test_a_failed_sample_is_no_answer() -> None:
    mixed = samples("a", None, "a", "b")
    assert [answer.count for answer in distinct_answers(mixed)] == [2, 1]
    assert self_consistency(mixed) == pytest.approx(2 / 3)
    disagreement = self_disagreement(mixed)
    assert disagreement is not None
    assert disagreement.value == pytest.approx(2 / 3)
    flips = flip_rate(mixed, samples("a", "b", "x", None))
    assert flips is not None
    assert (flips.flipped, flips.pairs) == (1, 2)


def test_without_answers_nothing_is_said() -> None:
    none = samples(None, None)
    assert distinct_answers(none) == []
    assert self_consistency(none) is None
    assert self_disagreement(samples("a", None)) is None
    assert flip_rate(samples("a"), samples("a", first_seed=1)) is None
    assert verdict(None, Interval(0, 0, 1)) is None


@given(TEXTS)
def test_disagreement_is_the_share_of_differing_pairs(texts: list[str]) -> None:
    pairs = [(" ".join(a.split()), " ".join(b.split())) for a, b in combinations(texts, 2)]
    found = self_disagreement(samples(*texts))
    assert found is not None
    assert found.value == pytest.approx(sum(a != b for a, b in pairs) / len(pairs))
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.high - found.low > 0, "also where no pair differs, or all do"


@given(TEXTS, st.randoms())
def test_order_and_spacing_do_not_matter(texts: list[str], random: object) -> None:
    shuffled = samples(*texts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    spaced = [sample.model_copy(update={"text": f"  {sample.text}\t"}) for sample in shuffled]
    assert [a.seeds for a in distinct_answers(spaced)] == [a.seeds for a in distinct_answers(samples(*texts))]
    assert self_disagreement(spaced) == self_disagreement(samples(*texts))
    flips = flip_rate(samples(*texts), spaced)
    assert flips is not None
    assert flips.flipped == 0


@given(TEXTS)
def test_counts_add_up_and_descend(texts: list[str]) -> None:
    counts = [answer.count for answer in distinct_answers(samples(*texts))]
    assert sum(counts) == len(texts)
    assert counts == sorted(counts, reverse=True)
    assert self_consistency(samples(*texts)) == counts[0] / len(texts)


@pytest.mark.parametrize("shares", [(1.0,), (0.95, 0.05), (0.5, 0.5), (0.4, 0.3, 0.2, 0.1), (0.05,) * 20])
@pytest.mark.parametrize("count", [8, 20])
def test_the_interval_of_the_disagreement_covers_the_truth(shares: tuple[float, ...], count: int) -> None:
    """In at least 95 % of simulated repeats, less what 2000 of them let vary; exactly the claim of its docstring."""
    truth = 1 - sum(share**2 for share in shares)
    drawn = np.random.default_rng(7).choice(len(shares), p=shares, size=(2000, count))
    covered = 0
    for letters in drawn:
        counts = np.bincount(letters)
        value = 1 - float((counts * (counts - 1)).sum()) / (count * (count - 1))
        interval = wilson(value, count // 2)
        covered += interval.low <= truth + 1e-12 and interval.high >= truth - 1e-12
    assert covered / len(drawn) >= 0.94


def test_two_samples_of_one_seed_are_refused() -> None:
    with pytest.raises(InputError, match="seed"):
        flip_rate(samples("a") * 2, samples("a"))


def test_the_verdict_needs_intervals_that_do_not_meet() -> None:
    steady = self_disagreement(samples(*["seven"] * 8))
    assert verdict(flip_rate(samples(*["seven"] * 8), samples(*["eight"] * 8)), steady) == "beyond"
    some = ["seven"] * 5 + ["eight"] * 3
    assert verdict(flip_rate(samples(*["seven"] * 8), samples(*some)), steady) == "within"
    assert verdict(flip_rate(samples(*["seven"] * 2), samples("eight", "nine")), steady) == "undecidable"
    restless = self_disagreement(samples(*"abcdefgh"))
    assert verdict(flip_rate(samples(*"abcdefgh"), samples(*"ijklmnop")), restless) == "undecidable"


# ---- Wilson ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_equals_newcombes_table(successes: int, trials: int, low: float, high: float) -> None:
    """Newcombe 1998, table I, method 3."""
    found = wilson(successes / trials, trials)
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@given(st.integers(1, 500), st.floats(0, 1))
def test_wilson_holds_the_share_and_mirrors(trials: int, share: float) -> None:
    found, mirrored = wilson(share, trials), wilson(1 - share, trials)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.low == pytest.approx(1 - mirrored.high, abs=1e-9)
    wider = wilson(share, trials, confidence=0.99)
    assert wider.low <= found.low + 1e-12 and wider.high >= found.high - 1e-12


@pytest.mark.parametrize(("share", "trials"), [(0.5, 0), (-0.1, 5), (1.1, 5), (float("nan"), 5)])
def test_wilson_refuses_what_is_no_share(share: float, trials: int) -> None:
    with pytest.raises(InputError):
        wilson(share, trials)
