"""What the page and scripts get of a score."""

from __future__ import annotations

import json

import pytest

from components.compare.score_view import divergence_markdown, page_view, score_to_dict, summary
from components.core.scores import NoiseFloor, Score, TokenScore
from components.engines.vocabulary import Vocabulary
from tests.data.traces import MOMENT


def token(kl: float | None, *, fork: bool | None = False, text: str = "a", raw: bytes | None = None) -> TokenScore:
    return TokenScore(token_id=1, text=text, raw=raw, kl_base_to_candidate_nats=kl, delta_p=0.0, fork=fork)


def score(*tokens: TokenScore, floor: tuple[float, float] | None = (0.002, 0.01)) -> Score:
    """``floor`` is mean and highest of the noise."""
    noise = floor and NoiseFloor(
        mean_nats=floor[0], max_nats=floor[1], tokens=9, batch_tokens=(9, 12), measured_at=MOMENT,
        engine_started_at=MOMENT,
    )  # fmt: skip
    return Score(
        id="s1", trace_id="t1", answer_id="a1", path="base", base_engine="e/base", candidate_engine="e/w4",
        method="exact", precision="float64", created_at=MOMENT, floor=noise, seconds=0.1, tokens=tokens,
    )  # fmt: skip


def test_a_tie_within_the_noise_is_no_fork() -> None:
    found = score(token(0.009, fork=True), token(0.5, fork=True), token(0.0), token(None, fork=None))
    assert (found.forks, found.first_fork, found.ties) == ((1,), 1, (0,))
    told = score_to_dict(found, 5)
    assert json.loads(json.dumps(told)) == told
    assert (told["forks"], told["ties_within_noise"], told["first_fork"]) == ([1], [0], 1)
    assert told["same_top_p"] == pytest.approx(2 / 3)
    assert [item["fork"] for item in told["tokens"]] == [False, True, False, None]
    page = page_view(found, {}, ())["tokens"]
    assert [(item["f"], item["tie"], item["low"]) for item in page] == [
        (False, True, True), (True, False, False), (False, False, True), (None, False, False),
    ]  # fmt: skip


def test_without_a_floor_nothing_is_within_it() -> None:
    found = score(token(0.0, fork=True), floor=None)
    assert (found.forks, found.ties) == ((0,), ())
    assert "within the noise" not in page_view(found, {}, ())["figures"]["nats"][0]


@pytest.mark.parametrize(
    ("values", "within"), [((0.0015, 0.002), True), ((0.004, 0.005), True), ((0.001, 0.2), False), ((0.0, 0.0), True)]
)
def test_a_mean_within_the_noise_is_said_to_be_no_difference(values: tuple[float, ...], within: bool) -> None:
    found = score(*map(token, values))
    for unit in ("nats", "bits"):
        assert ("within the noise: no difference" in page_view(found, {}, ())["figures"][unit][0]) is within
    assert ("within the noise: no difference" in divergence_markdown([found])) is within


def test_half_a_surrogate_is_shown_by_its_bytes() -> None:
    """ED A0 80 would be U+D800, which is no character: JSON and the page must not break on it."""
    words = Vocabulary({7: b"\xed\xa0\x80"}, {})
    found = score(token(0.1, text=words.text(7), raw=words.raw(7)))
    page = page_view(found, {}, ())
    assert page["tokens"][0]["b"] == "ED A0 80"
    assert "\ufffd" in page["tokens"][0]["t"]
    json.dumps(page, ensure_ascii=False).encode("utf-8")
    assert summary(found)["tokens_scored"] == 1


def test_what_no_gpu_has_tried_is_said_beside_the_method() -> None:
    assert page_view(score(token(0.1)), {}, ())["method_words"] == "exact, full vocabulary"
    untried = score(token(0.1)).model_copy(update={"precision": "float32 logits; not yet tried on a GPU"})
    assert page_view(untried, {}, ())["method_words"] == "exact, full vocabulary; not yet tried on a GPU"
