"""Where the language model should look while it answers: lessons for two attention heads.

Learnt from answers alone, "find what the question names" is a plateau: after 2,000 steps the model described four
shapes in order but could not say where the red one is. So one head is shown, during all of an answer, what the question
is about (nothing in the picture: the beginning of the text, which so becomes the measure for counting), and a later one
the shape, character or bar that the next word speaks of. Both are ordinary heads: nothing of this is left in the served
model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from model import EOS, HIDDEN
from pictures import PLACES, Mark, Scene
from questions import Question, article
from tokens import token_of
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from transformers import Mistral3ForConditionalGeneration

END_OF_QUESTION = 4  # [/INST]
ASKED_LAYER, NEXT_LAYER, HEAD = 2, 3, 0
MOST_SHAPES = 4
FLOOR = 1e-9
Span = tuple[str, list[int]]  # words of an answer, and the shapes they speak of


def asked_about(scene: Scene, question: Question) -> list[int] | None:
    """Which shapes a question is about; None where looking at shapes is not what it takes."""
    wanted = dict(zip(_SUBJECTS.get(question.kind, ()), question.subject, strict=True))
    if question.kind not in _SUBJECTS or (question.kind == "describe" and not scene.shapes):
        return None
    return [
        number
        for number, shape in enumerate(scene.shapes)
        if wanted.get("colour", shape.colour) == shape.colour
        and wanted.get("kind", shape.kind) == shape.kind
        and wanted.get("place", PLACES[shape.cell]) == PLACES[shape.cell]
    ]


_SUBJECTS: dict[str, tuple[str, ...]] = {
    "describe": (),
    "count": (),
    "colour": (),
    "which_shape": (),
    "colour_at": ("place",),
    "shape_at": ("place",),
    "place": ("colour", "kind"),
    "colour_of": ("kind",),
    "how_many_colour": ("colour",),
    "how_many_kind": ("kind",),
}


def spans_of(scene: Scene, question: Question) -> list[Span]:
    """The parts of the answer, in order, each with the shapes, characters or bars it speaks of."""
    if not scene.shapes:
        return _spans_of_text(scene, question) if scene.text else _spans_of_bars(scene, question)
    asked = asked_about(scene, question) or []
    shapes = scene.shapes
    if question.kind == "describe":
        return [(f"{article(f'{shapes[n].colour} {shapes[n].kind}')} {PLACES[shapes[n].cell]}", [n]) for n in asked]
    if question.kind == "place":
        return [(PLACES[shapes[n].cell], [n]) for n in asked]
    if question.kind == "shape_at":
        return [(article(f"{shapes[n].colour} {shapes[n].kind}"), [n]) for n in asked]
    if question.kind in ("colour", "colour_of", "colour_at"):
        colours = dict.fromkeys(shapes[n].colour for n in asked)
        return [(colour, [n for n in asked if shapes[n].colour == colour]) for colour in colours]
    if question.kind == "which_shape":
        kinds = dict.fromkeys(shapes[n].kind for n in asked)
        return [(kind, [n for n in asked if shapes[n].kind == kind]) for kind in kinds]
    return []


def _spans_of_text(scene: Scene, question: Question) -> list[Span]:
    if scene.text not in question.answer:
        return []
    return [(character, [n]) for n, character in enumerate(scene.text)]


def _spans_of_bars(scene: Scene, question: Question) -> list[Span]:
    if question.kind not in ("describe", "tallest", "shortest") or not scene.bars:
        return []
    named = [(question.answer.find(f" {bar.colour}"), bar.colour, n) for n, bar in enumerate(scene.bars)]
    return [(colour, [n]) for place, colour, n in sorted(named) if place >= 0]


@dataclass
class Gaze:
    """Sparse attention targets of a batch: for a position, keys (both within their row) and their weights."""

    rows: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def add(self, row: int, position: int, keys: Sequence[int]) -> None:
        """From this position, look at these keys in equal parts."""
        for key in keys:
            self.rows.append(row)
            self.positions.append(position)
            self.keys.append(key)
            self.weights.append(1 / len(keys))

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Indices `(3, entries)` and weights `(entries,)`."""
        return torch.tensor([self.rows, self.positions, self.keys]), torch.tensor(self.weights)


