"""Going on from a chosen token: one model is given the beginning of an answer and a token, and writes the rest.

At a fork this tells a slip from a change of mind: does the candidate, given the base's token, come back to the base's
answer, or does it part again? Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from components.core.answers import TokenStep
from components.core.divergence import first_fork
from components.core.errors import InputError
from components.core.states import Outcome
from components.core.traces import Continuation, StoredAnswer, Trace
from components.engines.vocabulary import Vocabulary


@dataclass(frozen=True)
class Choice:
    """A token to go on from: ``token_id`` in the place of token ``index`` (from 0) of an answer."""

    answer_id: str
    index: int
    token_id: int

    @classmethod
    def read(cls, given: Mapping[str, object]) -> Choice:
        """From a page event or the options of a call.

        Raises:
            InputError: naming the field and what it accepts.
        """
        numbers = {name: given.get(name) for name in ("index", "token_id")}
        for name, value in numbers.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise InputError(f"{name} is not acceptable.", "Accepted: a whole number from 0.", field=name)
        return cls(str(given.get("answer_id") or ""), int(str(numbers["index"])), int(str(numbers["token_id"])))


def source_of(trace: Trace, choice: Choice) -> StoredAnswer:
    """The answer that a choice is about.

    Raises:
        InputError: there is no such answer, or it is not over.
    """
    source = next((a for a in trace.answers if a.slot.id == choice.answer_id), None)
    if source is None:
        raise InputError("This turn has no such answer.", "Score the turn again.", field="answer_id")
    if source.answer.outcome is Outcome.STREAMING:
        raise InputError("That answer is still being written.", "Wait for its end.", field="answer_id")
    return source


def continuation_of(source: StoredAnswer, choice: Choice, vocabulary: Vocabulary | None) -> Continuation:
    """The record of a choice about that answer.

    Raises:
        InputError: there is no such token, or nothing can follow it; names the field.
    """
    count = len(source.answer.tokens)
    if choice.index >= count:
        raise InputError(f"That answer has {count} tokens.", f"Accepted: 0 to {count - 1}.", field="index")
    raw = vocabulary.raw(choice.token_id) if vocabulary else None
    if vocabulary is None or raw is None:
        raise InputError("This model has no such token.", "Choose one of the listed tokens.", field="token_id")
    if vocabulary.is_special(choice.token_id):
        raise InputError(
            f"{vocabulary.text(choice.token_id)} is a control token: it ends the answer or is no part of one.",
            "Choose another of the listed tokens.", field="token_id",
        )  # fmt: skip
    text = vocabulary.text(choice.token_id)
    return Continuation(
        answer_id=source.slot.id,
        given_tokens=choice.index + 1,
        token_id=choice.token_id,
        token_text=text,
        token_raw=raw,
    )


def given_steps(source: StoredAnswer, continued: Continuation) -> tuple[TokenStep, ...]:
    """The tokens that are given, without log-probabilities: this model did not choose them."""
    before = source.answer.tokens[: continued.given_tokens - 1]
    chosen = TokenStep(
        token_id=continued.token_id, text=continued.token_text, raw=continued.token_raw, logprob=None, at_ms=0.0
    )
    return (*(step.model_copy(update={"logprob": None, "top": (), "at_ms": 0.0}) for step in before), chosen)


def continuation_note(trace: Trace, stored: StoredAnswer) -> list[list[str]] | None:
    """What was given and how it went on, in words: ``[["text" | "token", …], …]``; None for a free answer."""
    continued = stored.slot.continued
    if continued is None:
        return None
    source = next((a for a in trace.answers if a.slot.id == continued.answer_id), None)
    whose = f"the {source.slot.label.role}'s answer" if source else "another answer"
    before = continued.given_tokens - 1
    given = f"Given {before} token{'s' if before != 1 else ''} of {whose}, then " if before else "Given "
    return [["text", given], ["token", continued.token_text], ["text", ". "], *_verdict(trace, stored, source)]


def _verdict(trace: Trace, stored: StoredAnswer, source: StoredAnswer | None) -> list[list[str]]:
    continued = stored.slot.continued
    if stored.answer.outcome is not Outcome.FINISHED or source is None or continued is None:
        return []
    mine, role = stored.answer.token_ids, stored.slot.label.role
    for own in trace.latest_answers:
        if own.answer.token_ids == mine:
            if own.slot.position == stored.slot.position:
                return [["text", "It comes back to its own answer."]]
            verb = "It recovers" if role == "candidate" else "It follows"
            return [["text", f"{verb}: from there on it writes the {own.slot.label.role}'s answer."]]
    known, written = [[i for i in ids if i is not None] for ids in (source.answer.token_ids, mine)]
    fork = first_fork(known, written)
    if fork is None or fork < continued.given_tokens:
        return [["text", "It writes a third answer."]]
    theirs, ours = (_token(answer, fork) for answer in (source, stored))
    words = "It stays apart" if role == "candidate" else "It parts"
    name = source.slot.label.role
    return [["text", f"{words}: again at token {fork + 1}, {name} "], theirs, ["text", ", here "], ours, ["text", "."]]


def _token(stored: StoredAnswer, index: int) -> list[str]:
    tokens = stored.answer.tokens
    return ["token", tokens[index].text] if index < len(tokens) else ["text", "has ended"]
