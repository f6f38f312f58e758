"""The runner at rest: it asks the database when there may be a batch, and not otherwise."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from components.review.runner import BatchRunner
from components.storage.shared_folder import Bell


class Reviews:
    """No batch; counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def batches(self, *_: Any) -> list[Any]:
        self.asked += 1
        return []


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
