"""Figures of a table of tokens against a literal computation in plain numpy."""

from __future__ import annotations

import numpy as np
import pytest

from components.benchmark.tables import COLUMNS, FIGURES, figures_of, kl_by_position, kl_histogram, to_table
from components.core.divergence import (
    delta_p,
    entropy_nats,
    jensen_shannon_nats,
    kl_nats,
    log_softmax,
    of_target,
    total_variation,
)
from components.engines.exact_scoring import ExactResult


def scored(
    tokens: int = 40, ids: int = 64, noise: float = 0.3, seed: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray, ExactResult]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2.5, size=(tokens, ids))
    log_p, log_q = log_softmax(logits), log_softmax(logits + noise * rng.normal(size=(tokens, ids)))
    targets = rng.integers(0, ids, size=tokens)
    tops = {}
    for side, values in (("base", log_p), ("candidate", log_q)):
        order = np.argsort(-values, axis=1, kind="stable")[:, :20]
        tops[f"{side}_top_ids"] = order
        tops[f"{side}_top_base_logprobs"] = np.take_along_axis(log_p, order, axis=1)
        tops[f"{side}_top_candidate_logprobs"] = np.take_along_axis(log_q, order, axis=1)
    statistics = {
        "kl_base_to_candidate_nats": kl_nats(log_p, log_q), "kl_candidate_to_base_nats": kl_nats(log_q, log_p),
        "jensen_shannon_nats": jensen_shannon_nats(log_p, log_q), "total_variation": total_variation(log_p, log_q),
        "base_entropy_nats": entropy_nats(log_p), "candidate_entropy_nats": entropy_nats(log_q),
        "base_target_logprob": of_target(log_p, targets), "candidate_target_logprob": of_target(log_q, targets),
    }  # fmt: skip
    return log_p, log_q, targets, ExactResult(statistics, tops, "bfloat16", "float64", (1,), (1,))


def test_every_figure_against_its_definition() -> None:
    log_p, log_q, targets, result = scored()
    table = to_table(result, targets.tolist())
    assert table.shape == (40, len(COLUMNS))
    found = dict(zip([kind.metric for kind in FIGURES], figures_of(table), strict=True))
    rows = np.arange(40)
    nll_p, nll_q = -log_p[rows, targets], -log_q[rows, targets]
    kl = (np.exp(log_p) * (log_p - log_q)).sum(axis=1)
    dp = 100 * delta_p(log_p, log_q, targets)
    wanted = {
        "perplexity_base": np.exp(nll_p.mean()), "perplexity_candidate": np.exp(nll_q.mean()),
        "perplexity_ratio": np.exp(nll_q.mean()) / np.exp(nll_p.mean()),
        "perplexity_change_percent": 100 * (np.exp(nll_q.mean()) / np.exp(nll_p.mean()) - 1),
        "mean_kl_base_to_candidate_nats": kl.mean(), "median_kl_base_to_candidate_nats": np.median(kl),
        "p95_kl_base_to_candidate_nats": np.percentile(kl, 95), "p99_kl_base_to_candidate_nats": np.percentile(kl, 99),
        "max_kl_base_to_candidate_nats": kl.max(), "mean_delta_p_percent": dp.mean(),
        "rms_delta_p_percent": np.sqrt((dp**2).mean()),
        "same_top_p_percent": 100 * (log_p.argmax(axis=1) == log_q.argmax(axis=1)).mean(),
        "entropy_shift_nats": (entropy_nats(log_q) - entropy_nats(log_p)).mean(),
        "correlation_ln_perplexity": np.corrcoef(nll_p, nll_q)[0, 1],
    }  # fmt: skip
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, rel=1e-9), name


def test_the_top_20_bound_lies_below_the_exact_value_token_by_token() -> None:
    _, _, targets, result = scored(ids=512)
    table = to_table(result, targets.tolist())
    bound, exact = (
        table[:, COLUMNS.index("top20_lower_bound_nats")],
        table[:, COLUMNS.index("kl_base_to_candidate_nats")],
    )
    assert (bound <= exact + 1e-12).all()
    assert (bound > 0).all()


def test_a_model_against_itself_has_no_distance() -> None:
    _, _, targets, result = scored(noise=0.0)
    found = dict(zip([kind.metric for kind in FIGURES], figures_of(to_table(result, targets.tolist())), strict=True))
    assert found["mean_kl_base_to_candidate_nats"] == 0.0
    assert found["perplexity_ratio"] == 1.0
    assert found["same_top_p_percent"] == 100.0


def test_curves_count_every_token_once() -> None:
    groups = [to_table(scored(seed=seed)[3], scored(seed=seed)[2].tolist()) for seed in range(3)]
    assert sum(kl_histogram(np.concatenate(groups))["tokens"]) == 120
    assert sum(part["tokens"] for part in kl_by_position(groups)) == 120
