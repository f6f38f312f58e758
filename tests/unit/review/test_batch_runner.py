"""The runner: which engines it starts; at rest it asks the database when there may be a batch, and not otherwise."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.core.states import EngineState
from components.review.runner import BatchRunner
from components.storage.shared_folder import Bell
from tests.data.reviews import batch


class Reviews:
    """No batch; counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def batches(self, *_: Any) -> list[Any]:
        self.asked += 1
        return []


class Hub:
    """Engines in these states; notes which are started."""

    def __init__(self, **states: EngineState) -> None:
        self.states, self.started = states, list[str]()

    def status(self, engine_id: str) -> Any:
        state = self.states[engine_id]
        return SimpleNamespace(state=state, is_off=state is EngineState.STOPPED)

    async def start(self, engine_id: str) -> None:
        self.started.append(engine_id)


async def test_a_batch_that_is_resumed_starts_engines_that_were_given_up() -> None:
    hub = Hub(
        off=EngineState.STOPPED, fatal=EngineState.FATAL, running=EngineState.RUNNING, loading=EngineState.STARTING
    )
    catalog = SimpleNamespace(find=lambda engine_id: None)
    runner = BatchRunner(Reviews(), None, None, catalog, hub)  # type: ignore[arg-type]
    await runner._start_engines(batch(base_engine="running", candidate_engines=("off", "fatal", "loading")))
    assert hub.started == ["off", "fatal"]


async def asked(reviews: Reviews, times: int) -> None:
    async with asyncio.timeout(20):
        while reviews.asked < times:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("shares", [False, True], ids=["alone", "several-apps"])
async def test_it_rests_until_it_is_woken(tmp_path: Path, shares: bool) -> None:
    reviews, bell = Reviews(), Bell(tmp_path / "batches.bell")
    runner = BatchRunner(reviews, None, None, None, None, bell=bell if shares else None)  # type: ignore[arg-type]
    task = asyncio.create_task(runner.run())
    await asked(reviews, 1)
    await asyncio.sleep(0.7)  # longer than between two looks at the bell
    assert reviews.asked == 1, "nothing is new"
    runner.wake()
    await asked(reviews, 2)
    if shares:
        await asyncio.sleep(0.1)
        before = reviews.asked
        Bell(tmp_path / "batches.bell").ring()  # in another app
        await asked(reviews, before + 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(30):
            await task
