"""The frame every job's driver runs in: whatever happens to the work, an exit record says how it ended.

A job's module is started as ``python -m <module> <job folder>`` in a session of its own and calls ``run_driver``. It
must not know the database or the page, and it runs on when the app ends.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from pydantic import JsonValue

from components.core.errors import AppError, DiskFullError, JobCancelledError
from components.jobs.records import JobExit, JobFolder
from components.storage.atomic_write import translate_os_error

Work = Callable[[JobFolder], dict[str, JsonValue]]
logger = logging.getLogger(__name__)


def run_driver(arguments: Sequence[str], work: Work) -> int:
    """Do ``work`` for the folder named by the only argument; its return value becomes the job's result.

    Work reports through ``append_event``, writes only below ``folder.partial`` and calls ``finish_result`` when the
    output is complete and checked. It raises an AppError for what a person can understand. Output that was not
    finished is removed, but for ``record`` in it. SIGINT and SIGTERM, which a cancel sends to the whole group, become
    JobCancelledError.

    Returns:
        The process's exit code: 0 when the job succeeded.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s", stream=sys.stderr)
    folder = JobFolder(Path(arguments[0]))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _cancel)
    ended = _ended(work, folder)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the end is decided; it only has to be written
    if ended.state != "SUCCEEDED":
        folder.drop_unfinished()
    folder.write_exit(ended)
    return 0 if ended.state == "SUCCEEDED" else 1


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


def _ended(work: Work, folder: JobFolder) -> JobExit:
    try:
        return JobExit(state="SUCCEEDED", result=work(folder))
    except JobCancelledError as exc:
        return JobExit(state="STOPPED", failure_reason=str(exc))
    except AppError as exc:
        logger.error("%s %s", exc, exc.detail)
        return JobExit(state="FAILED", failure_reason=str(exc))
    except Exception as exc:
        logger.exception("the job failed")
        return JobExit(state="FAILED", failure_reason=_unforeseen(exc, folder))


def _unforeseen(exc: Exception, folder: JobFolder) -> str:
    if isinstance(exc, OSError) and isinstance(full := translate_os_error(exc, folder.path), DiskFullError):
        return str(full)
    return f"The job stopped on an unforeseen error: {type(exc).__name__}: {exc}"


def _cancel(_number: int, _frame: FrameType | None) -> None:
    raise JobCancelledError("Cancelled.")
