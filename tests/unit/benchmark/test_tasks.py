"""Errors come as themselves."""

from __future__ import annotations

import asyncio

import pytest

from components.benchmark.tasks import run_all
from components.core.errors import EngineDiedError


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
