"""Training batches of the second phase: conversations of several turns about one picture, sometimes two.

Several turns share one pass through the vision tower, so a step carries many more questions than pictures.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attention import END_OF_QUESTION, Asked, Gaze, add_lessons
from eyes import mark_labels
from model import EOS, IMAGE_TOKEN, MERGE, PAD, PATCH, VOCABULARY
from phrases import SYSTEM_PROMPTS
from pictures import Mark, Scene, draw_scene, paint_with_marks
from questions import Question, ask
from tokenizer import Turn, encode, load_tokenizer, pieces_of
from tokens import lessons_of
from torch.utils.data import Dataset

Drawn = tuple[Scene, list[Mark]]
CHARACTERS_PER_TOKEN = 3.6
# Numbers take the most pictures to learn, so they are drawn more often than in the evaluation.
MIX = {"shapes": 38, "number": 24, "word": 16, "bars": 16, "plain": 6}
RIVALS = 1024
# Questions about shapes that are learnt last; in training a third of those about shapes is drawn from these.
HARD = {"place": 1.0, "how_many_colour": 1.0, "which_shape": 1.0, "colour": 0.7, "colour_of": 0.7, "how_many_kind": 0.4}
HARD_SHARE = 0.35
Batch = tuple[torch.Tensor, torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]


def fresh_question(
    scene: Scene | None, rng: random.Random, asked: set[tuple[object, ...]], hard_share: float = 0.0
) -> Question:
    """A question not yet asked of this picture: a repeated one could be answered by copying."""
    for _ in range(8):
        hard = hard_share and scene and scene.shapes and rng.random() < hard_share
        question = ask(scene, rng, rng.choices(list(HARD), weights=list(HARD.values()))[0] if hard else None)
        if question.kind == "outside" or (question.kind, question.subject) not in asked:
            break
    asked.add((question.kind, question.subject))
    return question


def _training_scene(rng: random.Random) -> Scene:
    return draw_scene(rng, rng.choices(list(MIX), weights=list(MIX.values()))[0])


@dataclass(frozen=True)
class Conversation:
    """A conversation, its system prompt, what its pictures show, and per turn its question and picture (or None)."""

    turns: list[Turn]
    system: str | None
    drawn: list[Drawn]
    asked: list[tuple[Question, int | None]]


def draw_conversation(rng: random.Random, budget: int) -> Conversation:
    """A conversation of about `budget` tokens."""
    scene = _training_scene(rng) if rng.random() < 0.94 else None
    pictures = [scene] if scene else []
    if scene and rng.random() < 0.04:
        pictures.insert(0, _training_scene(rng))
    turns: list[Turn] = []
    drawn: list[Drawn] = []
    questions: list[tuple[Question, int | None]] = []
    asked: set[tuple[object, ...]] = set()
    used = 20.0 * len(pictures)
    while not turns or used < budget:
        if turns and rng.random() < 0.06:
            scene = _training_scene(rng)
            pictures, asked, used = [scene], set(), used + 20
        question = fresh_question(scene, rng, asked, HARD_SHARE)
        painted = [paint_with_marks(item) for item in pictures]
        drawn.extend((item, marks) for item, (_, marks) in zip(pictures, painted, strict=True))
        questions.append((question, len(drawn) - 1 if drawn else None))
        turns.append(Turn(question.text, tuple(picture for picture, _ in painted), question.answer))
        used += 6 + (len(question.text) + len(question.answer)) / CHARACTERS_PER_TOKEN
        pictures = []
    return Conversation(turns, rng.choice(SYSTEM_PROMPTS) if rng.random() < 0.12 else None, drawn, questions)


def token_grid(pixels: np.ndarray) -> tuple[int, int]:
    """Rows and columns of image tokens of preprocessed pixels `(3, height, width)`."""
    return pixels.shape[1] // (PATCH * MERGE), pixels.shape[2] // (PATCH * MERGE)


def targets_of(ids: list[int]) -> list[int]:
    """The next token at every position inside an answer (its end included), -100 elsewhere."""
    targets, inside = [], False
    for current, following in zip(ids, [*ids[1:], EOS], strict=True):
        inside = current == END_OF_QUESTION or (inside and current != EOS)
        targets.append(following if inside else -100)
    return targets


def collate(rows: list[tuple[list[int], list[np.ndarray]]], last_only: bool = False) -> Batch:
    """Pad to one length, and group the pictures by size with the flat positions of their image tokens.

    With `last_only` the last answer of each conversation is the only target.
    """
    length = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), length), PAD)
    targets = torch.full((len(rows), length), -100)
    groups: dict[tuple[int, ...], tuple[list[np.ndarray], list[list[int]]]] = {}
    for number, (row, pictures) in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        targets[number, : len(row)] = torch.tensor(targets_of(row))
        if last_only:
            targets[number, : len(row) - 1 - row[::-1].index(END_OF_QUESTION)] = -100
        places = iter([number * length + place for place, token in enumerate(row) if token == IMAGE_TOKEN])
        for pixels in pictures:
            rows_of_tokens, columns = token_grid(pixels)
            tokens = rows_of_tokens * columns
            images, positions = groups.setdefault(pixels.shape, ([], []))
            images.append(pixels)
            positions.append([next(places) for _ in range(tokens)])
    pictures_by_size = [
        (torch.from_numpy(np.stack(images)), torch.tensor(positions))
        for _, (images, positions) in sorted(groups.items())
    ]
    return ids, targets, pictures_by_size


def lessons_by_size(
    rows: list[tuple[list[int], list[np.ndarray]]], drawn: list[list[Drawn]]
) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Per picture size, in `collate`'s order: marks per patch, positions of image tokens, what those should tell."""
    groups: dict[tuple[int, ...], tuple[list[list[int]], list[int], list[list[int]]]] = {}
    for (_, pictures), shown in zip(rows, drawn, strict=True):
        for pixels, (scene, found) in zip(pictures, shown, strict=True):
            grid = token_grid(pixels)
            marks, places, labels = groups.setdefault(pixels.shape, ([], [], []))
            for token, values in lessons_of(scene, found, grid):
                places.append(len(marks) * grid[0] * grid[1] + token)
                labels.append(values)
            marks.append(mark_labels(found, grid))
    return [tuple(torch.tensor(part) for part in group) for _, group in sorted(groups.items())]


