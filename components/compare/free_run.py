"""Where two answers to the same prompt part when each model goes on by itself. Pure."""

from __future__ import annotations

import math
from typing import Any

from components.core.answers import Answer, TokenStep
from components.core.divergence import first_fork
from components.core.traces import StoredAnswer


def free_run_of(sides: tuple[StoredAnswer, StoredAnswer] | None) -> dict[str, Any] | None:
    """``free_run`` of base's and candidate's stored answers; None where a turn has not both."""
    return None if sides is None else free_run(sides[0].answer, sides[1].answer)


def free_run(base: Answer, candidate: Answer) -> dict[str, Any] | None:
    """The first token at which two answers differ, with each model's own choice and its probability.

    Returns:
        ``{"fork": None}`` where they are equal; else ``fork`` (an index from 0) and for ``base`` and ``candidate``
        ``{text, probability}``, text None where that answer had ended. None where it can't be said: the prompts differ,
        or ids are not known.
    """
    mine, other = ([i for i in answer.token_ids if i is not None] for answer in (base, candidate))
    unknown = len(mine) + len(other) < len(base.tokens) + len(candidate.tokens)
    if unknown or not base.prompt_token_ids or base.prompt_token_ids != candidate.prompt_token_ids:
        return None
    fork = first_fork(mine, other)
    if fork is None:
        return {"fork": None}
    return {"fork": fork, "base": _choice(base.tokens, fork), "candidate": _choice(candidate.tokens, fork)}


def _choice(tokens: tuple[TokenStep, ...], index: int) -> dict[str, Any]:
    if index >= len(tokens):
        return {"text": None, "probability": None}
    step = tokens[index]
    return {"text": step.text, "probability": None if step.logprob is None else math.exp(step.logprob)}
