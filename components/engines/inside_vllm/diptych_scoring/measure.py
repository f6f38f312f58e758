"""Full-vocabulary distances between two models' next-token distributions, from hidden states, in bounded memory.

Shapes: N tokens, H_p and H_q hidden sizes, V ids. ``p`` is the base, ``q`` the candidate. Formulas and names are those
of the app's ``core/divergence.py``, against which tests compare this one; sums are in float64, in nats.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import torch

from .single import distances

_BLOCK_BYTES = 32 * 2**20  # logits of each of both models kept at once
_TILE_BYTES = 2**20  # of a temporary in float64; smaller ones cost more in calls than the cache saves
_HEAD_TILE_ELEMENTS = 2 * 2**20  # copy of a part of a head: 16 MB in float64
_KEPT_HEAD_BYTES = 128 * 2**20  # a copy in the type of the logits is kept of heads up to here
_SMALLEST_GROUP = 8  # smaller ones are not worth the second search
_SMALLEST = 1e-300  # of which the logarithm is taken

COLUMNS = (
    "kl_base_to_candidate_nats", "kl_candidate_to_base_nats", "jensen_shannon_nats", "total_variation",
    "base_entropy_nats", "candidate_entropy_nats", "base_target_logprob", "candidate_target_logprob",
    "base_margin_nats", "candidate_margin_nats", "base_target_rank", "candidate_target_rank",
)  # fmt: skip
QUICK_COLUMNS = COLUMNS[:-2]  # no figure of a text asks for ranks, and counting them takes as long as a KL
_QUICK_TOP_K = 2  # of the candidate; no figure of a text asks for more


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
            states = hidden.to(dtype)
            for start, part in self._parts(dtype):
                torch.mm(states, part.t(), out=result[:, start : start + len(part)])
        if self.soft_cap is not None:
            result = torch.tanh(result / self.soft_cap) * self.soft_cap
        return result * self.scale if self.scale != 1.0 else result

    def prepare(self, dtype: torch.dtype) -> None:
        """Make the copy that is kept, before several threads want it."""
        if self.weight.numel() * dtype.itemsize <= _KEPT_HEAD_BYTES and dtype not in self._copies:
            self._copies[dtype] = self.weight.to(dtype)

    def _parts(self, dtype: torch.dtype) -> Iterator[tuple[int, torch.Tensor]]:
        """The weight in ``dtype``, in parts with the number of their first row."""
        if dtype in self._copies:
            yield 0, self._copies[dtype]
            return
        step = max(1, _HEAD_TILE_ELEMENTS // self.weight.shape[1])
        for start in range(0, self.weight.shape[0], step):
            yield start, self.weight[start : start + step].to(dtype)


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
        quick: as in ``logits_dtype``; the statistics are in float32 then too, some 1e-6 off float64 from the
            same logits; without ranks, and of the candidate's likeliest ids no more than two.

    Returns:
        ``statistics`` (N, columns) float64, of COLUMNS or QUICK_COLUMNS; for each side ``{base,candidate}_top_ids``
        (N, k) int64 with ``…_top_base_logprobs`` and ``…_top_candidate_logprobs`` (N, k) float64: what both think of
        these ids.

    Raises:
        ValueError: the vocabularies differ in size, or a model's logits are not finite.
    """
    ids = head.weight.shape[0]
    if base_head.weight.shape[0] != ids:
        raise ValueError(f"the base has {base_head.weight.shape[0]} ids, the candidate {ids}")
    dtype = logits_dtype(hidden, quick=quick)
    rows = max(1, min(_BLOCK_BYTES // dtype.itemsize // threads // ids, -(-len(hidden) // threads)))
    for one in (base_head, head):
        one.prepare(dtype)

    def block(start: int) -> dict[str, torch.Tensor]:
        own = slice(start, start + rows)
        base_logits, logits = base_head.logits(base_hidden[own], dtype), head.logits(hidden[own], dtype)
        _check_finite("base", base_logits, start)
        _check_finite("candidate", logits, start)
        return _block(base_logits, logits, targets[own], min(top_k, ids), quick=quick)

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
    base_logits: torch.Tensor, logits: torch.Tensor, targets: torch.Tensor, top_k: int, *, quick: bool
) -> dict[str, torch.Tensor]:
    if quick and logits.dtype is torch.float32:
        return _in_single(base_logits, logits, targets, top_k)
    tile = max(1, _TILE_BYTES // (8 * logits.shape[1]))
    starts = [slice(row, row + tile) for row in range(0, len(logits), tile)]
    return _joined([_tile(base_logits[rows], logits[rows], targets[rows], top_k, quick=quick) for rows in starts])


def _joined(parts: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@dataclass(frozen=True)
class _LogProbs:
    """Log-probabilities of rows, of which few are wanted: ``values`` (n, V), and what is to be taken off (n,)."""

    values: torch.Tensor
    log_sum: torch.Tensor

    def of(self, ids: torch.Tensor) -> torch.Tensor:
        """Those of ids (n, k), float64."""
        return self.values.gather(1, ids).double() - self.log_sum[:, None]


def _tile(
    base_logits: torch.Tensor, logits: torch.Tensor, targets: torch.Tensor, top_k: int, *, quick: bool
) -> dict[str, torch.Tensor]:
    tops = _top(base_logits, top_k), _top(logits, top_k)
    ranks = () if quick else (_rank(base_logits, targets), _rank(logits, targets))
    return _collected(*_in_double(base_logits, logits), targets, tops, top_k, ranks)


def _in_single(
    base_logits: torch.Tensor, logits: torch.Tensor, targets: torch.Tensor, top_k: int
) -> dict[str, torch.Tensor]:
    tops = _top(base_logits, top_k), _top(logits, _QUICK_TOP_K)
    found = distances(base_logits, logits)
    base, candidate = _LogProbs(base_logits, found.base_log_sum), _LogProbs(logits, found.log_sum)
    for row in (~found.fits).nonzero()[:, 0].tolist():
        own = slice(row, row + 1)
        found.statistics[own] = _in_double(base_logits[own], logits[own])[0]
        for one in (base, candidate):
            one.log_sum[own] = one.values[own].double().logsumexp(dim=1)
    return _collected(found.statistics, base, candidate, targets, tops, top_k)


def _in_double(base_logits: torch.Tensor, logits: torch.Tensor) -> tuple[torch.Tensor, _LogProbs, _LogProbs]:
    """The distances of rows, and both log-probabilities."""
    (log_p, p), (log_q, q) = _softmax(base_logits), _softmax(logits)
    entropies = -_dot(p, log_p), -_dot(q, log_q)
    nothing = torch.zeros_like(log_p[:, 0])
    found = torch.stack([*_divergences(p, q, log_p, log_q, entropies[0] + entropies[1]), *entropies], dim=1)
    return found, _LogProbs(log_p, nothing), _LogProbs(log_q, nothing)


def _collected(
    distances_found: torch.Tensor, base: _LogProbs, candidate: _LogProbs, targets: torch.Tensor,
    tops: tuple[torch.Tensor, torch.Tensor], top_k: int, ranks: tuple[torch.Tensor, ...] = (),
) -> dict[str, torch.Tensor]:  # fmt: skip
    base_ids, ids = tops
    more = [
        base.of(targets[:, None])[:, 0], candidate.of(targets[:, None])[:, 0],
        _margin(base.of(base_ids[:, :2])), _margin(candidate.of(ids[:, :2])), *ranks,
    ]  # fmt: skip
    base_ids, ids = base_ids[:, :top_k].contiguous(), ids[:, :top_k].contiguous()
    return {
        "statistics": torch.cat([distances_found, torch.stack(more, dim=1)], dim=1),
        "base_top_ids": base_ids,
        "base_top_base_logprobs": base.of(base_ids),
        "base_top_candidate_logprobs": candidate.of(base_ids),
        "candidate_top_ids": ids,
        "candidate_top_base_logprobs": base.of(ids),
        "candidate_top_candidate_logprobs": candidate.of(ids),
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


def _margin(best: torch.Tensor) -> torch.Tensor:
    return best[:, 0] - best[:, 1]


def _top(logits: torch.Tensor, k: int) -> torch.Tensor:
    """Ids of the k likeliest, two at least, best first, of equal ones the lowest id first."""
    k = max(k, 2)
    group = math.isqrt(logits.shape[1] // k)  # then the search among groups costs what the one inside them does
    values, ids = torch.topk(logits, k, dim=1) if group < _SMALLEST_GROUP else _top_of_groups(logits, k, group)
    by_id = torch.argsort(ids, dim=1)
    order = by_id.gather(1, torch.argsort(values.gather(1, by_id), dim=1, descending=True, stable=True))
    return ids.gather(1, order)


def _top_of_groups(logits: torch.Tensor, k: int, group: int) -> tuple[torch.Tensor, torch.Tensor]:
    """As ``torch.topk``: the k largest lie in the k groups of the largest maxima, or in the rest that fills no group.

    Of G groups the one numbered g has the ids g, g + G, g + 2 G and so on, so that maxima are taken along whole rows.
    """
    groups = logits.shape[1] // group
    whole = groups * group
    maxima = logits[:, :whole].unflatten(1, (group, groups)).amax(dim=1)
    first = torch.topk(maxima, k, dim=1).indices
    steps = torch.arange(0, whole, groups, device=logits.device)
    rest = torch.arange(whole, logits.shape[1], device=logits.device).expand(len(logits), -1)
    ids = torch.cat([(first[:, :, None] + steps).flatten(1), rest], dim=1)
    values, places = torch.topk(logits.gather(1, ids), k, dim=1)
    return values, ids.gather(1, places)
