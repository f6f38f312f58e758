"""Records of a scored answer: how far two models part on the same tokens, and what that figure rests on. Pure data.

Sides are base and candidate whoever wrote the answer (``path``). A figure that is not known is None, never 0.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from components.core.answers import Record
from components.core.traces import RecordId, UtcDatetime

Side = Literal["base", "candidate"]
Method = Literal["exact", "stock", "top_k"]
SCORE_SCHEMA_VERSION = 1
UNTRIED_ON_GPU = "not yet tried on a GPU"  # what a precision says of figures that only a GPU's path would give


class Alternative(Record):
    """One id that a model found likely, with what both think of it."""

    token_id: int
    text: str = Field(description="Decoded alone; may hold U+FFFD for a part of a character")
    base_logprob: float | None = Field(description="Natural logarithm; None = not known")
    candidate_logprob: float | None = Field(description="Natural logarithm; None = not known")


class TokenScore(Record):
    """One token of the answer under both models, after the same tokens before it."""

    token_id: int
    text: str = Field(description="The token decoded alone")
    raw: bytes | None = Field(default=None, description="Its exact bytes where known")
    kl_base_to_candidate_nats: float | None = None
    kl_candidate_to_base_nats: float | None = None
    jensen_shannon_nats: float | None = Field(default=None, description="At most ln 2")
    total_variation: float | None = Field(default=None, description="0..1")
    base_logprob: float | None = Field(default=None, description="Of this token, nats")
    candidate_logprob: float | None = Field(default=None, description="Of this token, nats")
    delta_p: float | None = Field(default=None, description="Candidate's minus base's probability of this token")
    base_rank: int | None = Field(default=None, description="1 = the likeliest")
    candidate_rank: int | None = None
    base_entropy_nats: float | None = None
    candidate_entropy_nats: float | None = None
    base_margin_nats: float | None = Field(default=None, description="Likeliest above second; 0 is a tie")
    candidate_margin_nats: float | None = None
    fork: bool | None = Field(
        default=None, description="Their likeliest tokens differ here, be it within the noise; None = not known"
    )
    covered_mass: float | None = Field(default=None, description="Base probability of the ids compared; 1 = all")
    base_top: tuple[Alternative, ...] = Field(default=(), description="The base's likeliest, best first")
    candidate_top: tuple[Alternative, ...] = Field(default=(), description="The candidate's likeliest, best first")


class NoiseFloor(Record):
    """The base against itself on the same tokens, computed in another batch: below this nothing is a difference."""

    mean_nats: float
    max_nats: float
    tokens: int
    batch_tokens: tuple[int, int] = Field(description="Tokens of the step in the two runs")
    measured_at: UtcDatetime
    engine_started_at: UtcDatetime = Field(description="It holds for this run of the base's engine")


class ScoredAnswer(Record):
    """What every record of an answer's tokens under base and candidate says."""

    id: RecordId
    trace_id: RecordId
    answer_id: RecordId = Field(description="Whose tokens these are")
    path: Side = Field(description="Which side wrote them")
    base_engine: str
    candidate_engine: str
    precision: str = Field(description="In words: what the figures were computed from and in")
    created_at: UtcDatetime
    seconds: float = Field(description="How long scoring took")


class Score(ScoredAnswer):
    """An answer scored on the same path under base and candidate."""

    method: Method
    floor: NoiseFloor | None = Field(default=None, description="None = not measured")
    tokens: tuple[TokenScore, ...]
    notes: tuple[str, ...] = Field(default=(), description="What a reader should know, in words")
    schema_version: int = SCORE_SCHEMA_VERSION

    def is_within_noise(self, token: TokenScore) -> bool:
        """Whether the two differ on a token by no more than the base does from itself; False without a floor."""
        kl = token.kl_base_to_candidate_nats
        return self.floor is not None and kl is not None and kl <= self.floor.max_nats

    def is_fork(self, token: TokenScore) -> bool | None:
        """Whether the two would choose differently; a tie that rounding decides is none. None = not known."""
        return token.fork and not self.is_within_noise(token)

    @property
    def first_fork(self) -> int | None:
        """Index of the first fork; None where there is none."""
        return next(iter(self.forks), None)

    @property
    def forks(self) -> tuple[int, ...]:
        """Indices of all forks."""
        return tuple(index for index, token in enumerate(self.tokens) if self.is_fork(token))

    @property
    def ties(self) -> tuple[int, ...]:
        """Indices of tokens at which the choice differs within the noise."""
        return tuple(i for i, token in enumerate(self.tokens) if token.fork and self.is_within_noise(token))

    def known(self, name: str) -> list[float]:
        """All known values of one of the tokens' figures."""
        values = (getattr(token, name) for token in self.tokens)
        return [float(value) for value in values if value is not None]
