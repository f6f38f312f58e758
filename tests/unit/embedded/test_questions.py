"""Every question has one right answer, also where it does not fit the picture."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("cv2")

from outside import PLAIN_QUESTIONS, outside_question
from phrases import PHRASES, PLACE_WORDINGS
from pictures import PLACES, Bar, Scene, Shape, draw_scene
from questions import KINDS_ASKED, NO_PICTURE, REFUSAL, answer_to, ask, listing, there_are

SHAPES = Scene(
    "shapes",
    112,
    112,
    0,
    shapes=(Shape("circle", "red", 0), Shape("star", "orange", 4), Shape("circle", "blue", 8)),
)
BARS = Scene("bars", 112, 112, 0, bars=(Bar("red", 0.5), Bar("blue", 0.9), Bar("green", 0.2)))
NUMBER = Scene("number", 112, 112, 0, text="472")
WORD = Scene("word", 112, 112, 0, text="TREE")
PLAIN = Scene("plain", 112, 112, 0, colour="red")


@pytest.mark.parametrize(
    ("scene", "kind", "subject", "answer"),
    [
        (SHAPES, "count", (), "There are three shapes."),
        (SHAPES, "colour_at", ("at the top left",), "The shape at the top left is red."),
        (SHAPES, "colour_at", ("at the left",), "There is no shape at the left."),
        (SHAPES, "shape_at", ("in the centre",), "There is an orange star in the centre."),
        (SHAPES, "place", ("blue", "circle"), "The blue circle is at the bottom right."),
        (SHAPES, "place", ("green", "circle"), "There is no green circle."),
        (SHAPES, "colour_of", ("star",), "The star is orange."),
        (SHAPES, "colour_of", ("circle",), "The circles are red and blue."),
        (SHAPES, "colour_of", ("square",), "There is no square."),
        (SHAPES, "how_many_colour", ("red",), "There is one red shape."),
        (SHAPES, "how_many_colour", ("green",), "There are no green shapes."),
        (SHAPES, "how_many_kind", ("circle",), "There are two circles."),
        (SHAPES, "which_shape", (), "The shapes are two circles and a star."),
        (SHAPES, "number", (), "There is no number."),
        (SHAPES, "tallest", (), "There are no bars."),
        (SHAPES, "plain", (), "The picture is not one plain colour."),
        (
            SHAPES,
            "describe",
            (),
            "The picture shows a red circle at the top left, an orange star in the centre and a blue circle at the"
            " bottom right.",
        ),
        (BARS, "tallest", (), "The tallest bar is blue."),
        (BARS, "shortest", (), "The shortest bar is green."),
        (BARS, "count_bars", (), "There are three bars."),
        (BARS, "describe", (), "The picture shows a bar chart with three bars: red, blue and green."),
        (BARS, "place", ("red", "star"), "There is no red star."),
        (BARS, "colour_at", ("at the top",), "There are no shapes."),
        (NUMBER, "number", (), "The number is 472."),
        (NUMBER, "text", (), "The number is 472."),
        (NUMBER, "word", (), "There is no word."),
        (WORD, "word", (), "The word is TREE."),
        (WORD, "describe", (), "The picture shows the word TREE."),
        (PLAIN, "plain", (), "The picture is red."),
        (PLAIN, "which_shape", (), "There are no shapes."),
        (PLAIN, "outside", (), REFUSAL),
    ],
)
def test_answers(scene: Scene, kind: str, subject: tuple[str, ...], answer: str) -> None:
    assert answer_to(scene, kind, subject) == answer


def test_every_kind_of_question_can_be_asked_of_every_scene() -> None:
    rng = random.Random(3)
    for scene in (SHAPES, BARS, NUMBER, WORD, PLAIN):
        for kind in KINDS_ASKED:
            question = ask(scene, rng, kind)
            assert question.kind == kind
            assert question.answer.endswith(".")
            assert "{" not in question.text


def test_without_a_picture_only_the_refusal_stays() -> None:
    rng = random.Random(4)
    answers = {ask(None, rng).answer for _ in range(200)}
    assert answers == {NO_PICTURE, REFUSAL}


def test_each_kind_has_several_wordings() -> None:
    assert all(len(wordings) >= 4 for wordings in PHRASES.values())
    assert len(PLACE_WORDINGS) == len(PLACES)


def test_outside_questions_vary() -> None:
    rng = random.Random(5)
    assert len(PLAIN_QUESTIONS) > 200
    assert all(text.strip() for text in PLAIN_QUESTIONS)
    assert len({outside_question(rng) for _ in range(500)}) > 300


def test_small_words() -> None:
    assert listing(["a"]) == "a"
    assert listing(["a", "b", "c"]) == "a, b and c"
    assert there_are(1, "bar") == "There is one bar."


def test_questions_are_seeded() -> None:
    first, second = (ask(draw_scene(random.Random(6)), random.Random(7)) for _ in range(2))
    assert first == second
