"""Full-vocabulary distances between two models' next-token distributions, from hidden states, in bounded memory.

Shapes: N tokens, H_p and H_q hidden sizes, V ids. ``p`` is the base, ``q`` the candidate. Formulas and names are those
of the app's ``core/divergence.py``, against which tests compare this one; sums are in float64, in nats.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

_BLOCK_ELEMENTS = 4 * 2**20  # logits of each of both models kept at once: 32 MB in float64
_TILE_ELEMENTS = 2**17  # float64 temporaries: 1 MB each, so that they stay in the cache
_HEAD_TILE_ELEMENTS = 2 * 2**20  # float64 copy of a part of a head: 16 MB
_SQUARE_BELOW = 1e-7
_LARGEST = 700.0  # exp of more is no number; no model's log-probabilities differ by so much

COLUMNS = (
    "kl_base_to_candidate_nats", "kl_candidate_to_base_nats", "jensen_shannon_nats", "total_variation",
    "base_entropy_nats", "candidate_entropy_nats", "base_target_logprob", "candidate_target_logprob",
    "base_target_rank", "candidate_target_rank", "base_margin_nats", "candidate_margin_nats",
)  # fmt: skip


@dataclass(frozen=True)
class Head:
    """A model's output projection.

    Attributes:
        weight: (V, H), as served.
        scale: what logits are multiplied by.
        soft_cap: the cap of ``cap * tanh(logit / cap)``; None = none.
    """

    weight: torch.Tensor
    scale: float = 1.0
    soft_cap: float | None = None

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits (n, V) of hidden states (n, H): operands as served, products and sums as ``logits_dtype`` says."""
        ids = self.weight.shape[0]
        if logits_dtype(hidden) is torch.float32:
            result = torch.mm(hidden, self.weight.t(), out_dtype=torch.float32)
        else:
            result = torch.empty(len(hidden), ids, dtype=torch.float64, device=hidden.device)
            states, step = hidden.double(), max(1, _HEAD_TILE_ELEMENTS // self.weight.shape[1])
            for start in range(0, ids, step):
                result[:, start : start + step] = states @ self.weight[start : start + step].double().t()
        if self.soft_cap is not None:
            result = torch.tanh(result / self.soft_cap) * self.soft_cap
        return result * self.scale if self.scale != 1.0 else result


def logits_dtype(hidden: torch.Tensor) -> torch.dtype:
    """float32 where a GPU multiplies 16-bit operands with float32 sums, else float64."""
    half = hidden.dtype in (torch.bfloat16, torch.float16)
    return torch.float32 if hidden.is_cuda and half else torch.float64


def measure(
    base_hidden: torch.Tensor,
    base_head: Head,
    hidden: torch.Tensor,
    head: Head,
    targets: torch.Tensor,
    top_k: int,
    threads: int = 1,
) -> dict[str, torch.Tensor]:
    """Every statistic of N tokens.

    Args:
        base_hidden, hidden: final hidden states of base (N, H_p) and candidate (N, H_q).
        base_head, head: each model's own; both of V ids.
        targets: the ids that came next (N,).
        top_k: how many of the likeliest ids of each side to give.
        threads: how many blocks of rows are computed at a time. vLLM keeps torch itself to an engine's share of the
            cores, but the other engines wait while this one scores.

    Returns:
        ``statistics`` (N, len(COLUMNS)) float64; for each side ``{base,candidate}_top_ids`` (N, k) int64 with
        ``…_top_base_logprobs`` and ``…_top_candidate_logprobs`` (N, k) float64: what both think of these ids.

    Raises:
        ValueError: the vocabularies differ in size, or a model's logits are not finite.
    """
    ids = head.weight.shape[0]
    if base_head.weight.shape[0] != ids:
        raise ValueError(f"the base has {base_head.weight.shape[0]} ids, the candidate {ids}")
    rows = max(1, min(_BLOCK_ELEMENTS // threads // ids, -(-len(hidden) // threads)))

    def block(start: int) -> dict[str, torch.Tensor]:
        own = slice(start, start + rows)
        base_logits, logits = base_head.logits(base_hidden[own]), head.logits(hidden[own])
        _check_finite("base", base_logits, start)
        _check_finite("candidate", logits, start)
        return _block(base_logits, logits, targets[own], min(top_k, ids))

    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(block, range(0, len(hidden), rows)))
    return _joined(parts)


def _check_finite(side: str, logits: torch.Tensor, start: int) -> None:
    """Of numbers that are none, every comparison is false: rank 1 and a choice at random would come out."""
    finite = torch.isfinite(logits.sum(dim=1))  # one pass: what is no number stays none in a sum
    if not finite.all():
        token = start + int((~finite).nonzero()[0]) + 1
        raise ValueError(f"the {side}'s logits are not finite numbers at token {token} of the answer")


def _block(
    base_logits: torch.Tensor, logits: torch.Tensor, targets: torch.Tensor, top_k: int
) -> dict[str, torch.Tensor]:
    tile = max(1, _TILE_ELEMENTS // logits.shape[1])
    starts = [slice(row, row + tile) for row in range(0, len(logits), tile)]
    return _joined([_tile(base_logits[rows], logits[rows], targets[rows], top_k) for rows in starts])


def _joined(parts: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _tile(
    base_logits: torch.Tensor, logits: torch.Tensor, targets: torch.Tensor, top_k: int
) -> dict[str, torch.Tensor]:
    log_p = torch.log_softmax(base_logits.double(), dim=1)
    log_q = torch.log_softmax(logits.double(), dim=1)
    p, q = log_p.exp(), log_q.exp()
    target_p, target_q = (x.gather(1, targets[:, None])[:, 0] for x in (log_p, log_q))
    (base_ids, base_margin), (candidate_ids, margin) = _top(log_p, top_k), _top(log_q, top_k)
    statistics = torch.stack(
        [
            *_divergences(p, log_q - log_p),
            (p - q).abs_().sum(1) / 2,
            -(p * log_p).sum(1),
            -(q * log_q).sum(1),
            target_p,
            target_q,
            1.0 + (log_p > target_p[:, None]).sum(1),
            1.0 + (log_q > target_q[:, None]).sum(1),
            base_margin,
            margin,
        ],
        dim=1,
    )
    return {
        "statistics": statistics,
        "base_top_ids": base_ids,
        "base_top_base_logprobs": log_p.gather(1, base_ids),
        "base_top_candidate_logprobs": log_q.gather(1, base_ids),
        "candidate_top_ids": candidate_ids,
        "candidate_top_base_logprobs": log_p.gather(1, candidate_ids),
        "candidate_top_candidate_logprobs": log_q.gather(1, candidate_ids),
    }


def _divergences(p: torch.Tensor, e: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """KL(p‖q), KL(q‖p) and Jensen-Shannon of each row, from p and e = log q - log p; no term is negative.

    With t = expm1(e), so q = p (1 + t), and g = t - e: KL(p‖q) = sum p g, KL(q‖p) = sum p (t e - g), and
    JSD = 1/2 sum p ((1 + t) e - (2 + t) log1p(t / 2)): two costly functions for all three.
    """
    e = e.clamp_max(_LARGEST)
    t = torch.expm1(e)
    # Below this, rounding is as large as g itself, and e²/2 is exact to eight digits.
    g = torch.where(e.abs() < _SQUARE_BELOW, e * e / 2, t - e)
    middle = torch.log1p(t / 2)
    jensen_shannon = ((1 + t) * e).sub_((2 + t) * middle).clamp_min_(0)  # of rounding only: each term is >= 0
    return (p * g).sum(1), (p * (t * e).sub_(g).clamp_min_(0)).sum(1), (p * jensen_shannon).sum(1) / 2


def _top(log_p: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids of the k likeliest, best first, of equal ones the lowest id first; and the margin of the first."""
    values, ids = torch.topk(log_p, max(k, 2), dim=1)
    margin = values[:, 0] - values[:, 1]
    by_id = torch.argsort(ids, dim=1)
    order = by_id.gather(1, torch.argsort(values.gather(1, by_id), dim=1, descending=True, stable=True))
    return ids.gather(1, order)[:, :k].contiguous(), margin
