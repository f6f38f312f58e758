"""Full-vocabulary distances between two models' next-token distributions, from hidden states, in bounded memory.

Shapes: N tokens, H_p and H_q hidden sizes, V ids. ``p`` is the base, ``q`` the candidate. Formulas and names are those
of the app's ``core/divergence.py``, against which tests compare this one; sums are in float64, in nats.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

_BLOCK_ELEMENTS = 4 * 2**20  # logits of each of both models kept at once: 32 MB in float64
_TILE_ELEMENTS = 2**20  # float64 temporaries: 8 MB each
_HEAD_TILE_ELEMENTS = 2 * 2**20  # float64 copy of a part of a head: 16 MB
_SERIES_BELOW = 1e-2
_LN_2 = 0.6931471805599453

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
    base_hidden: torch.Tensor, base_head: Head, hidden: torch.Tensor, head: Head, targets: torch.Tensor, top_k: int
) -> dict[str, torch.Tensor]:
    """Every statistic of N tokens.

    Args:
        base_hidden, hidden: final hidden states of base (N, H_p) and candidate (N, H_q).
        base_head, head: each model's own; both of V ids.
        targets: the ids that came next (N,).
        top_k: how many of the likeliest ids of each side to give.

    Returns:
        ``statistics`` (N, len(COLUMNS)) float64; for each side ``{base,candidate}_top_ids`` (N, k) int64 with
        ``…_top_base_logprobs`` and ``…_top_candidate_logprobs`` (N, k) float64: what both think of these ids.

    Raises:
        ValueError: the vocabularies differ in size.
    """
    ids = head.weight.shape[0]
    if base_head.weight.shape[0] != ids:
        raise ValueError(f"the base has {base_head.weight.shape[0]} ids, the candidate {ids}")
    parts: list[dict[str, torch.Tensor]] = []
    block = max(1, _BLOCK_ELEMENTS // ids)
    tile = max(1, _TILE_ELEMENTS // ids)
    for start in range(0, len(hidden), block):
        base_logits = base_head.logits(base_hidden[start : start + block])
        logits = head.logits(hidden[start : start + block])
        for row in range(0, len(logits), tile):
            rows, wanted = slice(row, row + tile), targets[start + row : start + row + min(tile, len(logits) - row)]
            parts.append(_tile(base_logits[rows], logits[rows], wanted, min(top_k, ids)))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _tile(
    base_logits: torch.Tensor, logits: torch.Tensor, targets: torch.Tensor, top_k: int
) -> dict[str, torch.Tensor]:
    log_p = torch.log_softmax(base_logits.double(), dim=1)
    log_q = torch.log_softmax(logits.double(), dim=1)
    p, q = log_p.exp(), log_q.exp()
    middle = torch.logaddexp(log_p, log_q) - _LN_2
    target_p, target_q = (x.gather(1, targets[:, None])[:, 0] for x in (log_p, log_q))
    base_ids, candidate_ids = _top_ids(base_logits, top_k), _top_ids(logits, top_k)
    statistics = torch.stack(
        [
            _kl(p, log_p, log_q),
            _kl(q, log_q, log_p),
            (_kl(p, log_p, middle) + _kl(q, log_q, middle)) / 2,
            (p - q).abs().sum(1) / 2,
            -(p * log_p).sum(1),
            -(q * log_q).sum(1),
            target_p,
            target_q,
            1.0 + (log_p > target_p[:, None]).sum(1),
            1.0 + (log_q > target_q[:, None]).sum(1),
            _margin(log_p),
            _margin(log_q),
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


def _kl(p: torch.Tensor, log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """``sum p (expm1(e) - e)``, e = log q - log p: no term is negative; a series keeps it exact where e is tiny."""
    e = log_q - log_p
    tiny = torch.where(e.abs() < _SERIES_BELOW, e, 0.0)
    series = tiny**2 / 2 + tiny**3 / 6 + tiny**4 / 24 + tiny**5 / 120
    return (p * torch.where(e.abs() < _SERIES_BELOW, series, torch.expm1(e) - e)).sum(1)


def _top_ids(logits: torch.Tensor, k: int) -> torch.Tensor:
    """Ids of the k likeliest, best first; of equal ones the lowest id first, as in llama.cpp."""
    return torch.sort(logits, dim=1, descending=True, stable=True).indices[:, :k].contiguous()


def _margin(log_p: torch.Tensor) -> torch.Tensor:
    two = torch.topk(log_p, 2, dim=1).values
    return two[:, 0] - two[:, 1]
