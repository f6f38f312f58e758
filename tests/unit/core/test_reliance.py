"""Picture reliance: signs, floors and shares."""

from __future__ import annotations

import math

import pytest

from components.core.reliance import (
    LEANING_NATS,
    Choice,
    RelianceFloor,
    SideReliance,
    TokenReliance,
    leaning,
    mean_reliance,
    most_changed,
    share_on,
)

A, B = Choice(token_id=1, text="a", logprob=-0.1), Choice(token_id=2, text="b", logprob=-0.2)
QUIET = RelianceFloor(base_nats=0.01, candidate_nats=0.02, change_nats=0.02, batch_tokens=(10, 14))


def side(reliance: float) -> SideReliance:
    return SideReliance(
        logprob=-0.5, logprob_changed=-0.5 - reliance, kl_picture_to_changed_nats=0.0, choice=A, choice_changed=B
    )


def token(base: float, candidate: float) -> TokenReliance:
    return TokenReliance(token_id=1, text="a", base=side(base), candidate=side(candidate))


def test_reliance_is_the_log_of_how_much_likelier_the_picture_makes_a_token() -> None:
    found = SideReliance(
        logprob=math.log(0.8), logprob_changed=math.log(0.1), kl_picture_to_changed_nats=1.0, choice=A, choice_changed=B
    )
    assert found.nats == pytest.approx(math.log(8))


def test_the_change_is_candidate_minus_base() -> None:
    assert token(2.0, 0.5).change_nats == pytest.approx(-1.5)
    base, candidate, change = mean_reliance([token(2.0, 0.5), token(0.0, 0.0)])
    assert (base.value, candidate.value, change.value) == pytest.approx((1.0, 0.25, -0.75))
    assert change.standard_error is None, "two tokens are too few for one"


def test_identity_gives_zero_and_names_nothing() -> None:
    same = [token(0.0, 0.0)] * 20
    nothing = RelianceFloor(base_nats=0.0, candidate_nats=0.0, change_nats=0.0, batch_tokens=(10, 14))
    assert [figure.value for figure in mean_reliance(same)] == [0.0, 0.0, 0.0]
    assert leaning(same, nothing) == most_changed(same, nothing, 3) == ()


def test_what_the_picture_doubles_is_taken_from_it_for_either_model() -> None:
    tokens = [token(LEANING_NATS, 0.0), token(0.0, LEANING_NATS), token(0.6, 0.6), token(-3.0, -3.0)]
    assert leaning(tokens, QUIET) == leaning(tokens, None) == (0, 1)
    noisy = QUIET.model_copy(update={"base_nats": 1.0})
    assert leaning(tokens, noisy) == (1,)


def test_only_changes_above_the_noise_are_named_largest_first() -> None:
    tokens = [token(1.0, 1.01), token(1.0, 0.5), token(1.0, 2.0), token(0.0, 0.1)]
    assert most_changed(tokens, QUIET, 2) == (2, 1)
    assert most_changed(tokens, QUIET, 9) == (2, 1, 3)
    assert most_changed(tokens, None, 9) == (), "without a floor nothing is called a change"


def test_the_share_counts_what_is_above_the_floor() -> None:
    assert share_on([0, 1], [3.0, None, 1.0, 0.009], 0.01) == pytest.approx(0.75)
    assert share_on([3], [3.0, None, 1.0, 0.009], 0.01) == 0.0
    assert share_on([0], [0.0, None], 0.0) is None
