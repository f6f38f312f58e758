"""One look at a server: is it alive, and does it serve the model it should? Never decides what follows from it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from enum import StrEnum

from components.core.errors import EngineNotReadyError
from components.engines.transport import EngineClient


class Probe(StrEnum):
    """What one look found."""

    SILENT = "silent"  # no answer, an error, or no answer in time
    ALIVE = "alive"  # /health answers, the list of models does not (yet)
    WRONG_MODEL = "wrong model"  # the list of models lacks the name (F12)
    SERVING = "serving"  # the right model is served


@dataclass(frozen=True)
class Look:
    """A finding, and what was seen."""

    probe: Probe
    detail: str = ""
    max_model_len: int | None = None

    @property
    def alive(self) -> bool:
        """Whether the server answers at all."""
        return self.probe is not Probe.SILENT


async def look(client: EngineClient, served_name: str, timeout_s: float, *, settled: bool = False) -> Look:
    """GET /health, then /v1/models, together within ``timeout_s``.

    ``settled``: a process of ours that was seen to serve the right model goes on doing so; asking it every second
    would only cost time and fill its log. Where it has no time for /health but goes on sending answers, it is busy,
    not hung.
    """
    began_s = time.monotonic()
    try:
        async with asyncio.timeout(timeout_s):
            healthy = await client.healthy()
            if healthy and not settled:
                return await _look_at_models(client, served_name)
    except TimeoutError:
        healthy = False
    if healthy or (settled and client.last_heard_s >= began_s):
        return Look(Probe.SERVING)
    return Look(Probe.SILENT, f"the server did not answer /health with 200 within {timeout_s:g} s")


async def _look_at_models(client: EngineClient, served_name: str) -> Look:
    try:
        models = await client.served_models()
    except EngineNotReadyError as exc:
        return Look(Probe.ALIVE, str(exc))
    if served_name not in models:
        names = ", ".join(models) or "no model at all"
        return Look(Probe.WRONG_MODEL, f"the server serves {names} instead of {served_name}")
    return Look(Probe.SERVING, max_model_len=models[served_name])