@dataclass(frozen=True)
class Asked:
    """One turn of a conversation: its question, and what it is about (with the first image token's position)."""

    question: Question
    scene: Scene
    marks: list[Mark]
    grid: tuple[int, int]
    first_token: int


def add_lessons(
    row: int, ids: list[int], pieces: list[str], turns: Sequence[Asked | None], gazes: Gaze, nexts: Gaze
) -> None:
    """The lessons of one conversation; `pieces` are the texts of its tokens, and None a turn that teaches nothing."""
    starts = [place for place, token in enumerate(ids) if token == END_OF_QUESTION]
    for start, turn in zip(starts, turns, strict=True):
        if turn is None:
            continue
        asked = asked_about(turn.scene, turn.question)
        tokens = [turn.first_token + _steps_to(token_of(mark, turn.grid), turn.grid[1]) for mark in turn.marks]
        end = ids.index(EOS, start)
        for position in range(start, end) if asked is not None else ():
            gazes.add(row, position, [0, *(tokens[n] for n in asked)])
        for position, shapes in _spoken_of(turn, start, pieces[start + 1 : end]):
            nexts.add(row, position, [tokens[n] for n in shapes])


def _steps_to(token: int, columns: int) -> int:
    """How far image token number `token` lies behind the first: every row of them ends with a break."""
    return token + token // columns


def _spoken_of(turn: Asked, start: int, pieces: list[str]) -> Iterator[tuple[int, list[int]]]:
    """Positions whose next token lies in spans, with what these speak of."""
    answer, place, bounds = "".join(pieces), 0, []
    if turn.scene.text and turn.scene.text in answer:
        place = answer.rindex(turn.scene.text)  # a short word's letters stand elsewhere in the answer too
    for words, shapes in spans_of(turn.scene, turn.question):
        begin = answer.index(words, place)
        place = begin + len(words)
        bounds.append((begin, place, shapes))
    reached = 0
    for number, piece in enumerate(pieces):
        first, reached = reached, reached + len(piece)
        shapes = [shape for begin, end, found in bounds if begin < reached and end > first for shape in found]
        if shapes:
            yield start + number, shapes


@contextmanager
def watched(model: Mistral3ForConditionalGeneration, seen: dict[int, torch.Tensor]) -> Iterator[None]:
    """Keep the attention `(rows, positions, keys)` of the taught heads in `seen`; needs eager attention.

    Under -1 it keeps the hidden states `(rows, positions, hidden)` behind the first of the two layers.
    """
    layers = model.model.language_model.layers

    def keep_states(_module: object, _inputs: object, output: torch.Tensor) -> None:
        seen[-1] = output

    hooks = [layers[ASKED_LAYER].register_forward_hook(keep_states)]
    for layer in (ASKED_LAYER, NEXT_LAYER):

        def keep(_module: object, _inputs: object, output: tuple[torch.Tensor, ...], layer: int = layer) -> None:
            seen[layer] = output[1][:, HEAD]

        hooks.append(layers[layer].self_attn.register_forward_hook(keep))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def gaze_loss(attention: torch.Tensor, lesson: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Mean over the taught positions of the divergence (nats) of a head's attention from its lesson."""
    (rows, positions, keys), weights = lesson
    if not len(weights):
        return attention.new_zeros((), dtype=torch.float32)
    found = attention[rows, positions, keys].float().clamp_min(FLOOR)
    # Each position's weights add up to one, so their sum counts positions.
    return (weights * (weights.log() - found.log())).sum() / weights.sum()


class CountHead(nn.Module):
    """Reads from the hidden states behind the first taught head how many shapes the question is about.

    Singular or plural, "is" or "are", one or two: most of what was still wrong hung on that number being known early.
    """

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.Sequential(nn.RMSNorm(HIDDEN), nn.Linear(HIDDEN, MOST_SHAPES + 1))

    def loss(self, states: torch.Tensor, lesson: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, float]:
        """Mean cross-entropy over the taught positions of `(rows, positions, hidden)`, and the share read right."""
        (rows, positions, _), weights = lesson
        if not len(weights):
            return states.new_zeros(()), 1.0
        places, keys = torch.unique(rows * states.shape[1] + positions, return_counts=True)
        goal = (keys - 1).clamp_max(MOST_SHAPES)  # one key is the beginning of the text
        logits = self.heads(states.flatten(0, 1)[places])
        return functional.cross_entropy(logits, goal), (logits.argmax(-1) == goal).float().mean().item()
