"""What the views in the browser get: every text as data, no number that was not measured."""

from __future__ import annotations

import json

from components.compare.view_model import answer_view, column_view, notices_view, stats_line
from components.core.answers import Answer, Timing, Usage
from components.core.states import Outcome
from components.core.traces import Alarm
from tests.data.traces import answered_turn, finished


def test_a_column_shows_its_own_answers_only() -> None:
    view = column_view(1, (answered_turn(texts=("base says", "candidate says")),))
    assert [a["text"] for a in view["turns"][0]["answers"]] == ["candidate says"]


def test_a_retry_stands_beside_the_first_answer() -> None:
    view = column_view(0, (answered_turn(texts=("old", "x"), retry="new"),))
    assert [a["text"] for a in view["turns"][0]["answers"]] == ["old", "new"]
    assert [a["attempt"] for a in view["turns"][0]["answers"]] == [1, 2]


def test_hostile_text_stays_data() -> None:
    text = "<img src=x onerror=alert(1)> ${alert(1)} `x` {{value}} \u202e\u200b"
    view = column_view(0, (answered_turn(texts=(text,), prompt=text),))
    assert view["turns"][0]["answers"][0]["text"] == text
    assert view["turns"][0]["prompt"] == text
    assert json.loads(json.dumps(view)) == view


def test_the_speed_line_has_what_was_measured() -> None:
    line = stats_line(finished(usage=Usage(prompt_tokens=30, image_tokens=20, output_tokens=3)))
    assert line == "TTFT 12 ms · TPOT 3.2 ms · 308 tok/s · 10+20 in · 3 out · stop"


def test_the_speed_line_never_guesses() -> None:
    assert stats_line(Answer(outcome=Outcome.FINISHED, finish_reason="stop", timing=Timing(), usage=Usage())) == "stop"
    assert stats_line(Answer(outcome=Outcome.STREAMING)) == ""


def test_an_answer_that_waits_says_for_what() -> None:
    turn = answered_turn()
    assert answer_view(turn, turn.answers[0], "Loading weights")["waiting"] == "Loading weights"


def test_notices_carry_alarms_and_the_link() -> None:
    alarm = Alarm(code="x", severity="error", message="Something differs.")
    view = notices_view(answered_turn("abc").model_copy(update={"alarms": (alarm,)}))
    assert view["turn"] == "abc"
    assert view["alarms"] == [{"severity": "error", "message": "Something differs."}]
