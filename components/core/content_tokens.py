"""Which tokens of an answer carry its meaning, and how far two answers differ in words. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

from components.core.scores import TokenScore

_WORD = re.compile(r"\w+|[^\w\s]")
# English function words: where two models differ in one of these, the answer seldom means something else.
_FUNCTION_WORDS = frozenset(
    _WORD.findall(
        "a an the this that these those of in on at to from by for with as and or but if then is are was were be been "
        "being am do does did has have had it its there here i you he she we they me my your his her our their so than "
        "too very can could may might shall should will would"
    )
)


def is_content(text: str) -> bool:
    """Whether a token's text holds a letter or digit and is no function word."""
    bare = text.strip().lower()
    return any(letter.isalnum() for letter in bare) and bare not in _FUNCTION_WORDS


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
