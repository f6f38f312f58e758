"""Does an engine see? It is asked about built-in pictures, and the same questions about a blank one.

A fluent model can be blind without any warning (environment.md, "the trap"), and a comparison with it would measure
nothing. The check costs six short answers and runs before an engine counts as ready; it also pays for what the first
picture of a new process costs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from components.core.answers import Record, Sampling
from components.core.errors import RequestRefusedError
from components.core.states import Sight
from components.engines.sight_pictures import picture
from components.engines.stream import ChatRequest, TokensEvent, stream_chat
from components.engines.transport import EngineClient

Report = Callable[[str, float | None], None]

CAUSES_OF_BLINDNESS = (
    "The vision weights have Hugging Face names in a folder served with the Mistral config format: vLLM loads them "
    "without a word but skips the projector. Set prepare: mistral-vision-names in the pair's profile.",
    "The vision part was quantized, or is missing from the checkpoint.",
    "The server drops pictures: a text-only model or chat template, or max_images is 0.",
)
CAUSES_OF_DOUBT = (
    "Quantization may have damaged the model; compare with the base's sight check.",
    "The image processor's settings (size, patch, normalisation) may not be those of the weights.",
)
_MAX_TOKENS = 48
_ENOUGH_RIGHT = 2


@dataclass(frozen=True)
class _Question:
    picture: str
    text: str
    expected: tuple[str, ...]  # any of these words is right


_QUESTIONS = (
    _Question("plain", "What colour is this picture?", ("red",)),
    _Question("circle", "Which shape is in this picture?", ("circle", "disc", "disk", "round")),
    _Question("digit", "Which digit is printed in this picture?", ("7", "seven")),
)


class SightCheck(Record):
    """One question, asked about a picture and about a blank."""

    picture: str = Field(description="plain, circle or digit")
    question: str
    expected: str = Field(description="A word that the answer should hold")
    answer: str
    blank_answer: str = Field(description="The answer to the same question about a blank picture")
    right: bool = Field(description="It holds the expected word, and the answer about the blank does not")

    @property
    def follows(self) -> bool:
        """Whether the answer depends on the picture."""
        return self.answer.strip() != self.blank_answer.strip()


class SightReport(Record):
    """The verdict on an engine's sight, and what it rests on."""

    sight: Sight
    checks: tuple[SightCheck, ...] = ()
    causes: tuple[str, ...] = Field(default=(), description="Known causes, in words; empty when it sees")


async def check_sight(client: EngineClient, model: str, *, vision: bool, report: Report) -> SightReport:
    """Asks an engine about the built-in pictures.

    Args:
        model: its name, for the progress messages only.
        vision: False for a text model, which is not asked.

    Raises:
        EngineError, StreamError: the engine could not answer; that says nothing about its sight.
    """
    if not vision:
        return SightReport(sight=Sight.NONE)
    checks: list[SightCheck] = []
    total = 2 * len(_QUESTIONS)
    try:
        for number, question in enumerate(_QUESTIONS):
            report(f"Checking the sight of {model}: {2 * number + 1} of {total}", 2 * number / total)
            answer = await _ask(client, question, question.picture)
            report(f"Checking the sight of {model}: {2 * number + 2} of {total}", (2 * number + 1) / total)
            checks.append(_judge(question, answer, await _ask(client, question, "blank")))
    except RequestRefusedError as exc:
        return SightReport(sight=Sight.BLIND, checks=tuple(checks), causes=(f"It takes no pictures: {exc.message}",))
    return verdict(checks)


def verdict(checks: Sequence[SightCheck]) -> SightReport:
    """SEES with at least two right answers; BLIND when nothing shows that it saw; UNCLEAR in between.

    No right answer at all counts as blind even where the answers vary: with its projector's weights missing a model
    babbles, differently for every picture.
    """
    right = sum(check.right for check in checks)
    if right >= _ENOUGH_RIGHT:
        return SightReport(sight=Sight.SEES, checks=tuple(checks))
    if right == 0:
        return SightReport(sight=Sight.BLIND, checks=tuple(checks), causes=CAUSES_OF_BLINDNESS)
    return SightReport(sight=Sight.UNCLEAR, checks=tuple(checks), causes=CAUSES_OF_DOUBT)


def _judge(question: _Question, answer: str, blank_answer: str) -> SightCheck:
    return SightCheck(
        picture=question.picture,
        question=question.text,
        expected=question.expected[0],
        answer=answer,
        blank_answer=blank_answer,
        right=_names(answer, question.expected) and not _names(blank_answer, question.expected),
    )


def _names(answer: str, words: tuple[str, ...]) -> bool:
    return re.search(rf"\b({'|'.join(words)})\b", answer, re.IGNORECASE) is not None


async def _ask(client: EngineClient, question: _Question, name: str) -> str:
    content: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": picture(name)}},
        {"type": "text", "text": question.text},
    ]
    request = ChatRequest(
        messages=({"role": "user", "content": content},),
        sampling=Sampling(temperature=0.0, max_tokens=_MAX_TOKENS),
        logprobs=0,
    )
    async with aclosing(stream_chat(client, request)) as events:
        return "".join([event.text_delta async for event in events if isinstance(event, TokensEvent)])
