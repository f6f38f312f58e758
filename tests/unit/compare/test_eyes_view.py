"""What the page and scripts get of picture reliance."""

from __future__ import annotations

import json
from typing import Any

import pytest

from components.compare.eyes_view import divergence_share, eyes_page, reliance_markdown, reliance_to_dict
from components.core.errors import InputError
from components.core.reliance import ChangedPicture, Choice, Reliance, RelianceFloor, SideReliance, TokenReliance
from components.core.scores import NoiseFloor, Score, TokenScore
from tests.data.traces import MOMENT


def side(nats: float, *, other: bool = False) -> SideReliance:
    likeliest = Choice(token_id=1, text="red", logprob=-0.5)
    return SideReliance(
        logprob=-0.5, logprob_changed=-0.5 - nats, kl_picture_to_changed_nats=0.1, choice=likeliest,
        choice_changed=Choice(token_id=2, text="blue", logprob=-1.0) if other else likeliest,
    )  # fmt: skip


def reliance(**changes: Any) -> Reliance:
    blurred = ChangedPicture(original_sha256="b" * 64, original_name="x.png", shown_sha256="c" * 64, words="blurred")
    values: dict[str, Any] = {
        "id": "r1", "trace_id": "t1", "answer_id": "a1", "path": "base", "base_engine": "e/base",
        "candidate_engine": "e/w4", "picture": "blurred", "precision": "float64", "created_at": MOMENT, "seconds": 0.5,
        "pictures": (blurred,),
        "floor": RelianceFloor(base_nats=0.01, candidate_nats=0.01, change_nats=0.02, batch_tokens=(9, 12)),
        "tokens": (
            TokenReliance(token_id=7, text="The", base=side(0.0), candidate=side(0.001)),
            TokenReliance(token_id=1, text="red", base=side(5.0, other=True), candidate=side(2.0)),
        ),
    }  # fmt: skip
    return Reliance(**values | changes)


def score(*kl: float | None) -> Score:
    floor = NoiseFloor(
        mean_nats=0.0, max_nats=0.01, tokens=2, batch_tokens=(9, 12), measured_at=MOMENT, engine_started_at=MOMENT
    )
    return Score(
        id="s1", trace_id="t1", answer_id="a1", path="base", base_engine="e/base", candidate_engine="e/w4",
        method="exact", precision="", created_at=MOMENT, floor=floor, seconds=0.1,
        tokens=tuple(TokenScore(token_id=i, text="", kl_base_to_candidate_nats=value) for i, value in enumerate(kl)),
    )  # fmt: skip


def test_scripts_get_every_figure_by_its_name_and_unit() -> None:
    found = reliance_to_dict(reliance())
    assert json.loads(json.dumps(found)) == found
    assert found["mean_reliance_change_nats"] == (0.001 - 3.0) / 2
    assert found["mean_base_reliance_nats"] == 2.5
    assert (found["picture_tokens"], found["most_changed"]) == ([1], [1])
    assert found["tokens"][1]["reliance_change_nats"] == -3.0
    assert found["tokens"][1]["base"]["choice_changed"]["text"] == "blue"


def test_the_share_of_the_divergence_needs_an_exact_score_of_the_same_answer() -> None:
    assert divergence_share(reliance(), score(0.1, 0.3)) == pytest.approx(0.75)
    assert divergence_share(reliance(), score(0.001, 0.002)) is None, "all of it is noise"
    assert divergence_share(reliance(), score(0.1, 0.3).model_copy(update={"floor": None})) is None
    assert divergence_share(reliance(answer_id="other"), score(0.1, 0.3)) is None


def test_the_page_gets_what_each_model_would_say_instead() -> None:
    page = eyes_page({"blurred": reliance()}, score(0.1, 0.3), asked="blurred")
    assert json.loads(json.dumps(page)) == page
    found = page["results"]["blurred"]
    assert found["instead"][0] == [None, None]
    assert found["instead"][1][0][0] == "blue" and found["instead"][1][1] is None
    assert found["share"] == "75%"
    assert "change -1.500" in found["figures"]
    loud = RelianceFloor(base_nats=0.0, candidate_nats=0.0, change_nats=2.0, batch_tokens=(9, 12))
    page = eyes_page({"blurred": reliance(floor=loud)}, score(0.1, 0.3))
    assert "change -1.500 (within the noise: no difference)" in page["results"]["blurred"]["figures"]
    assert page["results"]["blurred"]["most"] == [1], "3 nats at one token are above it"
    assert found["most"] == [1]


def test_a_result_of_other_tokens_is_not_drawn() -> None:
    assert eyes_page({"blurred": reliance()}, score(0.1))["results"] == {}


def test_a_refusal_and_a_wait_are_told_beside_what_is_known() -> None:
    refused = eyes_page({}, score(0.1, 0.2), asked="small", refused=InputError("No picture.", "Ask about one."))
    assert refused["refused"] == {"message": "No picture.", "hint": "Ask about one."}
    assert eyes_page({"blurred": reliance()}, score(0.1, 0.2), asked="small", busy=True)["results"].keys() == {
        "blurred"
    }


def test_markdown_says_what_was_changed_and_the_noise() -> None:
    text = reliance_markdown([reliance(), reliance(floor=None)])
    assert "Picture blurred, on the base's 2 tokens: mean reliance 2.5 nats for e/base" in text
    assert "noise 0.02" in text and "noise not measured" in text