def turns_to_teach(ids: list[int], pictures: list[np.ndarray], conversation: Conversation) -> list[Asked | None]:
    """Per turn, its question and where the image tokens of its picture are."""
    image_tokens = [place for place, token in enumerate(ids) if token == IMAGE_TOKEN]
    grids = [token_grid(pixels) for pixels in pictures]
    firsts, used = [], 0
    for rows, columns in grids:
        firsts.append(image_tokens[used])
        used += rows * columns
    return [
        None if number is None else Asked(question, *conversation.drawn[number], grids[number], firsts[number])
        for question, number in conversation.asked
    ]


class ConversationBatches(Dataset):
    """Batch `step` of the joint phases. The same prefix and step give the same batch."""

    def __init__(self, prefix: str, steps: int, tekken: Path, batch: int = 20, budget: int = 85) -> None:
        self.prefix, self.steps, self.batch, self.budget = prefix, steps, batch, budget
        self.tokenizer = load_tokenizer(tekken, training=True)
        self.pieces = pieces_of(self.tokenizer)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> tuple[Any, ...]:
        # One step in twelve has a few long conversations, so that a chat of twenty turns is nothing new.
        long = random.Random(f"{self.prefix}:shape:{step}").random() < 1 / 12
        count, budget = (self.batch // 4, self.budget * 4) if long else (self.batch, self.budget)
        rows, drawn, asked, following = [], [], Gaze(), Gaze()
        for index in range(count):
            rng = random.Random(f"{self.prefix}:joint:{step}:{index}")
            conversation = draw_conversation(rng, budget)
            ids, pictures = encode(self.tokenizer, conversation.turns, conversation.system)
            rows.append((ids, pictures))
            drawn.append(conversation.drawn)
            taught = turns_to_teach(ids, pictures, conversation)
            add_lessons(index, ids, [self.pieces[token] for token in ids], taught, asked, following)
        rivals = random.Random(f"{self.prefix}:rivals:{step}").sample(range(VOCABULARY), RIVALS)
        lessons = lessons_by_size(rows, drawn)
        return *collate(rows), torch.tensor(rivals), lessons, (asked.tensors(), following.tensors())
