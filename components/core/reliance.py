"""Picture reliance: how much likelier a model finds each token of an answer with the picture than with it changed.

Pure. One answer's tokens are scored by one model twice, after the prompt as it was and after the same prompt with its
pictures changed: ``reliance = log p(token | picture) - log p(token | changed picture)`` in nats: 0 = the token would
have come anyhow, ln 2 = the picture doubled its probability, below 0 = the picture spoke against it. Its change from
base to candidate says whether quantization touched what the model takes from the picture (the eyes) or the rest (the
words). It is the pointwise form of "does the answer depend on the image" (PMI of token and picture).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from components.core import statistics
from components.core.answers import Record
from components.core.scores import ScoredAnswer
from components.core.statistics import Figure

PictureChange = Literal["removed", "blurred", "small", "swapped"]
PICTURE_CHANGES: tuple[PictureChange, ...] = ("removed", "blurred", "small", "swapped")
LEANING_NATS = math.log(2)
NAMED_NATS = 0.05  # a factor of 1.05: a smaller change is not worth a word, however quiet the noise
RELIANCE_SCHEMA_VERSION = 1


class Choice(Record):
    """A token and how likely a model finds it."""

    token_id: int
    text: str
    logprob: float


class SideReliance(Record):
    """One token under one model, with the picture and with the changed one."""

    logprob: float = Field(description="Of this token with the picture, nats")
    logprob_changed: float = Field(description="Of this token with the changed picture, nats")
    kl_picture_to_changed_nats: float = Field(description="Between the model's own two distributions here")
    choice: Choice = Field(description="What it would choose with the picture")
    choice_changed: Choice = Field(description="What it would choose with the changed picture")

    @property
    def nats(self) -> float:
        """The reliance."""
        return self.logprob - self.logprob_changed


class TokenReliance(Record):
    """One token of the answer under both models."""

    token_id: int
    text: str = Field(description="The token decoded alone")
    raw: bytes | None = Field(default=None, description="Its exact bytes where known")
    base: SideReliance
    candidate: SideReliance

    @property
    def change_nats(self) -> float:
        """Candidate's reliance minus base's."""
        return self.candidate.nats - self.base.nats


class ChangedPicture(Record):
    """What stood in for one picture of the prompt."""

    original_sha256: str
    original_name: str
    shown_sha256: str | None = Field(description="The canonical PNG that was shown instead; None = none")
    words: str = Field(description="What was done, with its numbers")


class RelianceFloor(Record):
    """Everything measured a second time in another batch shape: the largest difference of any token, in nats."""

    base_nats: float
    candidate_nats: float
    change_nats: float
    batch_tokens: tuple[int, int] = Field(description="Tokens of the step in the two runs (base, changed picture)")


class Reliance(ScoredAnswer):
    """Picture reliance of one answer's tokens under base and candidate."""

    picture: PictureChange
    pictures: tuple[ChangedPicture, ...]
    floor: RelianceFloor | None = Field(default=None, description="None = could not be measured")
    tokens: tuple[TokenReliance, ...]
    schema_version: int = RELIANCE_SCHEMA_VERSION


def mean_reliance(tokens: Sequence[TokenReliance]) -> tuple[Figure, Figure, Figure]:
    """Mean over tokens of base's reliance, candidate's, and its change, in nats, with standard errors.

    Raises:
        InputError: no token.
    """
    return (
        statistics.mean([token.base.nats for token in tokens]),
        statistics.mean([token.candidate.nats for token in tokens]),
        statistics.mean([token.change_nats for token in tokens]),
    )


def leaning(tokens: Sequence[TokenReliance], floor: RelianceFloor | None) -> tuple[int, ...]:
    """Indices of the tokens taken from the picture: it at least doubles their probability for base or candidate."""
    base_least = max(LEANING_NATS, floor.base_nats if floor else 0.0)
    candidate_least = max(LEANING_NATS, floor.candidate_nats if floor else 0.0)
    return tuple(
        index
        for index, token in enumerate(tokens)
        if token.base.nats >= base_least or token.candidate.nats >= candidate_least
    )


def most_changed(tokens: Sequence[TokenReliance], floor: RelianceFloor | None, count: int) -> tuple[int, ...]:
    """Indices of the tokens whose reliance changed most, largest first; without a floor, or below it, none is named."""
    if floor is None:
        return ()
    least = max(NAMED_NATS, floor.change_nats)
    changed = [index for index, token in enumerate(tokens) if abs(token.change_nats) > least]
    return tuple(sorted(changed, key=lambda index: -abs(tokens[index].change_nats))[:count])


def share_on(indices: Sequence[int], kl_nats: Sequence[float | None], floor_nats: float) -> float | None:
    """Which part of the divergence lies on these tokens.

    Args:
        indices: of the tokens.
        kl_nats: KL(base || candidate) of every token with the picture; None = not known.
        floor_nats: what is not above it is no difference and counts nowhere.

    Returns:
        0 to 1; None where no token is above the floor.
    """
    counted = [value if value is not None and value > floor_nats else 0.0 for value in kl_nats]
    total = math.fsum(counted)
    return math.fsum(counted[index] for index in indices) / total if total > 0 else None
