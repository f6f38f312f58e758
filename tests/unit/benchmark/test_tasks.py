"""Errors as themselves, and signals that end the work in order."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from components.benchmark.tasks import run_all, until_cancelled
from components.core.errors import EngineDiedError, JobCancelledError


async def test_the_first_error_ends_the_others_and_comes_as_itself() -> None:
    ended = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("waits")

    async def fails() -> None:
        raise EngineDiedError("The engine ended.")

    with pytest.raises(EngineDiedError, match="The engine ended"):
        await run_all([waits(), fails()])
    assert ended == ["waits"]


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
