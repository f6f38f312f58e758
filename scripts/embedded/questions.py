"""Questions about a scene and their one right answer, in one fixed form per kind.

Every question kind can be asked of every scene: what does not fit gets an honest answer ("There are no bars."),
which is also what keeps a small model from guessing.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from outside import outside_question
from phrases import PHRASES, PLACE_WORDINGS, dress
from pictures import COLOURS, KINDS, PLACES, Scene, Shape

REFUSAL = "I only know shapes, numbers, words and bar charts."
NO_PICTURE = "There is no picture."
NUMBER_WORDS = ("no", "one", "two", "three", "four", "five")

# How often a kind is asked of a scene it fits. Places and "how many red" are learnt last, so they come most.
WEIGHTS: dict[str, dict[str, float]] = {
    "shapes": {
        "describe": 1.0,
        "count": 0.9,
        "colour_at": 1.4,
        "shape_at": 1.0,
        "place": 2.6,
        "colour_of": 1.0,
        "colour": 0.5,
        "how_many_colour": 2.0,
        "how_many_kind": 1.3,
        "which_shape": 0.6,
    },
    "number": {"describe": 1.0, "number": 2.5, "text": 0.5},
    "word": {"describe": 1.0, "word": 2.5, "text": 0.5},
    "bars": {"describe": 1.0, "tallest": 1.5, "shortest": 1.5, "count_bars": 1.2},
    "plain": {"describe": 1.0, "plain": 2.5},
}
KINDS_ASKED = (*PHRASES, "outside")
MISFIT, OUTSIDE = 0.12, 0.07


@dataclass(frozen=True)
class Question:
    """A question as typed, its kind, its answer, and what it is about apart from the wording."""

    kind: str
    text: str
    answer: str
    subject: tuple[str, ...] = ()


def article(noun: str) -> str:
    """The noun with "a" or "an"."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def listing(parts: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def there_are(count: int, noun: str) -> str:
    """ "There is one shape." / "There are two shapes." / "There are no shapes."."""
    return f"There is one {noun}." if count == 1 else f"There are {NUMBER_WORDS[count]} {noun}s."


def _describe(scene: Scene) -> str:
    if scene.kind == "shapes":
        parts = [f"{article(f'{shape.colour} {shape.kind}')} {PLACES[shape.cell]}" for shape in scene.shapes]
        return f"The picture shows {listing(parts)}."
    if scene.kind in ("number", "word"):
        return f"The picture shows the {scene.kind} {scene.text}."
    if scene.kind == "bars":
        colours = listing([bar.colour for bar in scene.bars])
        return f"The picture shows a bar chart with {NUMBER_WORDS[len(scene.bars)]} bars: {colours}."
    return f"The picture is plain {scene.colour}."


def _at(scene: Scene, cell: int) -> Shape | None:
    return next((shape for shape in scene.shapes if shape.cell == cell), None)


def _colour_at(scene: Scene, place: str) -> str:
    if not scene.shapes:
        return "There are no shapes."
    shape = _at(scene, PLACES.index(place))
    return f"The shape {place} is {shape.colour}." if shape else f"There is no shape {place}."


def _shape_at(scene: Scene, place: str) -> str:
    if not scene.shapes:
        return "There are no shapes."
    shape = _at(scene, PLACES.index(place))
    return f"There is {article(f'{shape.colour} {shape.kind}')} {place}." if shape else f"There is no shape {place}."


def _place(scene: Scene, colour: str, kind: str) -> str:
    places = [PLACES[shape.cell] for shape in scene.shapes if (shape.colour, shape.kind) == (colour, kind)]
    if not places:
        return f"There is no {colour} {kind}."
    if len(places) == 1:
        return f"The {colour} {kind} is {places[0]}."
    return f"The {colour} {kind}s are {listing(places)}."


def _colours(shapes: Sequence[Shape], noun: str) -> str:
    if not shapes:
        return f"There is no {noun}." if noun != "shape" else "There are no shapes."
    verb = f"The {noun} is" if len(shapes) == 1 else f"The {noun}s are"
    return f"{verb} {listing(list(dict.fromkeys(shape.colour for shape in shapes)))}."


def _which_shape(scene: Scene) -> str:
    if not scene.shapes:
        return "There are no shapes."
    verb = "The shape is" if len(scene.shapes) == 1 else "The shapes are"
    counts = Counter(shape.kind for shape in scene.shapes)
    return (
        f"{verb} {listing([article(kind) if n == 1 else f'{NUMBER_WORDS[n]} {kind}s' for kind, n in counts.items()])}."
    )


