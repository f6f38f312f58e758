"""What one visitor of a public page may take: answers in a minute, tokens of an answer, size of a picture.

Counted by address, in this process only. Whoever signed in is not a visitor.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from components.core.errors import VisitorLimitError
from components.storage.images import ImageLimits

_KEPT_KEYS = 4096


@dataclass(frozen=True)
class VisitorRules:
    """The limits.

    Attributes:
        answers_per_minute: answers that the engines write for one visitor in any 60 s; 0 = as many as he likes.
        max_tokens: longest answer, tokens.
        image_max_bytes: largest picture file.
        image_max_pixels: width times height of the largest picture.
    """

    answers_per_minute: int = 20
    max_tokens: int = 512
    image_max_bytes: int = 5_000_000
    image_max_pixels: int = 12_000_000


class Visitors:
    """Counts what visitors take. Safe from any thread."""

    def __init__(self, rules: VisitorRules) -> None:
        # Not above: only public pages need it, and it costs every start some 80 ms.
        from limits import RateLimitItemPerMinute
        from limits.storage import MemoryStorage
        from limits.strategies import MovingWindowRateLimiter

        self.rules = rules
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._per_minute = RateLimitItemPerMinute(max(rules.answers_per_minute, 1))
        # The columns of one question come one by one: all of them are let in, or none.
        self._decided: OrderedDict[tuple[str, str, int], VisitorLimitError | None] = OrderedDict()

    def spend(self, address: str, tokens: Sequence[int], key: str = "") -> None:
        """Take answers of these lengths, all or none.

        Args:
            address: whose they are.
            tokens: longest length of each answer.
            key: of a question that several calls ask together; "" = every call counts.

        Raises:
            VisitorLimitError: one is too long, or there were too many in the last minute.
        """
        self._check_length(tokens)
        known = (address, key, len(tokens))
        refusal = self._decided[known] if key and known in self._decided else self._too_many(address, len(tokens))
        if key:
            self._decided[known] = refusal
            while len(self._decided) > _KEPT_KEYS:
                self._decided.popitem(last=False)
        if refusal is not None:
            raise refusal

    def pictures(self, limits: ImageLimits) -> ImageLimits:
        """The limits on a visitor's pictures: his own where they are narrower."""
        return replace(
            limits,
            max_bytes=min(limits.max_bytes, self.rules.image_max_bytes),
            max_pixels=min(limits.max_pixels, self.rules.image_max_pixels),
        )

    def _check_length(self, tokens: Sequence[int]) -> None:
        most = self.rules.max_tokens
        if max(tokens, default=0) > most:
            hint = "Lower Max tokens, or sign in."
            raise VisitorLimitError(f"An answer to a visitor has at most {most} tokens.", hint, field="max_tokens")

    def _too_many(self, address: str, answers: int) -> VisitorLimitError | None:
        most = self.rules.answers_per_minute
        if not most or self._limiter.hit(self._per_minute, address, cost=answers):
            return None
        if answers > most:
            return VisitorLimitError(
                f"That would be {answers} answers; a visitor gets {most} in a minute.", "Ask for fewer, or sign in."
            )
        opens = self._limiter.get_window_stats(self._per_minute, address).reset_time
        wait_s = max(1, round(opens - time.time()))  # noqa: TID251  the library counts by the wall clock
        return VisitorLimitError(
            f"A visitor gets {most} answers in a minute, one for each column.", f"Try again in {wait_s} s, or sign in."
        )


def visitor_address(scope: Mapping[str, Any]) -> str:
    """Who is calling, by address; of an IPv6 address the network, which belongs to one customer as a rule."""
    host = str((scope.get("client") or ("unknown",))[0])
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else str(address)
