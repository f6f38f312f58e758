"""How an answer is judged: written from the metrics' definitions (quantize_bench.md 10.2), each from 0 to 1. Pure.

``references`` are the accepted answers of one item. Chart and document metrics follow the definitions that the model
cards' harness publishes; thresholds that differ from a benchmark's official ones are named where they stand.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence

Metric = Callable[[str, Sequence[str]], float]
_QUOTES = ('"', "'")
_ENOUGH_VOTES = 3
_TOLERANCE = 0.05  # relaxed accuracy: 5 % of the reference (Masry et al. 2022, ChartQA)
_SMALLEST = 1e-10
_EXPLICIT = re.compile(r"([aA]nswer)\**:\**")
_DECORATION = str.maketrans("", "", "*_[]()")


def exact_match(answer: str, references: Sequence[str]) -> float:
    """1 where the answer is one of the references to the letter, but for white space around it."""
    return float(answer.strip() in {reference.strip() for reference in references})


def vqa_match(answer: str, references: Sequence[str]) -> float:
    """Share of three people who gave this answer: min(1, k / 3), case and punctuation count.

    Source:
        Antol et al. 2015, VQA, without its ten-fold averaging and normalisation.
    """
    given = _without_quotes(answer)
    votes = sum(_without_quotes(reference) == given for reference in references)
    return min(1.0, votes / _ENOUGH_VOTES)


def anls(answer: str, references: Sequence[str]) -> float:
    """Normalised Levenshtein similarity to the nearest reference, with threshold 0.0 (the official one is 0.5).

    Source:
        Biten et al. 2019, ST-VQA.
    """
    given = _flat(answer)
    return max((_similarity(given, _flat(reference)) for reference in references), default=0.0)


def relaxed(answer: str, references: Sequence[str]) -> float:
    """Relaxed correctness: numbers within 5 %, one letter by its first character, text without case."""
    return max((_relaxed(_relaxed_text(answer), _relaxed_text(reference)) for reference in references), default=0.0)


def explicit_prompt_relaxed(answer: str, references: Sequence[str]) -> float:
    """``relaxed`` of what stands after the last "answer:"; 0 where there is none."""
    found = _after_answer(answer)
    return relaxed(found, references) if found else 0.0


def anywhere_relaxed(answer: str, references: Sequence[str]) -> float:
    """``relaxed`` after the last "answer:"; without one, 1 where a reference occurs anywhere in the answer."""
    found = _after_answer(answer)
    if found:
        return relaxed(found, references)
    return max((_occurs(answer, reference) for reference in references), default=0.0)


METRICS: dict[str, Metric] = {
    "exact_match": exact_match,
    "vqa_match": vqa_match,
    "anls": anls,
    "relaxed_correctness": relaxed,
    "explicit_prompt_relaxed_correctness": explicit_prompt_relaxed,
    "anywhere_in_answer_relaxed_correctness": anywhere_relaxed,
}


def _without_quotes(text: str) -> str:
    if len(text) > 1 and text[0] in _QUOTES and text[0] == text[-1]:
        return text[1:-1]
    return text


def _without_end(text: str) -> str:
    while text and text[-1] != "%" and (text[-1] in string.punctuation or text[-1].isspace()):
        text = text[:-1]
    return text


def _flat(text: str) -> str:
    return _without_end(" ".join(text.strip().lower().split()))


def _similarity(one: str, other: str) -> float:
    longest = max(len(one), len(other))
    return 1.0 - _levenshtein(one, other) / longest if longest else 1.0


def _levenshtein(one: str, other: str) -> int:
    before = list(range(len(other) + 1))
    for row, left in enumerate(one, 1):
        now = [row]
        for column, right in enumerate(other, 1):
            now.append(min(before[column] + 1, now[-1] + 1, before[column - 1] + (left != right)))
        before = now
    return before[-1]


def _relaxed_text(text: str) -> str:
    if not any(char.isdigit() for char in text):
        return _without_quotes(text)
    return _without_end(text).replace(",", "").replace("$", "")


def _number(text: str) -> tuple[float, bool] | None:
    """The number, and whether a percent sign follows it."""
    text = text.strip()
    try:
        return float(text.rstrip("%")), text.endswith("%")
    except ValueError:
        return None


def _close(prediction: float, target: float) -> bool:
    return abs(prediction - target) / max(abs(target), _SMALLEST) <= _TOLERANCE


def _relaxed(prediction: str, target: str) -> float:
    one, other = _number(prediction), _number(target)
    if one is not None and other is not None:
        (p, p_percent), (t, t_percent) = one, other
        fits = _close(p, t) or (p_percent and _close(p / 100, t)) or (t_percent and _close(p, t / 100))
        return float(fits)
    if len(target) == 1 and target.isalpha() and prediction:
        return float(prediction[0].lower() == target.lower())
    return float(prediction.lower() == target.lower())


def _after_answer(text: str) -> str:
    text = _EXPLICIT.sub(r"\1:", text)
    place = text.lower().rfind("answer:")
    if place < 0:
        return ""
    lines = (line.strip() for line in text[place + len("answer:") :].splitlines())
    return next((line for line in lines if line), "").translate(_DECORATION).strip()


def _occurs(answer: str, reference: str) -> float:
    try:
        number = float(reference)
    except ValueError:
        word = reference.lower()
        patterns = (f"is {word}", f"was {word}", f" {word}.", f"are {word}", f"\n\n{word}")
        return float(any(pattern in answer for pattern in patterns))
    whole = int(number) if number.is_integer() else number
    return float(format(whole, ",") in answer or str(whole) in answer)
