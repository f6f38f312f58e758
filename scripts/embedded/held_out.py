"""The held-out pictures and questions: drawn from seeds that begin with another word than any training seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from conversations import Batch, collate, fresh_question
from model import answers_right
from phrases import SYSTEM_PROMPTS
from pictures import draw_scene, paint
from questions import Question
from tokenizer import Turn, encode, load_tokenizer

if TYPE_CHECKING:
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
    from transformers import Mistral3ForConditionalGeneration

PREFIX = "held-out"


@dataclass(frozen=True)
class Item:
    """One question to be answered; `turns` is the whole chat, the last turn carrying the expected answer."""

    kind: str
    turns: tuple[Turn, ...]
    system: str | None

    @property
    def answer(self) -> str:
        """The expected answer."""
        return self.turns[-1].answer or ""

    @property
    def follow_up(self) -> bool:
        """Whether earlier turns precede the question."""
        return len(self.turns) > 1


def held_out_item(index: int) -> Item:
    """Item `index`: a fresh picture and a question, one in five asked after other turns about the same picture."""
    rng = random.Random(f"{PREFIX}:{index}")
    scene = draw_scene(rng)
    asked: set[tuple[object, ...]] = set()
    questions: list[Question] = []
    for _ in range(rng.choice((2, 3)) if rng.random() < 0.2 else 1):
        questions.append(fresh_question(scene, rng, asked))
    pictures = (paint(scene),)
    turns = [Turn(item.text, () if number else pictures, item.answer) for number, item in enumerate(questions)]
    return Item(questions[-1].kind, tuple(turns), rng.choice(SYSTEM_PROMPTS) if rng.random() < 0.1 else None)


def held_out_batch(tokenizer: MistralTokenizer, items: Sequence[Item]) -> Batch:
    """Items as one batch whose targets are the last answers."""
    return collate([encode(tokenizer, item.turns, item.system) for item in items], last_only=True)


@torch.no_grad()
def teacher_forced(
    model: Mistral3ForConditionalGeneration, tekken: Path, count: int, first: int = 0, size: int = 64
) -> dict[str, list[bool]]:
    """Per kind, whether every token of the answer is the likeliest: as good as a greedy answer, far cheaper."""
    tokenizer = load_tokenizer(tekken, training=True)
    results: dict[str, list[bool]] = {}
    for start in range(first, first + count, size):
        items = [held_out_item(index) for index in range(start, min(start + size, first + count))]
        ids, targets, pictures = held_out_batch(tokenizer, items)
        for item, good in zip(items, answers_right(model, ids, targets, pictures), strict=True):
            results.setdefault(item.kind, []).append(good)
    return results


def shares(results: dict[str, list[bool]]) -> dict[str, float]:
    """Share of right answers per kind, and of all under "all"."""
    every = [good for values in results.values() for good in values]
    return {
        **{kind: round(sum(values) / len(values), 4) for kind, values in sorted(results.items())},
        "all": round(sum(every) / len(every), 4),
    }
