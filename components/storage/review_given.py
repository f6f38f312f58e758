"""What a reviewer asks of the queue, gets from it, and gives back. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from components.core.errors import InputError
from components.core.reviews import Assignment, Choice, Claim, Item, ReviewOutcome, Verdict
from components.storage.review_rows import ORDERS, ItemFilter


@dataclass(frozen=True)
class Wish:
    """What a reviewer wants next."""

    batch_id: str
    order: str = "divergence"
    filter: ItemFilter = field(default_factory=ItemFilter)

    def __post_init__(self) -> None:
        """Refuse an order that there is not.

        Raises:
            InputError: names the field.
        """
        if self.order not in ORDERS:
            raise InputError(f"{self.order[:40]!r} is no order.", f"Accepted: {', '.join(ORDERS)}.", field="order")


@dataclass(frozen=True)
class Given:
    """An item as one reviewer has it."""

    item: Item
    assignment: Assignment
    verdict: Verdict | None  # the reviewer's own, in this round
    is_repeat: bool = False


@dataclass(frozen=True)
class Judgement:
    """What a reviewer submits, checked."""

    verdict: Choice
    a_right: bool | None = None
    b_right: bool | None = None
    outcome: ReviewOutcome | None = None  # said outright by a caller who knows; None = it follows
    claims: tuple[Claim, ...] = ()
    note: str = ""
    zoomed: bool = False
