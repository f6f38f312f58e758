"""Running things side by side in a driver: errors arrive as themselves, and a signal ends all of it in order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Iterable
from typing import Any

from components.core.errors import JobCancelledError


async def run_all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """All of it; the first error ends the others and is raised as itself, not inside a group."""
    try:
        async with asyncio.TaskGroup() as tasks:
            for one in work:
                tasks.create_task(one)
    except BaseExceptionGroup as group:
        raise _first(group) from group


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def until_cancelled(work: Coroutine[Any, Any, None]) -> None:
    """The work, cancelled by SIGINT and SIGTERM: a handler that raises would be swallowed where a callback runs.

    Raises:
        JobCancelledError: a signal came; what the work had open is closed.
    """
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        raise JobCancelledError("Cancelled.") from None
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
