"""One look at a server: busy is not hung."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any, cast

import pytest

from components.engines.readiness import Probe, look
from components.engines.transport import EngineClient


class _Busy:
    """A server without time for /health; it may go on sending an answer."""

    def __init__(self, *, sends: bool) -> None:
        self.last_heard_s = -math.inf
        self._sends = sends

    async def healthy(self) -> bool:
        if self._sends:
            self.last_heard_s = time.monotonic()
        await asyncio.sleep(60)
        return True


@pytest.mark.parametrize(("sends", "found"), [(True, Probe.SERVING), (False, Probe.SILENT)])
async def test_a_server_that_sends_answers_is_not_silent(*, sends: bool, found: Probe) -> None:
    client: Any = _Busy(sends=sends)
    assert (await look(cast(EngineClient, client), "model", 0.05, settled=True)).probe is found


async def test_what_was_heard_before_the_look_does_not_count() -> None:
    client: Any = _Busy(sends=False)
    client.last_heard_s = time.monotonic()
    assert (await look(cast(EngineClient, client), "model", 0.05, settled=True)).probe is Probe.SILENT
