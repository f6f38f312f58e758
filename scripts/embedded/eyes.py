"""The first training phase: what a picture shows, as class labels, without any language.

Without it the joint training sits on a plateau for an hour with numbers at 0 %: the language model has nothing to
read, so the vision tower gets no useful gradient.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from mistral_common.protocol.instruct.chunk import ImageChunk
from mistral_common.tokens.tokenizers.image import ImageConfig, ImageEncoder, SpecialImageIDs
from model import IMAGE_BREAK, IMAGE_END, IMAGE_TOKEN, MAX_IMAGE_SIZE, MERGE, PATCH, EyesHead, look, project
from pictures import COLOURS, KINDS, PLAIN_COLOURS, SCENE_KINDS, WORDS, Mark, Scene, draw_scene, paint_with_marks
from torch.nn import functional
from torch.utils.data import Dataset

GRIDS = ((4, 4), (3, 4), (4, 3))
BATCH = 32
# The tower has most to learn about letters and digits, so they come more often than in the questions.
MIX = {"shapes": 34, "number": 26, "word": 20, "bars": 15, "plain": 5}
COLOUR_IDS = {name: number for number, name in enumerate(COLOURS, 1)}
KIND_IDS = {name: number for number, name in enumerate(KINDS, 1)}
PLAIN_IDS = {name: number for number, name in enumerate(PLAIN_COLOURS)}
# (name, classes) of every label; -100 means that the label says nothing about this picture.
LABELS: tuple[tuple[str, int], ...] = (
    ("scene", len(SCENE_KINDS)),
    *((f"kind{cell}", 5) for cell in range(9)),
    *((f"colour{cell}", 7) for cell in range(9)),
    *((f"digit{place}", 11) for place in range(3)),
    ("word", len(WORDS)),
    *((f"bar{place}", 7) for place in range(5)),
    ("tallest", 7),
    ("shortest", 7),
    ("plain", len(PLAIN_COLOURS)),
)
MARKS = ("", *(f"{c} {k}" for c in COLOURS for k in (*KINDS, "bar")), *"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")
MARK_IDS = {name: number for number, name in enumerate(MARKS)}
Group = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
OUTPUTS = sum(classes for _, classes in LABELS)


def image_encoder() -> ImageEncoder:
    """mistral-common's image transform with the embedded model's limits: what a served model sees."""
    return ImageEncoder(ImageConfig(PATCH, MAX_IMAGE_SIZE, MERGE), SpecialImageIDs(IMAGE_TOKEN, IMAGE_BREAK, IMAGE_END))


def labels_of(scene: Scene) -> list[int]:
    """The class of every entry of LABELS."""
    values = dict.fromkeys((name for name, _ in LABELS), -100)
    values["scene"] = SCENE_KINDS.index(scene.kind)
    if scene.kind == "shapes":
        for cell in range(9):
            values[f"kind{cell}"] = values[f"colour{cell}"] = 0
        for shape in scene.shapes:
            values[f"kind{shape.cell}"] = KIND_IDS[shape.kind]
            values[f"colour{shape.cell}"] = COLOUR_IDS[shape.colour]
    elif scene.kind == "number":
        for place, digit in enumerate(scene.text.rjust(3)):
            values[f"digit{place}"] = 10 if digit == " " else int(digit)
    elif scene.kind == "word":
        values["word"] = WORDS.index(scene.text)
    elif scene.kind == "bars":
        for place in range(5):
            values[f"bar{place}"] = COLOUR_IDS[scene.bars[place].colour] if place < len(scene.bars) else 0
        by_height = sorted(scene.bars, key=lambda bar: bar.height)
        values["shortest"], values["tallest"] = COLOUR_IDS[by_height[0].colour], COLOUR_IDS[by_height[-1].colour]
    else:
        values["plain"] = PLAIN_IDS[scene.colour]
    return list(values.values())


def mark_labels(marks: list[Mark], grid: tuple[int, int]) -> list[int]:
    """For every patch of a token grid, the mark whose middle lies in it, or 0."""
    rows, columns = grid[0] * MERGE, grid[1] * MERGE
    labels = [0] * (rows * columns)
    for mark in marks:
        row, column = min(rows - 1, int(mark.y * rows)), min(columns - 1, int(mark.x * columns))
        labels[row * columns + column] = MARK_IDS[mark.name]
    return labels


class EyesBatches(Dataset):
    """Batch `step` of the eyes phase: per token grid its pixels, labels and marks. Repeatable."""

    def __init__(self, prefix: str, steps: int, batch: int = BATCH) -> None:
        self.prefix, self.steps, self.batch = prefix, steps, batch
        self.encode = image_encoder()

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> dict[tuple[int, int], Group]:
        groups: dict[tuple[int, int], list[tuple[np.ndarray, list[int], list[int]]]] = {}
        for index in range(self.batch):
            rng = random.Random(f"{self.prefix}:eyes:{step}:{index}")
            scene = draw_scene(rng, rng.choices(list(MIX), weights=list(MIX.values()))[0])
            picture, marks = paint_with_marks(scene)
            pixels = self.encode(ImageChunk(image=picture)).image
            grid = (pixels.shape[1] // (PATCH * MERGE), pixels.shape[2] // (PATCH * MERGE))
            groups.setdefault(grid, []).append((pixels, labels_of(scene), mark_labels(marks, grid)))
        return {
            grid: (
                torch.from_numpy(np.stack([pixels for pixels, _, _ in items])),
                torch.tensor([row for _, row, _ in items]),
                torch.tensor([row for _, _, row in items]),
            )
            for grid, items in sorted(groups.items())
        }


def eyes_loss(
    model: torch.nn.Module, head: EyesHead, batch: dict[tuple[int, int], Group]
) -> tuple[torch.Tensor, dict[str, list[bool]]]:
    """The summed classification losses and, per scene kind, whether each picture was read without a mistake."""
    seen = {grid: look(model, pixels) for grid, (pixels, _, _) in batch.items()}
    logits = torch.cat([head(project(model, patches), grid) for grid, patches in seen.items()])
    labels = torch.cat([rows for _, rows, _ in batch.values()])
    loss, scores = _label_loss(logits, labels)
    dense, right = mark_loss(head, list(seen.values()), [marks for _, _, marks in batch.values()])
    scores["marks"] = right
    return loss + 2 * dense, scores


def mark_loss(head: EyesHead, seen: list[torch.Tensor], marks: list[torch.Tensor]) -> tuple[torch.Tensor, list[bool]]:
    """The dense lesson: what has its middle in each patch; and for every mark whether it was recognised."""
    logits = torch.cat([head.mark_logits(patches).flatten(0, 1) for patches in seen])
    goal = torch.cat([rows.flatten() for rows in marks])
    # Nineteen patches in twenty hold no mark: they count for as much as the others together.
    empty = goal == 0
    loss = functional.cross_entropy(logits[empty], goal[empty])
    if not bool(empty.all()):
        loss = loss + functional.cross_entropy(logits[~empty], goal[~empty])
    return loss, (logits[~empty].argmax(-1) == goal[~empty]).tolist()


def _label_loss(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, dict[str, list[bool]]]:
    loss, start = logits.new_zeros(()), 0
    right = torch.ones(len(labels), dtype=torch.bool)
    for column, (_, classes) in enumerate(LABELS):
        part, goal = logits[:, start : start + classes], labels[:, column]
        start += classes
        if bool((goal >= 0).any()):
            loss = loss + functional.cross_entropy(part, goal, ignore_index=-100, reduction="sum") / len(labels)
        right &= (part.argmax(-1) == goal) | (goal < 0)
    scores: dict[str, list[bool]] = {}
    for row, good in zip(labels[:, 0].tolist(), right.tolist(), strict=True):
        scores.setdefault(SCENE_KINDS[row], []).append(good)
    return loss, scores
