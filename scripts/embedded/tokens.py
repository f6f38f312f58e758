"""The lesson that ties the two phases together: what an image token should tell the language model by itself.

The tower's rotary positions are relative, so nothing forces an image token to know *where* it lies, nor a digit to know
the rest of its number; the language model would have to work that out and sits on a plateau meanwhile. Here every image
token that holds something is taught, by a linear classifier on what the language model reads, all that can be asked
about it. It is used in training only.
"""

from __future__ import annotations

import torch
from eyes import MARK_IDS, MARKS, PLAIN_IDS
from model import HIDDEN
from pictures import SCENE_KINDS, WORDS, Mark, Scene
from torch import nn
from torch.nn import functional

TOKEN_LABELS: tuple[tuple[str, int], ...] = (
    ("mark", len(MARKS)),
    ("scene", len(SCENE_KINDS)),
    ("cell", 9),
    ("shapes", 5),
    ("digit0", 11),
    ("digit1", 11),
    ("digit2", 11),
    ("word", len(WORDS)),
    ("bars", 6),
    ("tallest", 2),
    ("shortest", 2),
    ("plain", len(PLAIN_IDS)),
)
OUTPUTS = sum(classes for _, classes in TOKEN_LABELS)
Lesson = tuple[int, list[int]]  # index of the image token, classes in the order of TOKEN_LABELS


def token_of(mark: Mark, grid: tuple[int, int]) -> int:
    """The image token, of a grid `(rows, columns)`, in which a mark lies."""
    row, column = min(grid[0] - 1, int(mark.y * grid[0])), min(grid[1] - 1, int(mark.x * grid[1]))
    return row * grid[1] + column


def lessons_of(scene: Scene, marks: list[Mark], grid: tuple[int, int]) -> list[Lesson]:
    """What the image tokens of a picture with the token grid `(rows, columns)` should tell."""
    common = dict.fromkeys((name for name, _ in TOKEN_LABELS), -100) | {"scene": SCENE_KINDS.index(scene.kind)}
    if scene.kind == "plain":
        values = common | {"plain": PLAIN_IDS[scene.colour]}
        return [(token, list(values.values())) for token in (0, grid[0] * grid[1] - 1)]
    lessons = []
    for place, mark in enumerate(marks):
        values = common | {"mark": MARK_IDS[mark.name]} | _about(scene, place)
        lessons.append((token_of(mark, grid), list(values.values())))
    return lessons


def _about(scene: Scene, place: int) -> dict[str, int]:
    """What is asked about the shape, character or bar number `place`, besides what it is."""
    if scene.kind == "shapes":
        return {"cell": scene.shapes[place].cell, "shapes": len(scene.shapes)}
    if scene.kind == "number":
        return {f"digit{at}": 10 if digit == " " else int(digit) for at, digit in enumerate(scene.text.rjust(3))}
    if scene.kind == "word":
        return {"word": WORDS.index(scene.text)}
    heights = [bar.height for bar in scene.bars]
    mine = heights[place]
    return {"bars": len(heights), "tallest": int(mine == max(heights)), "shortest": int(mine == min(heights))}


class TokensHead(nn.Module):
    """A linear classifier of single image tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.Sequential(nn.RMSNorm(HIDDEN), nn.Linear(HIDDEN, OUTPUTS))

    def loss(self, tokens: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, float]:
        """Summed classification loss of `(tokens, hidden)`, and the share of all labels read right."""
        logits, loss, start, right, asked = self.heads(tokens), tokens.new_zeros(()), 0, 0, 0
        for column, (_, classes) in enumerate(TOKEN_LABELS):
            part, goal = logits[:, start : start + classes], labels[:, column]
            start += classes
            known = goal >= 0
            if bool(known.any()):
                loss = loss + functional.cross_entropy(part[known], goal[known])
                right += int((part[known].argmax(-1) == goal[known]).sum())
                asked += int(known.sum())
        return loss, right / max(1, asked)
