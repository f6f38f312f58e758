"""Log-probabilities as llama.cpp's ``--kl-divergence-base`` file holds them, 16 bits an id, and figures against them.

One row a token, of 16-bit words: scale and lowest log-probability as two float32, then a code an id, padded to an even
number; ``log p = scale * code + lowest``. Rounding and formulas are those of llama.cpp's tools/perplexity, in float32
where it has float32, so that its figures and ours of the same logits agree.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

from .measure import Head

HEADER_WORDS = 4
COLUMNS = (
    "kl_base_to_candidate_nats", "base_target_logprob", "candidate_target_logprob", "candidate_entropy_nats",
    "same_top", "base_confidence",
)  # fmt: skip
_LARGEST_CODE = 65535.0
_SPREAD_NATS = 16.0  # what is less likely than the likeliest by more is stored as so much
_BLOCK_ELEMENTS = 4 * 2**20


def words(ids: int) -> int:
    """16-bit words of a row."""
    return 2 * ((ids + 1) // 2) + HEADER_WORDS


def rows_of(hidden: torch.Tensor, head: Head, threads: int = 1) -> torch.Tensor:
    """Rows (N, words(V)) of hidden states (N, H), as int16 that holds the bits of uint16."""

    def block(states: torch.Tensor) -> torch.Tensor:
        return _encode(head.logits(states, torch.float32))

    return torch.cat(_by_blocks(block, (hidden,), head, threads))


def _encode(logits: torch.Tensor) -> torch.Tensor:
    largest = logits.amax(dim=1, keepdim=True)
    smallest = torch.maximum(logits.amin(dim=1, keepdim=True), largest - _SPREAD_NATS)
    log_sum = (logits - largest).exp().double().sum(dim=1, keepdim=True).log().float()
    scale = (largest - smallest) / _LARGEST_CODE
    inverse = torch.where(scale > 0, 1 / scale, 0.0)
    codes = torch.where(logits > smallest, torch.round(inverse * (logits - smallest)), 0.0).to(torch.int32)
    rows = torch.zeros(len(logits), words(logits.shape[1]), dtype=torch.int16, device=logits.device)
    rows[:, :HEADER_WORDS] = torch.cat([scale, smallest - largest - log_sum], dim=1).contiguous().view(torch.int16)
    rows[:, HEADER_WORDS : HEADER_WORDS + logits.shape[1]] = codes.to(torch.int16)  # keeps the low 16 bits
    return rows


def decode(rows: torch.Tensor, ids: int) -> torch.Tensor:
    """Log-probabilities (N, V), float32, of rows."""
    header = rows[:, :HEADER_WORDS].contiguous().view(torch.float32)
    codes = rows[:, HEADER_WORDS : HEADER_WORDS + ids].to(torch.int32).bitwise_and_(0xFFFF).float()
    return header[:, :1] * codes + header[:, 1:]


def measure_rows(
    rows: torch.Tensor, hidden: torch.Tensor, head: Head, targets: torch.Tensor, threads: int = 1
) -> torch.Tensor:
    """COLUMNS (N, 6) in float64 of a model against the base whose rows they are.

    Raises:
        ValueError: the rows are of another vocabulary, or the logits are not finite numbers.
    """
    ids = head.weight.shape[0]
    if rows.shape[1] != words(ids):
        raise ValueError(f"the base's file is of another vocabulary than the model's {ids} ids")

    def block(states: torch.Tensor, own_rows: torch.Tensor, own_targets: torch.Tensor) -> torch.Tensor:
        return _figures(decode(own_rows, ids), head.logits(states, torch.float32), own_targets)

    return torch.cat(_by_blocks(block, (hidden, rows, targets), head, threads))


def _figures(base: torch.Tensor, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    if not torch.isfinite(logits.sum()):
        raise ValueError("the candidate's logits are not finite numbers")
    log_q = torch.log_softmax(logits.double(), dim=1)
    log_p = base.double()
    # Ids at 16 nats or more below certainty are left out, as llama.cpp does: the codes say no more of them.
    terms = torch.where(log_p > -_SPREAD_NATS, log_p.exp() * (log_p - log_q), 0.0)
    target_p, target_q = (x.gather(1, targets[:, None])[:, 0] for x in (log_p, log_q))
    entropy = -(log_q.exp() * log_q).sum(1)
    same = (log_p.argmax(dim=1) == log_q.argmax(dim=1)).double()
    return torch.stack([terms.sum(1), target_p, target_q, entropy, same, log_p.amax(dim=1).exp()], dim=1)


def _by_blocks(
    function: Callable[..., torch.Tensor], columns: tuple[torch.Tensor, ...], head: Head, threads: int
) -> list[torch.Tensor]:
    count = len(columns[0])
    rows = max(1, min(_BLOCK_ELEMENTS // threads // head.weight.shape[0], -(-count // threads)))
    parts = [[column[start : start + rows] for column in columns] for start in range(0, count, rows)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda part: function(*part), parts))
