"""Distances between distributions: against plain formulas in exact arithmetic, and the properties they must have."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from components.core import divergence as dv
from components.core.errors import InputError

SHAPES = st.tuples(st.integers(1, 5), st.integers(2, 40))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[dv.Floats, dv.Floats]:
    """Log-probabilities of two models over one vocabulary."""
    shape = draw(SHAPES)
    logits = hnp.arrays(np.float64, shape, elements=st.floats(-40, 40))
    return dv.log_softmax(draw(logits)), dv.log_softmax(draw(logits))


def literal_kl(log_p: list[float], log_q: list[float]) -> float:
    """The textbook sum, each term exact to the last bit and added without rounding."""
    return math.fsum(math.exp(a) * (a - b) for a, b in zip(log_p, log_q, strict=True))


@given(pairs())
def test_kl_equals_the_textbook_sum(pair: tuple[dv.Floats, dv.Floats]) -> None:
    log_p, log_q = pair
    wanted = [literal_kl(a, b) for a, b in zip(log_p.tolist(), log_q.tolist(), strict=True)]
    np.testing.assert_allclose(dv.kl_nats(log_p, log_q), wanted, rtol=1e-9, atol=1e-9)


@given(pairs())
def test_bounds_that_always_hold(pair: tuple[dv.Floats, dv.Floats]) -> None:
    log_p, log_q = pair
    kl, js, tv = dv.kl_nats(log_p, log_q), dv.jensen_shannon_nats(log_p, log_q), dv.total_variation(log_p, log_q)
    assert (kl >= 0).all()
    assert (js >= 0).all()
    assert (js <= dv.LN_2 + 1e-12).all()
    assert (tv >= 0).all()
    assert (tv <= 1 + 1e-12).all()
    assert (tv <= np.sqrt(kl / 2) + 1e-9).all()  # Pinsker's inequality
    np.testing.assert_allclose(js, dv.jensen_shannon_nats(log_q, log_p), atol=1e-12)


@given(pairs())
def test_a_model_does_not_differ_from_itself(pair: tuple[dv.Floats, dv.Floats]) -> None:
    log_p, _ = pair
    assert (dv.kl_nats(log_p, log_p) == 0).all()
    assert (dv.total_variation(log_p, log_p) == 0).all()
    assert dv.same_top(log_p, log_p).all()
    assert (dv.top_k_overlap(log_p, log_p, 2) == 1).all()


def test_tiny_divergences_do_not_drown_in_rounding() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(8, 1000)) * 3
    noise = rng.normal(size=logits.shape) * 1e-6
    log_p, log_q = dv.log_softmax(logits), dv.log_softmax(logits + noise)
    p = np.exp(log_p)
    second_order = (p * noise**2).sum(1) / 2 - ((p * noise).sum(1) ** 2) / 2
    np.testing.assert_allclose(dv.kl_nats(log_p, log_q), second_order, rtol=1e-4)


def test_zero_probabilities() -> None:
    with np.errstate(divide="ignore"):
        half, first = np.log([[0.5, 0.5]]), np.log([[1.0, 0.0]])
    assert dv.kl_nats(first, half)[0] == pytest.approx(math.log(2))
    assert dv.kl_nats(half, first)[0] == math.inf
    assert dv.kl_nats(first, first)[0] == 0
    assert dv.jensen_shannon_nats(half, first)[0] == pytest.approx(0.2157615543388357)
    assert dv.entropy_nats(first)[0] == 0


@given(pairs(), st.data())
def test_rank_and_delta_of_the_target(pair: tuple[dv.Floats, dv.Floats], data: st.DataObject) -> None:
    log_p, log_q = pair
    ids = data.draw(hnp.arrays(np.int64, len(log_p), elements=st.integers(0, log_p.shape[1] - 1)))
    for row, target in enumerate(ids):
        assert dv.rank_of_target(log_p, ids)[row] == 1 + sum(v > log_p[row, target] for v in log_p[row])
        wanted = math.exp(log_q[row, target]) - math.exp(log_p[row, target])
        assert dv.delta_p(log_p, log_q, ids)[row] == pytest.approx(wanted, abs=1e-12)


@given(pairs(), st.data())
def test_overlap_is_that_of_the_sets(pair: tuple[dv.Floats, dv.Floats], data: st.DataObject) -> None:
    log_p, log_q = pair
    k = data.draw(st.integers(1, log_p.shape[1]))
    for row, overlap in enumerate(dv.top_k_overlap(log_p, log_q, k)):
        a, b = ({*dv.top_k_ids(x, k)[row].tolist()} for x in (log_p, log_q))
        assert overlap == pytest.approx(len(a & b) / len(a | b))


def test_ties_go_to_the_lowest_id() -> None:
    log_p = dv.log_softmax([[1.0, 3.0, 3.0], [2.0, 1.0, 0.0]])
    assert dv.top_k_ids(log_p, 3).tolist() == [[1, 2, 0], [0, 1, 2]]
    assert dv.margin_nats(log_p).tolist() == pytest.approx([0.0, 1.0])
    assert dv.same_top(log_p, dv.log_softmax([[1.0, 3.0, 2.0], [0.0, 1.0, 0.0]])).tolist() == [True, False]


@pytest.mark.parametrize(
    ("base", "candidate", "fork"),
    [([1, 2, 3], [1, 2, 3], None), ([1, 2], [1, 9], 1), ([1, 2], [1, 2, 3], 2), ([], [4], 0), ([], [], None)],
)
def test_first_fork(base: list[int], candidate: list[int], fork: int | None) -> None:
    assert dv.first_fork(base, candidate) == fork


def test_what_cannot_be_compared_is_refused() -> None:
    three, four = dv.log_softmax(np.zeros((1, 3))), dv.log_softmax(np.zeros((1, 4)))
    with pytest.raises(InputError, match="same shape"):
        dv.kl_nats(three, four)
    with pytest.raises(InputError, match="outside the vocabulary"):
        dv.of_target(three, [3])
    with pytest.raises(InputError, match="NaN"):
        dv.log_softmax([[0.0, math.nan]])
    with pytest.raises(InputError, match="between 1 and 3"):
        dv.top_k_ids(three, 4)
