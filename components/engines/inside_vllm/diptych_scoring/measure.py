"""Full-vocabulary distances between two models' next-token distributions, from hidden states, in bounded memory.

Shapes: N tokens, H_p and H_q hidden sizes, V ids. ``p`` is the base, ``q`` the candidate. Formulas and names are those
of the app's ``core/divergence.py``, against which tests compare this one; sums are in float64, in nats.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import torch

_BLOCK_ELEMENTS = 4 * 2**20  # logits of each of both models kept at once: 32 MB in float64
_TILE_ELEMENTS = 2**17  # float64 temporaries: 1 MB each; fewer of them cost more in calls than the cache saves
_HEAD_TILE_ELEMENTS = 2 * 2**20  # copy of a part of a head: 16 MB in float64
_SMALLEST = 1e-300  # of which the logarithm is taken

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
    _copies: dict[torch.dtype, torch.Tensor] = field(default_factory=dict, repr=False, compare=False)

    def logits(self, hidden: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Logits (n, V) of hidden states (n, H): operands as served, products and sums in ``dtype``."""
        if hidden.is_cuda and hidden.dtype is not dtype:
            result = torch.mm(hidden, self.weight.t(), out_dtype=dtype)
        else:
            result = torch.empty(len(hidden), self.weight.shape[0], dtype=dtype, device=hidden.device)
            states, step = hidden.to(dtype), max(1, _HEAD_TILE_ELEMENTS // self.weight.shape[1])
            for start in range(0, self.weight.shape[0], step):
                result[:, start : start + step] = states @ self._part(start, step, dtype).t()
        if self.soft_cap is not None:
            result = torch.tanh(result / self.soft_cap) * self.soft_cap
        return result * self.scale if self.scale != 1.0 else result

    def _part(self, start: int, rows: int, dtype: torch.dtype) -> torch.Tensor:
        """Rows of the weight in ``dtype``. Of a head that is no larger than one part the copy is kept."""
        if self.weight.numel() > _HEAD_TILE_ELEMENTS:
            return self.weight[start : start + rows].to(dtype)
        if dtype not in self._copies:
            self._copies[dtype] = self.weight.to(dtype)
        return self._copies[dtype]


def logits_dtype(hidden: torch.Tensor, *, quick: bool) -> torch.dtype:
    """float64; float32 for 16-bit operands on a GPU, or where many tokens are to be ``quick``. It holds their products
    exactly, and its sums move a logit by some 1e-6."""
    half = hidden.dtype in (torch.bfloat16, torch.float16)
    return torch.float32 if half and (quick or hidden.is_cuda) else torch.float64


def measure(
    base_hidden: torch.Tensor,
    base_head: Head,
    hidden: torch.Tensor,
    head: Head,
    targets: torch.Tensor,
    top_k: int,
    threads: int = 1,
    *,
    quick: bool = False,
) -> dict[str, torch.Tensor]:
    """Every statistic of N tokens.

    Args:
        base_hidden, hidden: final hidden states of base (N, H_p) and candidate (N, H_q).
        base_head, head: each model's own; both of V ids.
        targets: the ids that came next (N,).
        top_k: how many of the likeliest ids of each side to give.
        threads: how many blocks of rows are computed at a time. vLLM keeps torch itself to an engine's share of the
            cores, but the other engines wait while this one scores.
        quick: as in ``logits_dtype``.

    Returns:
        ``statistics`` (N, len(COLUMNS)) float64; for each side ``{base,candidate}_top_ids`` (N, k) int64 with
        ``…_top_base_logprobs`` and ``…_top_candidate_logprobs`` (N, k) float64: what both think of these ids.

    Raises:
        ValueError: the vocabularies differ in size, or a model's logits are not finite.
    """
    ids = head.weight.shape[0]
    if base_head.weight.shape[0] != ids:
        raise ValueError(f"the base has {base_head.weight.shape[0]} ids, the candidate {ids}")
    dtype = logits_dtype(hidden, quick=quick)
    rows = max(1, min(_BLOCK_ELEMENTS // threads // ids, -(-len(hidden) // threads)))

    def block(start: int) -> dict[str, torch.Tensor]:
        own = slice(start, start + rows)
        base_logits, logits = base_head.logits(base_hidden[own], dtype), head.logits(hidden[own], dtype)
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
    (log_p, p), (log_q, q) = _softmax(base_logits), _softmax(logits)
    target_p, target_q = (x.gather(1, targets[:, None])[:, 0] for x in (log_p, log_q))
    base_ids, candidate_ids = _top(base_logits, top_k), _top(logits, top_k)
    base_entropy, entropy = -_dot(p, log_p), -_dot(q, log_q)
    statistics = torch.stack(
        [
            *_divergences(p, q, log_p, log_q, base_entropy + entropy),
            base_entropy,
            entropy,
            target_p,
            target_q,
            _rank(base_logits, targets),
            _rank(logits, targets),
            _margin(log_p, base_ids),
            _margin(log_q, candidate_ids),
        ],
        dim=1,
    )
    base_ids, candidate_ids = base_ids[:, :top_k].contiguous(), candidate_ids[:, :top_k].contiguous()
    return {
        "statistics": statistics,
        "base_top_ids": base_ids,
        "base_top_base_logprobs": log_p.gather(1, base_ids),
        "base_top_candidate_logprobs": log_q.gather(1, base_ids),
        "candidate_top_ids": candidate_ids,
        "candidate_top_base_logprobs": log_p.gather(1, candidate_ids),
        "candidate_top_candidate_logprobs": log_q.gather(1, candidate_ids),
    }


def _softmax(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and probabilities in float64, with one exp an id for both."""
    shifted = logits.double() - logits.amax(dim=1, keepdim=True)
    p = shifted.exp()
    total = p.sum(dim=1, keepdim=True)
    return shifted.sub_(total.log()), p.div_(total)


def _dot(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vecdot(one, other, dim=1)


def _divergences(
    p: torch.Tensor, q: torch.Tensor, log_p: torch.Tensor, log_q: torch.Tensor, entropies: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """KL(p‖q), KL(q‖p), Jensen-Shannon and total variation of each row.

    With e = log q - log p: KL(p‖q) = sum (q - p) - p e and KL(q‖p) = sum q e - (q - p), each term of which is not
    negative; sum (q - p) is zero but for rounding, which it takes out. JSD = H((p + q) / 2) - (H(p) + H(q)) / 2, at
    most a quarter of both KL together (Lin 1991). What is cut off at zero is rounding, some 1e-16.
    """
    e, surplus = log_q - log_p, q - p
    extra = surplus.sum(1)
    forward, backward = (extra - _dot(p, e)).clamp_min_(0), (_dot(q, e) - extra).clamp_min_(0)
    total_variation = surplus.abs_().sum(1) / 2
    both = p + q
    log_both = both.clamp_min(_SMALLEST).log_()
    jensen_shannon = (2 * math.log(2) - _dot(both, log_both) - entropies).div_(2).clamp_min_(0)
    return forward, backward, torch.minimum(jensen_shannon, (forward + backward) / 4), total_variation


def _rank(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return 1.0 + torch.count_nonzero(logits > logits.gather(1, targets[:, None]), dim=1)


def _margin(log_probs: torch.Tensor, top_ids: torch.Tensor) -> torch.Tensor:
    best = log_probs.gather(1, top_ids[:, :2])
    return best[:, 0] - best[:, 1]


def _top(logits: torch.Tensor, k: int) -> torch.Tensor:
    """Ids of the k likeliest, two at least, best first, of equal ones the lowest id first."""
    values, ids = torch.topk(logits, max(k, 2), dim=1)
    by_id = torch.argsort(ids, dim=1)
    order = by_id.gather(1, torch.argsort(values.gather(1, by_id), dim=1, descending=True, stable=True))
    return ids.gather(1, order)
