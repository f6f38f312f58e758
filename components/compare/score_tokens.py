"""Statistics to token records: from the exact method's arrays, or from top-k lists. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from components.core.answers import Answer, TokenStep, TopLogprob
from components.core.errors import InputError
from components.core.estimators import tail_bucket
from components.core.scores import Alternative, Side, TokenScore
from components.engines.exact_scoring import ExactResult
from components.engines.prompt_logprobs import Row, check_same_vocabulary

_FEW_ALTERNATIVES = 5
_LOST = "\ufffd"  # a part of a character: many tokens have this text


def exact_tokens(answer: Answer, result: ExactResult, text_of: Callable[[int], str]) -> list[TokenScore]:
    """One record for each token of the answer.

    Raises:
        InputError: not one row of statistics for each token.
    """
    rows = len(result.statistics["kl_base_to_candidate_nats"])
    if rows != len(answer.tokens):
        raise InputError(f"{rows} rows of statistics came back for {len(answer.tokens)} tokens.", "Score it again.")
    return [_exact_token(step, index, result, text_of) for index, step in enumerate(answer.tokens)]


def _exact_token(step: TokenStep, row: int, result: ExactResult, text_of: Callable[[int], str]) -> TokenScore:
    values = {name: float(column[row]) for name, column in result.statistics.items()}
    base_logprob, candidate_logprob = values.pop("base_target_logprob"), values.pop("candidate_target_logprob")
    ranks = {f"{side}_rank": int(values.pop(f"{side}_target_rank")) for side in ("base", "candidate")}
    tops = {side: _alternatives(result, side, row, text_of) for side in ("base", "candidate")}
    known = {name: value if math.isfinite(value) else None for name, value in values.items()}
    return TokenScore(
        token_id=step.token_id if step.token_id is not None else -1,
        text=step.text or text_of(step.token_id if step.token_id is not None else -1),
        raw=step.raw,
        base_logprob=base_logprob,
        candidate_logprob=candidate_logprob,
        delta_p=math.exp(candidate_logprob) - math.exp(base_logprob),
        fork=tops["base"][0].token_id != tops["candidate"][0].token_id,
        covered_mass=1.0,
        base_top=tops["base"],
        candidate_top=tops["candidate"],
        **ranks,
        **known,
    )


def _alternatives(result: ExactResult, side: str, row: int, text_of: Callable[[int], str]) -> tuple[Alternative, ...]:
    ids = result.tops[f"{side}_top_ids"][row]
    base, candidate = (result.tops[f"{side}_top_{of}_logprobs"][row] for of in ("base", "candidate"))
    return tuple(
        Alternative(
            token_id=int(token_id), text=text_of(int(token_id)), base_logprob=float(p), candidate_logprob=float(q)
        )
        for token_id, p, q in zip(ids, base, candidate, strict=True)
    )


def top_k_tokens(base: Answer, candidate: Answer, path: Side) -> tuple[list[TokenScore], list[str]]:
    """Token records up to the first token at which the answers differ, and what to know about them.

    Both sides have seen the same tokens so far, so their own lists are about the same path. What only one side lists
    is unknown on the other: the figure is a lower bound over the ids that both list.

    Raises:
        InputError: an endpoint gave no log-probabilities, or no ids.
    """
    for name, answer in (("base", base), ("candidate", candidate)):
        if not any(step.top for step in answer.tokens):
            raise InputError(
                f"The {name}'s endpoint returned no log-probabilities, so there is nothing to compare.",
                "Use a server that returns top_logprobs, or an engine that Diptych runs.",
                field="method",
            )
    written = base if path == "base" else candidate
    pairs = list(zip(base.tokens, candidate.tokens, strict=False))
    same = next((i for i, (b, c) in enumerate(pairs) if not _is_same_token(b, c)), len(pairs))
    scored = [_top_k_token(b, c, b if path == "base" else c) for b, c in pairs[: same + 1]]
    rest = [_unknown(step) for step in written.tokens[len(scored) :]]
    fewest = min(min(len(b.top), len(c.top)) for b, c in pairs[: same + 1])
    notes = [f"Lower bound from the ids that both sides list, at least {fewest} alternatives a side."]
    if rest:
        notes.append(f"After token {len(scored)} the answers have parted; what follows is not on the same path.")
    if fewest < _FEW_ALTERNATIVES:
        notes.append("An endpoint returned few alternatives: the bound is loose.")
    if not all(_by_id(b, c) for b, c in pairs[: same + 1]):
        notes.append(
            "An endpoint names alternatives by text only; those whose text may stand for several are left out."
        )
    return scored + rest, notes


def whole_path_tokens(
    base: Sequence[Row], candidate: Sequence[Row], written: Answer, text_of: Callable[[int], str], *,
    of_base_only: bool = False,
) -> tuple[list[TokenScore], list[str]]:  # fmt: skip
    """Token records of every token of one side's answer, from both models' lists along it, and what to know about them.

    Args:
        base, candidate: one row for each token.
        written: the answer.
        text_of: text of an id, where no row tells it.
        of_base_only: the candidate's rows are about the base's likeliest ids, not about its own.

    Raises:
        InputError: the vocabularies differ.
    """
    check_same_vocabulary(base, candidate)
    texts = {token_id: text for row in (*base, *candidate) for token_id, text in row.texts.items()}
    tokens = []
    for p, q, step in zip(base, candidate, written.tokens, strict=True):
        on_base, on_candidate = (_as_step(row, step, texts, text_of) for row in (p, q))
        token = _top_k_token(on_base, on_candidate, step)
        known: dict[str, Any] = {"base_rank": p.target_rank, "candidate_rank": q.target_rank}
        if of_base_only:
            known |= {"fork": _fork_among(p, q), "candidate_top": ()}
        tokens.append(token.model_copy(update=known))
    fewest = min(len(row.logprobs) for row in (*base, *candidate))
    whose = "the base's likeliest ids" if of_base_only else "the ids that both sides list"
    notes = [f"Lower bound along the whole answer, from {whose}, at least {fewest} a side."]
    if fewest < _FEW_ALTERNATIVES:
        notes.append("An endpoint returned few alternatives: the bound is loose.")
    return tokens, notes


def _fork_among(base: Row, candidate: Row) -> bool | None:
    """Whether the candidate would choose another id than the base, from what it thinks of the base's ids alone.

    None where an id that was not asked about might be the likeliest.
    """
    first = next(iter(base.logprobs), None)
    if first is None or first not in candidate.logprobs:
        return None
    if next(iter(candidate.logprobs)) != first:
        return True
    rest = 1.0 - math.fsum(math.exp(value) for value in candidate.logprobs.values())
    return False if math.exp(candidate.logprobs[first]) > rest else None


def _as_step(row: Row, step: TokenStep, texts: Mapping[int, str], text_of: Callable[[int], str]) -> TokenStep:
    top = tuple(
        TopLogprob(token_id=token_id, text=texts.get(token_id) or text_of(token_id), logprob=logprob)
        for token_id, logprob in row.logprobs.items()
    )
    return step.model_copy(update={"top": top})


def _is_same_token(base: TokenStep, candidate: TokenStep) -> bool:
    """By id where both have one, else by bytes or text; a text that stands for several tokens is never the same."""
    if base.token_id is not None and candidate.token_id is not None:
        return base.token_id == candidate.token_id
    if base.raw is not None and candidate.raw is not None:
        return base.raw == candidate.raw
    return base.text == candidate.text and _LOST not in base.text


def _by_id(base: TokenStep, candidate: TokenStep) -> bool:
    """Whether ids can be compared; where one side has none, texts are, since an id and a text are never equal."""
    steps = (base, candidate)
    alternatives = (item for step in steps for item in step.top)
    return all(step.token_id is not None for step in steps) and all(item.token_id is not None for item in alternatives)


def _name(item: TokenStep | TopLogprob, by_id: bool) -> int | str:
    return item.token_id if by_id and item.token_id is not None else item.text


def _unknown(step: TokenStep) -> TokenScore:
    return TokenScore(token_id=step.token_id if step.token_id is not None else -1, text=step.text, raw=step.raw)


def _listed(step: TokenStep, by_id: bool) -> dict[int | str, float]:
    """What a list tells of each id, or of each text that can stand for one token only."""
    named = [(_name(item, by_id), item.logprob) for item in step.top]
    counts = Counter(name for name, _ in named)
    return {name: value for name, value in named if value is not None and _is_clear(name) and counts[name] == 1}


def _is_clear(name: int | str) -> bool:
    return isinstance(name, int) or (name != "" and _LOST not in name)


def _top_k_token(base: TokenStep, candidate: TokenStep, written: TokenStep) -> TokenScore:
    by_id = _by_id(base, candidate)
    p, q = _listed(base, by_id), _listed(candidate, by_id)
    shared = [name for name in p if name in q]
    kl = mass = None
    if shared:
        bound = tail_bucket(np.array([[p[name] for name in shared]]), np.array([[q[name] for name in shared]]))
        kl, mass = float(bound.kl_base_to_candidate_nats[0]), float(bound.base_mass[0])
    name = _name(written, by_id)
    base_logprob, candidate_logprob = p.get(name), q.get(name)
    both = base_logprob is not None and candidate_logprob is not None
    return TokenScore(
        token_id=written.token_id if written.token_id is not None else -1,
        text=written.text,
        raw=written.raw,
        kl_base_to_candidate_nats=kl,
        base_logprob=base_logprob,
        candidate_logprob=candidate_logprob,
        delta_p=math.exp(candidate_logprob) - math.exp(base_logprob) if both else None,  # type: ignore[arg-type]
        fork=_is_fork(_best(base, by_id), _best(candidate, by_id)),
        covered_mass=mass,
        base_top=_side(base, q, by_id, base=True),
        candidate_top=_side(candidate, p, by_id, base=False),
    )


def _best(step: TokenStep, by_id: bool) -> int | str | None:
    """What a list puts first; None where it is empty, or its first may be any of several tokens."""
    known = [item for item in step.top if item.logprob is not None]
    if not known:
        return None
    name = _name(max(known, key=lambda item: item.logprob or 0.0), by_id)
    return name if name in _listed(step, by_id) else None


def _is_fork(base: int | str | None, candidate: int | str | None) -> bool | None:
    return None if base is None or candidate is None else base != candidate


def _side(step: TokenStep, other: dict[int | str, float], by_id: bool, *, base: bool) -> tuple[Alternative, ...]:
    found = [(item, other.get(_name(item, by_id))) for item in step.top]
    return tuple(
        Alternative(
            token_id=-1 if item.token_id is None else item.token_id,
            text=item.text,
            base_logprob=item.logprob if base else others,
            candidate_logprob=others if base else item.logprob,
        )
        for item, others in found
    )
