"""What the views in the browser get: every text as data, no number that was not measured."""

from __future__ import annotations

import json
from pathlib import Path

from components.compare.view_model import answer_view, column_view, head_view, notices_view, stats_line, status_line
from components.core.answers import Answer, Timing, Usage
from components.core.states import EngineState, Outcome, Turn
from components.core.traces import Alarm
from components.engines.catalog import CatalogEntry
from components.engines.status import EngineStatus
from components.models.view_model import engine_view
from components.profiles.loader import load_pair
from tests.data.traces import MOMENT, answered_turn, finished


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


def status(**facts: object) -> EngineStatus:
    return EngineStatus.model_validate({"engine_id": "embedded/base", "since": MOMENT, **facts})


def test_a_sleeping_engine_says_what_it_waits_for_and_needs_no_start() -> None:
    pair = load_pair(Path(__file__).parents[3] / "profiles", "embedded")
    entry = CatalogEntry("embedded/base", pair, pair.base)
    asleep = status(turn=Turn.ASLEEP, message="Waits for its turn: w4a16 is answering")
    head = head_view(0, entry, asleep)
    assert (head["message"], head["can_start"], head["trouble"]) == (asleep.message, False, False)
    assert ["State", "STOPPED, asleep"] in head["details"]
    assert head_view(0, entry, status())["can_start"]
    board = engine_view(entry, asleep, may_control=True)
    assert (board["actions"], board["turn"]) == (["wake", "stop"], "asleep")


def test_the_pages_corner_says_who_is_awake() -> None:
    asleep = status(turn=Turn.ASLEEP)
    awake = status(engine_id="embedded/w4a16", state=EngineState.RUNNING, turn=Turn.AWAKE, ready=True)
    assert status_line("Pair", [asleep, awake]) == "Pair · one at a time · w4a16 is awake"
    loading = awake.model_copy(update={"ready": False, "message": "Loading the weights"})
    assert status_line("Pair", [asleep, loading]) == "Pair · one at a time · w4a16 wakes: Loading the weights"
    assert status_line("Pair", [asleep, asleep]) == "Pair · one at a time · all asleep"
    leaving = asleep.model_copy(update={"state": EngineState.STOPPING})
    assert status_line("Pair", [asleep, leaving]) == "Pair · one at a time · base goes to sleep"
    assert status_line("Pair", [status(ready=True), status(ready=True)]) == "Pair · both ready"