def _text(scene: Scene) -> str:
    return f"The {scene.kind} is {scene.text}." if scene.text else "There is no text."


def _extreme(scene: Scene, choose: Callable[..., object], word: str) -> str:
    if not scene.bars:
        return "There are no bars."
    height = choose(bar.height for bar in scene.bars)
    return f"The {word} bar is {next(bar.colour for bar in scene.bars if bar.height == height)}."


def answer_to(scene: Scene, kind: str, subject: tuple[str, ...] = ()) -> str:
    """The right answer to a question of this kind; `subject` holds the colour, shape or place it names."""
    simple: dict[str, Callable[[], str]] = {
        "describe": lambda: _describe(scene),
        "count": lambda: there_are(len(scene.shapes), "shape"),
        "colour": lambda: _colours(scene.shapes, "shape"),
        "which_shape": lambda: _which_shape(scene),
        "number": lambda: f"The number is {scene.text}." if scene.kind == "number" else "There is no number.",
        "word": lambda: f"The word is {scene.text}." if scene.kind == "word" else "There is no word.",
        "text": lambda: _text(scene),
        "tallest": lambda: _extreme(scene, max, "tallest"),
        "shortest": lambda: _extreme(scene, min, "shortest"),
        "count_bars": lambda: there_are(len(scene.bars), "bar"),
        "plain": lambda: f"The picture is {scene.colour}." if scene.colour else "The picture is not one plain colour.",
        "outside": lambda: REFUSAL,
    }
    named: dict[str, Callable[..., str]] = {
        "colour_at": lambda place: _colour_at(scene, place),
        "shape_at": lambda place: _shape_at(scene, place),
        "place": lambda colour, shape: _place(scene, colour, shape),
        "colour_of": lambda shape: _colours([item for item in scene.shapes if item.kind == shape], shape),
        "how_many_colour": lambda colour: there_are(
            sum(item.colour == colour for item in scene.shapes), f"{colour} shape"
        ),
        "how_many_kind": lambda shape: there_are(sum(item.kind == shape for item in scene.shapes), shape),
    }
    return named[kind](*subject) if kind in named else simple[kind]()


def _subject(scene: Scene | None, kind: str, rng: random.Random) -> tuple[str, ...]:
    """What to ask about: mostly something that is there, sometimes a near miss, sometimes anything."""
    shapes = scene.shapes if scene else ()
    shape = rng.choice(shapes) if shapes else None
    colour, form, cell = rng.choice(sorted(COLOURS)), rng.choice(KINDS), rng.randrange(9)
    luck = rng.random()
    if shape and luck < 0.78:
        colour, form, cell = shape.colour, shape.kind, shape.cell
    elif shape and luck < 0.9:
        colour, form = (shape.colour, form) if rng.random() < 0.5 else (colour, shape.kind)
    subjects: dict[str, tuple[str, ...]] = {
        "colour_at": (PLACES[cell],),
        "shape_at": (PLACES[cell],),
        "place": (colour, form),
        "colour_of": (form,),
        "how_many_colour": (colour,),
        "how_many_kind": (form,),
    }
    return subjects.get(kind, ())


def wording(kind: str, subject: tuple[str, ...], rng: random.Random) -> str:
    """One of the kind's phrasings with its subject filled in and the small changes people make."""
    fill: dict[str, str] = {}
    if kind in ("colour_at", "shape_at"):
        fill["place"] = rng.choice(PLACE_WORDINGS[PLACES.index(subject[0])])
    elif kind in ("place", "how_many_colour"):
        fill["colour"] = subject[0]
    if kind in ("place", "colour_of", "how_many_kind"):
        fill["shape"] = subject[-1]
        fill["shapes"] = f"{subject[-1]}s"
    return dress(rng.choice(PHRASES[kind]).format(**fill), rng)


def ask(scene: Scene | None, rng: random.Random, kind: str | None = None) -> Question:
    """A question about a scene, or one asked without any picture."""
    if kind is None:
        fitting = WEIGHTS[scene.kind] if scene else dict.fromkeys(PHRASES, 1.0)
        luck = rng.random()
        if luck < OUTSIDE:
            kind = "outside"
        elif luck < OUTSIDE + MISFIT:
            kind = rng.choice(list(PHRASES))
        else:
            kind = rng.choices(list(fitting), weights=list(fitting.values()))[0]
    if kind == "outside":
        return Question(kind, outside_question(rng), REFUSAL)
    subject = _subject(scene, kind, rng)
    answer = answer_to(scene, kind, subject) if scene else NO_PICTURE
    return Question(kind, wording(kind, subject, rng), answer, subject)
