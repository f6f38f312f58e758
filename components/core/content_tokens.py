"""Which tokens of an answer carry its meaning, and how far two answers differ in words. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

from components.core.scores import TokenScore

_WORD = re.compile(r"\w+|[^\w\s]")


def is_content(text: str) -> bool:
    """Whether a token shows anything: it is not white space alone.

    Function words and punctuation count. "is" against "are" is where a wrong number begins, and "." against anything
    where an answer that should have ended goes on: without them the queue found fewer of the regressions (README).
    """
    return bool(text.strip())


def content_divergence(tokens: Sequence[TokenScore]) -> float | None:
    """The largest known KL of a content token, nats; of all tokens where none is one; None where none is known."""
    known = [(t.kl_base_to_candidate_nats, t.text) for t in tokens if t.kl_base_to_candidate_nats is not None]
    content = [value for value, text in known if is_content(text)]
    return max(content or [value for value, _ in known], default=None)


def words_of(text: str) -> list[str]:
    """Words and punctuation, lower case."""
    return _WORD.findall(text.lower())


def disagreement(one: str, two: str) -> float:
    """0 = the same words in the same order, 1 = none in common (one minus difflib's ratio over words)."""
    first, second = words_of(one), words_of(two)
    if first == second:
        return 0.0
    return 1 - SequenceMatcher(None, first, second, autojunk=False).ratio()


def matches(answer: str, reference: str | None) -> bool | None:
    """Whether an answer is the reference but for case and spaces; None without a reference."""
    return None if reference is None else " ".join(answer.lower().split()) == " ".join(reference.lower().split())
