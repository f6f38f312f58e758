"""Bounds and estimates from a part of the vocabulary: they hold, they rise with K, and they meet the exact value."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.core.divergence import Floats, kl_nats, log_softmax, top_k_ids
from components.core.errors import InputError
from components.core.estimators import sampled_tail, shared_ids, tail_bucket


def models(seed: int, ids: int = 200, noise: float = 0.4, tokens: int = 6) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(tokens, ids)) * 3
    return log_softmax(logits), log_softmax(logits + noise * rng.normal(size=logits.shape))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 3.0))
def test_the_bound_rises_with_k_and_never_passes_the_exact_value(seed: int, noise: float) -> None:
    log_p, log_q = models(seed, 60, noise)
    exact = kl_nats(log_p, log_q)
    last = np.zeros(len(exact))
    for k in (1, 2, 5, 20, 59, 60):
        ids = top_k_ids(log_p, k)
        found = tail_bucket(*(np.take_along_axis(x, ids, 1) for x in (log_p, log_q)))
        assert (found.kl_base_to_candidate_nats >= last - 1e-9).all()
        assert (found.kl_base_to_candidate_nats <= exact + 1e-9).all()
        last = found.kl_base_to_candidate_nats
    np.testing.assert_allclose(last, exact, atol=1e-9)
    np.testing.assert_allclose(found.base_mass, 1.0)


def test_any_set_of_ids_bounds_from_below() -> None:
    log_p, log_q = models(3)
    ids = np.random.default_rng(1).permuted(np.tile(np.arange(200), (6, 1)), axis=1)[:, :30]
    found = tail_bucket(*(np.take_along_axis(x, ids, 1) for x in (log_p, log_q)))
    assert (found.kl_base_to_candidate_nats <= kl_nats(log_p, log_q)).all()
    np.testing.assert_allclose(found.candidate_mass, np.exp(np.take_along_axis(log_q, ids, 1)).sum(1))


def test_ids_that_are_not_known_do_not_count() -> None:
    log_p, log_q = models(4)
    ids = top_k_ids(log_p, 10)
    head = [np.take_along_axis(x, ids, 1) for x in (log_p, log_q)]
    padded = [np.concatenate([x, np.full((6, 3), -np.inf)], axis=1) for x in head]
    np.testing.assert_allclose(
        tail_bucket(*padded).kl_base_to_candidate_nats, tail_bucket(*head).kl_base_to_candidate_nats
    )


def test_ids_of_two_lists_are_matched() -> None:
    assert shared_ids(np.array([[5, 7, 9]]), np.array([[9, 1, 5]])).tolist() == [[2, -1, 0]]


def test_the_sampled_tail_is_unbiased_and_knows_its_error() -> None:
    log_p, log_q = models(5, noise=0.6, tokens=4)
    ids = top_k_ids(log_p, 20)
    tail = log_p.copy()
    np.put_along_axis(tail, ids, -np.inf, 1)
    head = [np.take_along_axis(x, ids, 1) for x in (log_p, log_q)]
    rng = np.random.default_rng(0)
    estimates, errors = [], []
    for _ in range(400):
        weights = np.exp(tail) / np.exp(tail).sum(1, keepdims=True)
        drawn = np.stack([rng.choice(200, 32, p=row) for row in weights])
        found = sampled_tail(*head, *(np.take_along_axis(x, drawn, 1) for x in (log_p, log_q)))
        estimates.append(found.kl_base_to_candidate_nats)
        errors.append(found.standard_error_nats)
    exact, spread = kl_nats(log_p, log_q), np.std(estimates, axis=0)
    assert (np.abs(np.mean(estimates, axis=0) - exact) < 4 * spread / np.sqrt(400)).all()
    np.testing.assert_allclose(np.mean(errors, axis=0), spread, rtol=0.25)


def test_nonsense_is_refused() -> None:
    with pytest.raises(InputError, match="more than one"):
        tail_bucket(np.log([[0.8, 0.8]]), np.log([[0.5, 0.5]]))
    with pytest.raises(InputError, match="shape"):
        tail_bucket(np.zeros((1, 2)), np.zeros((1, 3)))
    with pytest.raises(InputError, match="two samples"):
        sampled_tail(np.log([[0.5]]), np.log([[0.5]]), np.log([[0.1]]), np.log([[0.1]]))
