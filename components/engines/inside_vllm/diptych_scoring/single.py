"""The statistics of texts of many thousand tokens: arithmetic in float32, as their logits are, in few passes.

Names and shapes are those of ``measure.py``. What float32 can't hold is never formed: each divergence is a sum of terms
that are small where the two models agree, so that a millionth of a thousandth nat is still told apart from nothing, and
a model against itself gives exactly zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

_WIDEST_NATS = 60.0  # of e; exp(88) is too much for float32
_SMALLEST_SHARE = 1 / 8  # of sum Q in sum P; rounding of P counts so many times over in Q
_TILE_BYTES = 2**18  # of a temporary; there are five, which stay in a core's cache
_GPU_TILE_BYTES = 2**26  # there calls cost more than memory


@dataclass(frozen=True)
class Distances:
    """Of n rows, float64.

    Attributes:
        statistics: KL(p‖q), KL(q‖p), Jensen-Shannon, total variation, H(p), H(q): (n, 6).
        base_log_sum, log_sum: log-sum-exp of both models' logits (n,).
        fits: of which rows that is true (n,); the two models' logits of the others are too far apart for float32.
    """

    statistics: torch.Tensor
    base_log_sum: torch.Tensor
    log_sum: torch.Tensor
    fits: torch.Tensor


def distances(base_logits: torch.Tensor, logits: torch.Tensor) -> Distances:
    """Of logits (n, V), float32.

    x are the base's logits less their largest, P = exp(x), Z = sum P; e are the candidate's logits less its largest,
    less x; u = exp(e) - 1, D = P u, S = sum D. Then the candidate's exponentials are Q = P + D, without another exp,
    log q - log p = e - s with s = log(1 + S/Z), and q - p = C / (Z + S) with C = D - P S/Z. With t = log((p + q) / 2p)
    all else are sums of these:

        KL(p‖q) = s - sum(P e) / Z, as s holds what is of first order in the sum
        KL(q‖p) = sum((q - p) (e - s)) - KL(p‖q)
        JSD     = (sum(q (e - s)) - sum((p + q) t)) / 2
    """
    count, ids = logits.shape
    tile = max(1, min(count, (_GPU_TILE_BYTES if logits.is_cuda else _TILE_BYTES) // (4 * ids)))
    buffers = torch.empty(5, tile, ids, dtype=torch.float32, device=logits.device)
    base_largest, largest = base_logits.amax(dim=1), logits.amax(dim=1)
    sums = torch.empty(count, 11, dtype=torch.float32, device=logits.device)
    for start in range(0, count, tile):
        rows = slice(start, start + tile)
        part = base_logits[rows]
        _add_sums(part, logits[rows], base_largest[rows], largest[rows], buffers[:, : len(part)], sums[rows])
    z, surplus, px, pe, dy, de, pt, ct, c_abs, low, high = sums.double().unbind(dim=1)
    total, s = z + surplus, torch.log1p(surplus / z)
    unequal = s - pe / z
    both = (de - s * surplus - surplus / z * (pe - s * z)) / total  # KL(p‖q) + KL(q‖p)
    forward, backward = unequal.clamp_min(0), (both - unequal).clamp_min(0)
    shannon = (both - unequal - 2 * pt / z - ct / total).div_(2).clamp_min_(0)
    statistics = [
        forward, backward, torch.minimum(shannon, (forward + backward) / 4), c_abs / total / 2, z.log() - px / z,
        total.log() - (px + pe + dy) / total,
    ]  # fmt: skip
    fits = (low > -_WIDEST_NATS) & (high < _WIDEST_NATS) & (total > z * _SMALLEST_SHARE)
    return Distances(
        torch.stack(statistics, dim=1), base_largest.double() + z.log(), largest.double() + total.log(), fits
    )


def _add_sums(
    base_logits: torch.Tensor, logits: torch.Tensor, base_largest: torch.Tensor, largest: torch.Tensor,
    buffers: torch.Tensor, sums: torch.Tensor,
) -> None:  # fmt: skip
    """The sums of a tile, in the order in which ``distances`` takes them; buffers (5, n, V) are written over."""
    p, e, u, d, product = buffers

    def dot(one: torch.Tensor, other: torch.Tensor, place: int) -> None:
        torch.sum(torch.mul(one, other, out=product), dim=1, out=sums[:, place])

    torch.sub(base_logits, base_largest[:, None], out=d)  # x
    torch.exp(d, out=p)
    torch.sum(p, dim=1, out=sums[:, 0])
    dot(p, d, 2)
    torch.sub(logits, base_logits, out=e).sub_((largest - base_largest)[:, None])
    torch.amin(e, dim=1, out=sums[:, 9])
    torch.amax(e, dim=1, out=sums[:, 10])
    torch.expm1(e, out=u)
    d.add_(e).mul_(u)  # u y with y = x + e; of sums of u x and u e much would cancel
    dot(p, d, 4)
    torch.mul(p, u, out=d)
    torch.sum(d, dim=1, out=sums[:, 1])
    dot(p, e, 3)
    dot(d, e, 5)
    ratio = sums[:, 1:2].double() / sums[:, :1]
    half = 0.5 / (1 + ratio)
    torch.addcmul((half - 0.5).float(), u, half.float(), out=u).log1p_()
    dot(p, u, 6)
    d.addcmul_(p, -ratio.float())
    dot(d, u, 7)
    torch.sum(d.abs_(), dim=1, out=sums[:, 8])
