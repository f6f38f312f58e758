"""Turns that are over leave memory when their answers are long, and are found in the database from then on."""

from __future__ import annotations

import asyncio

import pytest

from components.compare import turns as module
from components.compare.request import ColumnRequest
from components.core.states import Outcome
from tests.service.compare.scene import SIDES, Scene

pytestmark = pytest.mark.service
KEYS = tuple(letter * 32 for letter in "abc")


@pytest.fixture
def two_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than two short answers are kept."""
    monkeypatch.setattr(module, "_KEPT_TOKENS", 12)


@pytest.mark.usefixtures("two_answers")
async def test_the_oldest_leave_and_can_still_be_read_asked_again_and_gone_on_from(scene: Scene) -> None:
    for key in KEYS:
        await scene.ask(key=key)
    kept = scene.turns._live
    assert list(kept) == [KEYS[-1]]
    assert list(scene.turns._turns) == [KEYS[-1]]
    (found,) = await scene.turns.conversation(KEYS[0])
    assert [stored.answer.outcome for stored in found.answers] == [Outcome.FINISHED, Outcome.FINISHED]
    assert all(stored.answer.tokens for stored in found.answers)
    live, slot = await scene.turns.retry(KEYS[0], ColumnRequest(position=1, engine_id=f"scripted/{SIDES[1]}"))
    async for _ in scene.turns.stream(live, slot, lambda: 0.05):
        pass
    assert slot.attempt == 2
    follow_up = await scene.ask(key="d" * 32, parent_id=KEYS[1])
    assert [turn.id for turn in await scene.turns.conversation(follow_up)] == [KEYS[1], follow_up]


@pytest.mark.usefixtures("two_answers")
async def test_a_turn_that_is_being_answered_stays(scene: Scene) -> None:
    scene.script("slow", ttft_s=60.0)
    first = asyncio.create_task(scene.ask(key=KEYS[0]))
    async with asyncio.timeout(20):
        while not any(hit["path"].endswith("completions") for hit in scene.fakes["slow"].hits):
            await asyncio.sleep(0.01)
    scene.script("slow", ttft_s=0.0)
    await scene.ask(key=KEYS[1])
    assert KEYS[0] in scene.turns._live
    scene.turns.stop(KEYS[0])
    assert await first == KEYS[0]
    (found,) = await scene.turns.conversation(KEYS[0])
    assert [stored.answer.outcome for stored in found.answers] == [Outcome.FINISHED, Outcome.STOPPED]


async def test_short_turns_stay(scene: Scene) -> None:
    for key in KEYS:
        await scene.ask(key=key)
    assert list(scene.turns._live) == list(KEYS)
