"""Where two answers to the same prompt part when each model goes on by itself. Pure."""

from __future__ import annotations

import math
import re
from difflib import SequenceMatcher
from typing import Any

from components.core.answers import Answer, TokenStep
from components.core.divergence import first_fork
from components.core.traces import StoredAnswer

_WORDS = re.compile(r"\s*\S+|\s+$")
_MOST_WORDS = 2000


def free_run_of(sides: tuple[StoredAnswer, StoredAnswer] | None) -> dict[str, Any] | None:
    """``free_run`` of base's and candidate's stored answers; None where a turn has not both."""
    return None if sides is None else free_run(sides[0].answer, sides[1].answer)


def free_run(base: Answer, candidate: Answer) -> dict[str, Any] | None:
    """The first token at which two answers differ, with each model's own choice and its probability.

    Returns:
        ``{"fork": None}`` where they are equal; else ``fork`` (an index from 0), for ``base`` and ``candidate``
        ``{text, probability}``, text None where that answer had ended, and ``aligned``. None where it can't be said:
        the prompts differ, or ids are not known.
    """
    mine, other = ([i for i in answer.token_ids if i is not None] for answer in (base, candidate))
    unknown = len(mine) + len(other) < len(base.tokens) + len(candidate.tokens)
    if unknown or not base.prompt_token_ids or base.prompt_token_ids != candidate.prompt_token_ids:
        return None
    fork = first_fork(mine, other)
    if fork is None:
        return {"fork": None}
    return {
        "fork": fork,
        "base": _choice(base.tokens, fork),
        "candidate": _choice(candidate.tokens, fork),
        "aligned": aligned(base.text, candidate.text),
    }


def aligned(base: str, candidate: str) -> list[list[str]]:
    """Two answers side by side, word by word: ``[text]`` where they agree, ``[base's, candidate's]`` where not.

    Each model went its own way after the fork, so this is for reading and no measure. Past some thousand words only
    what they begin with is aligned, since the time grows with the square.
    """
    mine, other = ([*_WORDS.findall(text)] for text in (base, candidate))
    rest = ["".join(words[_MOST_WORDS:]) for words in (mine, other)]
    matcher = SequenceMatcher(None, mine[:_MOST_WORDS], other[:_MOST_WORDS], autojunk=False)
    parts = []
    for kind, start, end, other_start, other_end in matcher.get_opcodes():
        ours, theirs = "".join(mine[start:end]), "".join(other[other_start:other_end])
        parts.append([ours] if kind == "equal" else [ours, theirs])
    return [*parts, rest] if any(rest) else parts


def _choice(tokens: tuple[TokenStep, ...], index: int) -> dict[str, Any]:
    if index >= len(tokens):
        return {"text": None, "probability": None}
    step = tokens[index]
    return {"text": step.text, "probability": None if step.logprob is None else math.exp(step.logprob)}
