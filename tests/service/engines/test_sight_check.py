"""The sight check against servers whose answers are scripted."""

from __future__ import annotations

import pytest

from components.core.errors import EngineFailureError
from components.core.states import Sight
from components.engines.sight import check_sight
from tests.service.engines.conftest import FakeEngine

pytestmark = pytest.mark.service

SEEING = {"What colour": "The picture is RED.", "Which shape": "The shape is a circle.", "Which digit": "It is seven."}


async def test_an_engine_that_sees(engine: FakeEngine) -> None:
    engine.script(answers=SEEING, blank_answer="There is nothing.")
    said: list[tuple[str, float | None]] = []
    report = await check_sight(
        engine.client, "fake/base", vision=True, report=lambda text, share: said.append((text, share))
    )
    assert report.sight is Sight.SEES
    assert [check.right for check in report.checks] == [True, True, True]
    assert report.checks[0].blank_answer == "There is nothing."
    assert said[0] == ("Checking the sight of fake/base: 1 of 6", 0.0)
    assert len(said) == len(engine.fake.hits) == 6
    body = engine.fake.hits[0]["body"]
    assert body["temperature"] == 0
    assert "logprobs" not in body


async def test_an_engine_that_always_says_the_same(engine: FakeEngine) -> None:
    engine.script(answers=SEEING, blank_answer=None)  # the blank gets the very same answers
    report = await check_sight(engine.client, "fake/base", vision=True, report=lambda text, share: None)
    assert report.sight is Sight.BLIND
    assert "Hugging Face names" in report.causes[0]


async def test_an_engine_that_takes_no_pictures(engine: FakeEngine) -> None:
    engine.script(mode="http_400")
    report = await check_sight(engine.client, "fake/base", vision=True, report=lambda text, share: None)
    assert report.sight is Sight.BLIND
    assert "takes no pictures" in report.causes[0]


async def test_a_failing_engine_says_nothing_about_its_sight(engine: FakeEngine) -> None:
    engine.script(mode="http_500")
    with pytest.raises(EngineFailureError):
        await check_sight(engine.client, "fake/base", vision=True, report=lambda text, share: None)


async def test_a_text_model_is_not_asked(engine: FakeEngine) -> None:
    report = await check_sight(engine.client, "fake/base", vision=False, report=lambda text, share: None)
    assert report.sight is Sight.NONE
    assert engine.fake.hits == []
