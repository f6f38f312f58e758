"""What can be said about KL(base || candidate) when only a part of the vocabulary is known: bounds and estimates.

Shapes: N tokens, K known ids each; log-probabilities in nats, float64. S is the set of known ids, T the tail.
Source: chain rule of the relative entropy (Cover & Thomas, theorem 2.5.3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.core.divergence import Floats, excess
from components.core.errors import InputError

_MASS_TOLERANCE = 1e-3
# One minus a sum is wrong by about this much: less of a tail says nothing.
_MASS_ROUNDING = 1e-13


@dataclass(frozen=True)
class LowerBound:
    """A lower bound of the KL divergence and how much of each distribution it rests on; all (N,)."""

    kl_base_to_candidate_nats: Floats
    base_mass: Floats
    candidate_mass: Floats


def tail_bucket(log_p: Floats, log_q: Floats) -> LowerBound:
    """Lower bound from both models' log-probabilities of the same K ids (N, K): everything else is one bucket.

    It holds for any set of ids and rises with every id added. An id that is missing has -inf on **both** sides; one
    that only the base has must be left out by the caller, since nothing is known about the candidate there.

    Raises:
        InputError: shapes differ, or the known probabilities add up to more than one.
    """
    if log_p.shape != log_q.shape or log_p.ndim != 2:
        raise InputError(f"Both must have the shape (tokens, ids), not {log_p.shape} and {log_q.shape}.")
    known = np.isfinite(log_p)
    p, q = np.where(known, np.exp(log_p), 0.0), np.where(known, np.exp(log_q), 0.0)
    base_mass, candidate_mass = p.sum(axis=1), q.sum(axis=1)
    if (
        np.max(base_mass, initial=0.0) > 1 + _MASS_TOLERANCE
        or np.max(candidate_mass, initial=0.0) > 1 + _MASS_TOLERANCE
    ):
        raise InputError("The log-probabilities of one token add up to more than one.", "Is an id listed twice?")
    with np.errstate(invalid="ignore"):
        inside = np.where(known, p * excess(np.where(known, log_q - log_p, 0.0)), 0.0).sum(axis=1)
    tail = _two_point_term(np.maximum(1 - base_mass, 0.0), np.maximum(1 - candidate_mass, 0.0))
    # sum of p (expm1(e) - e) over S and the bucket: both distributions over them add up to one.
    return LowerBound(inside + tail, np.minimum(base_mass, 1.0), np.minimum(candidate_mass, 1.0))


def _two_point_term(p: Floats, q: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        term = p * excess(np.log(np.maximum(q, _MASS_ROUNDING)) - np.log(p))
    return np.where(p > _MASS_ROUNDING, term, q)


def shared_ids(base_ids: NDArray[np.int64], candidate_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """For every base id (N, K) its column in the candidate's list (N, L), or -1: two own top-K lists share few ids."""
    found = base_ids[:, :, None] == candidate_ids[:, None, :]
    return np.where(found.any(axis=2), found.argmax(axis=2), -1)


@dataclass(frozen=True)
class SampledTail:
    """An unbiased estimate of the KL divergence and its standard error from the sampling alone; both (N,)."""

    kl_base_to_candidate_nats: Floats
    standard_error_nats: Floats


def sampled_tail(log_p: Floats, log_q: Floats, tail_log_p: Floats, tail_log_q: Floats) -> SampledTail:
    """Estimate from the K head ids (N, K) and m ids drawn from the base's tail (N, m), scored by both.

    ``sum_S p (-e) + (p_T - q_T) + p_T mean(r - 1 - log r)`` with r = q/p: every sampled term is at least zero.

    Raises:
        InputError: fewer than two samples a token.
    """
    if tail_log_p.shape != tail_log_q.shape or tail_log_p.ndim != 2 or tail_log_p.shape[1] < 2:
        raise InputError("The tail needs at least two samples a token, the same on both sides.", field="tail_log_p")
    base_tail = np.maximum(1 - np.exp(log_p).sum(axis=1), 0.0)
    head = (np.exp(log_p) * excess(log_q - log_p)).sum(axis=1)
    # The head's never-negative form already counts q_S - p_S, which is p_T - q_T.
    terms = excess(tail_log_q - tail_log_p)
    spread = terms.std(axis=1, ddof=1) / np.sqrt(terms.shape[1])
    return SampledTail(head + base_tail * terms.mean(axis=1), base_tail * spread)
