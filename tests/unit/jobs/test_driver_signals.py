"""Signals that end a driver's work in order."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from components.core.errors import JobCancelledError
from components.jobs.driver import until_cancelled


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_cancels_the_work_and_lets_it_close(number: signal.Signals) -> None:
    ended = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), number)
            await asyncio.Event().wait()
        finally:
            ended.append("closed")

    with pytest.raises(JobCancelledError):
        await until_cancelled(work())
    assert ended == ["closed"]
