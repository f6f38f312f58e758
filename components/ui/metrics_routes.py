"""Routes for machines that watch the app: /metrics, the engines' own metrics, /readyz."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from components.ui.access import Access

_TEXT = "text/plain; version=0.0.4; charset=utf-8"


def metrics_routes(
    own: Callable[[], bytes], engine: Callable[[str], Awaitable[bytes]], missing: Callable[[bool], list[str]],
    access: Access,
) -> Callable[[FastAPI], None]:  # fmt: skip
    """What adds the routes to a server.

    Args:
        own: the app's metrics. engine: those of an engine, by its id.
        missing: what is missing until questions can be asked; told in detail when its argument is true.
        access: visitors of a demo see no metrics, and /readyz gives them no names.
    """

    def add(server: FastAPI) -> None:
        @server.get("/metrics")
        def metrics(request: Request) -> Response:
            access.check(request, "read metrics")
            return Response(own(), media_type=_TEXT)

        @server.get("/engines/{pair}/{model}/metrics")
        async def engine_metrics(request: Request, pair: str, model: str) -> Response:
            access.check(request, "read metrics")
            # What a remote server says is only ever text, so that no browser shows it as a page.
            return Response(await engine(f"{pair}/{model}"), media_type=_TEXT)

        @server.get("/readyz")
        async def readyz(request: Request) -> JSONResponse:
            named = access.may_control(request)
            found = await asyncio.to_thread(missing, named)
            return JSONResponse({"ready": not found, "missing": found}, status_code=503 if found else 200)

    return add
