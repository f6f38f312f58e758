"""The lessons of attention point at what a question is about, and at what the next word speaks of."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("cv2")
pytest.importorskip("torch")
pytest.importorskip("mistral_common")

import torch
from attention import asked_about, gaze_loss, spans_of
from conversations import ConversationBatches
from model import IMAGE_TOKEN
from pictures import Bar, Scene, Shape
from questions import Question, answer_to
from tokenizer import write_tokenizer

SCENE = Scene(
    "shapes", 112, 112, 1, shapes=(Shape("circle", "red", 0), Shape("star", "red", 4), Shape("circle", "blue", 8))
)


def question(kind: str, *subject: str) -> Question:
    return Question(kind, "", answer_to(SCENE, kind, subject), subject)


@pytest.mark.parametrize(
    ("asked", "shapes"),
    [
        (question("count"), [0, 1, 2]),
        (question("how_many_colour", "red"), [0, 1]),
        (question("how_many_kind", "circle"), [0, 2]),
        (question("place", "blue", "circle"), [2]),
        (question("place", "blue", "star"), []),
        (question("shape_at", "in the centre"), [1]),
        (question("outside"), None),
        (question("number"), None),
    ],
)
def test_what_a_question_is_about(asked: Question, shapes: list[int] | None) -> None:
    assert asked_about(SCENE, asked) == shapes


def test_spans_stand_in_the_answer_in_order() -> None:
    for asked in (question("describe"), question("place", "red", "circle"), question("colour_of", "circle")):
        place = 0
        for words, _ in spans_of(SCENE, asked):
            place = asked.answer.index(words, place) + len(words)
    assert spans_of(SCENE, question("colour_of", "circle")) == [("red", [0]), ("blue", [2])]


def test_spans_of_characters_and_bars() -> None:
    number = Scene("number", 112, 112, 1, text="733")
    asked = Question("number", "", answer_to(number, "number"))
    assert spans_of(number, asked) == [("7", [0]), ("3", [1]), ("3", [2])]
    assert spans_of(number, Question("word", "", answer_to(number, "word"))) == []
    chart = Scene("bars", 112, 112, 1, bars=(Bar("red", 0.3), Bar("blue", 0.9)))
    assert spans_of(chart, Question("tallest", "", answer_to(chart, "tallest"))) == [("blue", [1])]
    described = Question("describe", "", answer_to(chart, "describe"))
    assert spans_of(chart, described) == [("red", [0]), ("blue", [1])]


def test_lessons_of_a_batch(tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "tekken.json")
    ids, targets, *_, (asked, following) = ConversationBatches("test", 1, tmp_path / "tekken.json")[0]
    for (rows, positions, keys), weights in (asked, following):
        assert (targets[rows, positions] >= 0).all()  # only answers are taught
        assert (keys <= positions).all()  # nobody looks ahead
        assert ((ids[rows, keys] == IMAGE_TOKEN) | (keys == 0)).all()
        totals = torch.zeros(ids.shape).index_put_((rows, positions), weights, accumulate=True)
        assert torch.allclose(totals[totals > 0], torch.ones(()))
    assert (following[0][2] > 0).all()


def test_attention_as_taught_costs_nothing() -> None:
    lesson = (torch.tensor([[0, 0], [3, 3], [0, 2]]), torch.tensor([0.5, 0.5]))
    attention = torch.zeros(1, 4, 4)
    attention[0, 3, [0, 2]] = 0.5
    assert gaze_loss(attention, lesson).item() == pytest.approx(0.0, abs=1e-6)
    attention[0, 3] = 0.25
    assert gaze_loss(attention, lesson).item() == pytest.approx(0.6931, abs=1e-3)
