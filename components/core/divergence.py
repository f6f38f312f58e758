"""Distances between two next-token distributions, per token.

Shapes: N tokens, V ids of one vocabulary. ``log_p`` is the base, ``log_q`` the candidate, both natural
log-probabilities (nats) in float64, -inf where a probability is zero. Sums run in float64 over terms that are never
negative, so that no result has to be clamped.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from components.core.errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
LN_2 = float(np.log(2.0))
_SERIES_BELOW = 1e-2


def log_softmax(logits: ArrayLike) -> Floats:
    """Natural log-probabilities (N, V) of logits (N, V), in float64.

    Raises:
        InputError: not two-dimensional, no id at all, or a value that is not a number.
    """
    values = np.asarray(logits, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] == 0:
        raise InputError(f"Logits have the shape (tokens, ids), not {values.shape}.", field="logits")
    if np.isnan(values).any():
        raise InputError("The logits contain values that are not numbers (NaN).", field="logits")
    shifted = values - values.max(axis=1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def excess(log_ratio: Floats) -> Floats:
    """``expm1(e) - e`` of e = log q - log p, which is never negative; a series keeps it exact where e is tiny."""
    with np.errstate(over="ignore", invalid="ignore"):
        direct = np.expm1(log_ratio) - log_ratio
    small = np.abs(log_ratio) < _SERIES_BELOW
    tiny = np.where(small, log_ratio, 0.0)
    series = tiny**2 / 2 + tiny**3 / 6 + tiny**4 / 24 + tiny**5 / 120
    return np.where(small, series, direct)


def kl_nats(log_p: Floats, log_q: Floats) -> Floats:
    """KL(p || q) of every token, in nats (N,).

    ``sum_i p_i (expm1(e_i) - e_i)`` with e = log q - log p equals the usual sum because both distributions add up to
    one. It is +inf where the candidate excludes what the base allows.

    Raises:
        InputError: the two do not have the same shape.

    Source:
        Schulman, "Approximating KL divergence" (k3), summed over the whole vocabulary.
    """
    _check_same_shape(log_p, log_q)
    possible = np.isfinite(log_p)
    with np.errstate(invalid="ignore"):
        ratio = np.where(possible, log_q - np.where(possible, log_p, 0.0), 0.0)
    terms = np.exp(log_p) * excess(ratio)
    # Where p is zero the term's limit is q.
    result: Floats = np.where(possible, terms, np.exp(log_q)).sum(axis=1)
    return result


def jensen_shannon_nats(log_p: Floats, log_q: Floats) -> Floats:
    """Jensen-Shannon divergence of every token, in nats (N,): symmetric, at most ln 2.

    Source:
        Lin 1991, "Divergence measures based on the Shannon entropy".
    """
    _check_same_shape(log_p, log_q)
    middle = np.logaddexp(log_p, log_q) - LN_2
    return (kl_nats(log_p, middle) + kl_nats(log_q, middle)) / 2


def total_variation(log_p: Floats, log_q: Floats) -> Floats:
    """Total variation distance of every token (N,), from 0 to 1.

    One minus it is the expected acceptance rate of speculative decoding (sum of min(p, q)).
    """
    _check_same_shape(log_p, log_q)
    result: Floats = np.abs(np.exp(log_p) - np.exp(log_q)).sum(axis=1) / 2
    return result


def entropy_nats(log_p: Floats) -> Floats:
    """Shannon entropy of every token's distribution, in nats (N,)."""
    finite = np.where(np.isfinite(log_p), log_p, 0.0)
    result: Floats = -(np.exp(log_p) * finite).sum(axis=1)
    return result


def of_target(log_p: Floats, target_ids: ArrayLike) -> Floats:
    """Log-probability of each token's own id, in nats (N,).

    Raises:
        InputError: not one id a token, or an id outside the vocabulary.
    """
    ids = _ids(log_p, target_ids)
    found: Floats = log_p[np.arange(len(ids)), ids]
    return found


def delta_p(log_p: Floats, log_q: Floats, target_ids: ArrayLike) -> Floats:
    """q(x) - p(x) of the target x (N,): positive where the candidate finds it likelier than the base does.

    Source:
        llama.cpp tools/perplexity, "Δp".
    """
    difference: Floats = np.exp(of_target(log_q, target_ids)) - np.exp(of_target(log_p, target_ids))
    return difference


def rank_of_target(log_p: Floats, target_ids: ArrayLike) -> Ints:
    """One plus the number of ids strictly likelier than the target (N,)."""
    likelier: Ints = (log_p > of_target(log_p, target_ids)[:, None]).sum(axis=1)
    return likelier + 1


def same_top(log_p: Floats, log_q: Floats) -> NDArray[np.bool_]:
    """Whether both find the same id likeliest (N,); of equal ones the lowest id counts, as in llama.cpp."""
    _check_same_shape(log_p, log_q)
    same: NDArray[np.bool_] = log_p.argmax(axis=1) == log_q.argmax(axis=1)
    return same


def margin_nats(log_p: Floats) -> Floats:
    """How far the likeliest id lies above the second, in nats (N,); 0 is a tie."""
    if log_p.shape[1] < 2:
        return np.full(len(log_p), np.inf)
    two = np.partition(log_p, -2, axis=1)[:, -2:]
    result: Floats = two[:, 1] - two[:, 0]
    return result


def top_k_ids(log_p: Floats, k: int) -> Ints:
    """Ids of the k likeliest, best first (N, k); of equal ones the lowest id comes first.

    Raises:
        InputError: k is not between 1 and the size of the vocabulary.
    """
    if not 1 <= k <= log_p.shape[1]:
        raise InputError(f"k must lie between 1 and {log_p.shape[1]}, not {k}.", field="k")
    ids: Ints = np.argsort(-log_p, axis=1, kind="stable")[:, :k]
    return ids


def top_k_overlap(log_p: Floats, log_q: Floats, k: int) -> Floats:
    """Jaccard overlap of both top-k sets (N,): 1 where they hold the same ids."""
    _check_same_shape(log_p, log_q)
    both = np.concatenate([top_k_ids(log_p, k), top_k_ids(log_q, k)], axis=1)
    both.sort(axis=1)
    shared = (both[:, 1:] == both[:, :-1]).sum(axis=1)
    overlap: Floats = shared / (2 * k - shared)
    return overlap


def first_fork(base_ids: ArrayLike, candidate_ids: ArrayLike) -> int | None:
    """The first position at which two answers differ, one that ends early included; None where they are equal."""
    base, candidate = np.asarray(base_ids), np.asarray(candidate_ids)
    shorter = min(len(base), len(candidate))
    differing = np.flatnonzero(base[:shorter] != candidate[:shorter])
    if len(differing):
        return int(differing[0])
    return None if len(base) == len(candidate) else shorter


def _check_same_shape(log_p: Floats, log_q: Floats) -> None:
    if log_p.shape != log_q.shape or log_p.ndim != 2:
        raise InputError(
            f"Base and candidate must have the same shape (tokens, ids), not {log_p.shape} and {log_q.shape}.",
            "Only models of one vocabulary can be compared token by token.",
        )


def _ids(log_p: Floats, target_ids: ArrayLike) -> Ints:
    ids = np.asarray(target_ids, dtype=np.int64)
    if ids.shape != log_p.shape[:1]:
        raise InputError(f"There are {log_p.shape[0]} tokens but {ids.size} target ids.", field="target_ids")
    if ids.size and (ids.min() < 0 or ids.max() >= log_p.shape[1]):
        raise InputError(f"A target id lies outside the vocabulary of {log_p.shape[1]} ids.", field="target_ids")
    return ids
