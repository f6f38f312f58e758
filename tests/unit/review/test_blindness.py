"""What leaves the server before a verdict depends on nothing but the two texts and the drawn order."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core.reviews import Assignment, Choice, Item, Question, Side, Verdict
from components.review.view_model import batch_view, desk_view, item_line, sealed
from components.storage.review_given import Given
from components.storage.reviews import Progress
from tests.data.reviews import batch, item
from tests.data.traces import MOMENT, image

TEXT = st.text(max_size=40)


def given_of(the_item: Item, a_is: Side, verdict: Verdict | None = None) -> Given:
    assignment = Assignment(
        item_id=the_item.id, reviewer="ann", round=1, a_is=a_is, locked_until=MOMENT, given_at=MOMENT
    )
    return Given(the_item, assignment, verdict)


def swapped(the_item: Item) -> Item:
    """The same item, had the two models written each other's answers, with other figures for all that is sealed."""
    assert the_item.answered is not None
    answered = the_item.answered.model_copy(
        update={
            "base_text": the_item.answered.candidate_text,
            "candidate_text": the_item.answered.base_text,
            "base_answer_id": the_item.answered.candidate_answer_id,
            "candidate_answer_id": the_item.answered.base_answer_id,
            "divergence_nats": 77.0,
            "mean_divergence_nats": 7.0,
            "floor_nats": 0.5,
            "method": "top_k",
            "base_matches": True,
            "candidate_matches": False,
            "trace_id": "another",
        }
    )
    return the_item.model_copy(
        update={"answered": answered, "candidate_engine": "other/engine", "trace_id": "another", "in_slice": True}
    )


@given(TEXT, TEXT, TEXT, st.sampled_from(["base", "candidate"]))
def test_models_that_wrote_each_others_answers_look_the_same(first: str, second: str, prompt: str, a_is: Side) -> None:
    question = Question(key="k", prompt=prompt, images=(image(),), reference="right", tags=("shapes",))
    one = item(1, base=first, candidate=second, question=question)
    other: Side = "candidate" if a_is == "base" else "base"
    before, after = given_of(one, a_is), given_of(swapped(one), other)
    assert sealed(before) == sealed(after)
    assert json.dumps(sealed(before)) == json.dumps(sealed(after)), "not even the order of the keys"
    shown = [desk_view(each, batch(), Progress(1, 1, 0, 1), [], None) for each in (before, after)]
    assert json.dumps(shown[0]) == json.dumps(shown[1])


@pytest.mark.parametrize("a_is", ["base", "candidate"])
def test_no_word_of_the_seal(a_is: Side) -> None:
    given_item = given_of(item(1, base="yes", candidate="no"), a_is)
    told = json.dumps(desk_view(given_item, batch(), Progress(1, 1, 0, 1), [], None))
    for secret in ("base", "candidate", "coarse", "embedded", "W4A16", "nats", "_ms", "trace", "token", "divergence"):
        assert secret not in told.replace("b1", ""), secret
    assert sealed(given_item)["answers"]["a"]["text"] == ("yes" if a_is == "base" else "no")


def test_the_lists_beside_the_desk_name_no_model() -> None:
    told = json.dumps([batch_view(batch(), Progress(1, 1, 0, 1)), item_line(item(1, base="yes", candidate="no"))])
    for secret in ("base", "candidate", "coarse", "yes", "no wonder"):
        assert secret not in told.replace("candidates", ""), secret


def test_the_verdict_opens_it() -> None:
    verdict = Verdict(
        id="v", item_id="b1-i1", reviewer="ann", verdict=Choice.A, a_is="candidate",
        outcome="improved", created_at=MOMENT,
    )  # fmt: skip
    opened = desk_view(given_of(item(1), "candidate", verdict), batch(), None, [], None)["item"]["unsealed"]
    assert (opened["a_is"], opened["candidate"], opened["outcome"]) == ("candidate", "embedded/coarse", "improved")


def test_sides_are_drawn_evenly() -> None:
    """The draw the queue makes, ten thousand times: neither side is favoured."""
    rng = random.Random(4)
    drawn = sum(rng.random() < 0.5 for _ in range(10_000))
    assert 4_800 < drawn < 5_200


def test_a_broken_draft_is_no_draft() -> None:
    for text in ("[1]", "{", "7"):
        given_item = given_of(item(1), "base")
        broken = replace(given_item, assignment=given_item.assignment.model_copy(update={"draft": text}))
        assert desk_view(broken, batch(), None, [], None)["item"]["draft"] is None
