"""The whole page and its server: tabs into one Gradio app, mounted on one FastAPI app with our own routes."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import gradio as gr
from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from gradio.routes import App

from components.core.errors import AppError, RecordNotFoundError
from components.ui.guards import ACCOUNT_PATH, Guard, GuardRules
from components.ui.identity import person_of
from components.ui.sign_in import Provider, add_sessions, sign_in_routes
from components.ui.theme import diptych_theme, page_css, page_head
from components.ui.views import PLAIN, QUIET, Refresh, view

_POLL_S = 2.0
_AT_LOAD = {**PLAIN, "queue": False}
_QUEUE_POLL_S = 0.004  # Gradio looks for new events every ms, which takes 4 % of a core from the engines, also at rest


@dataclass(frozen=True)
class Tab:
    """A tab of the page: ``build`` makes its components inside the current context."""

    title: str
    name: str
    build: Callable[[], Refresh]


def build_page(
    tabs: list[Tab], status: Callable[[gr.Request | None], dict[str, Any]], version: Callable[[], int], *, names: bool
) -> gr.Blocks:
    """One Blocks with a tab each, and in the corner the state of the engines and who signed in.

    ``version`` moves whenever an engine's state changes; while it stands still, polling costs one empty event.
    ``names``: one can sign in, so whose page it is has to be asked.
    """
    # Uploads are needed until they are canonicalised; a day later they are gone, with all that their files told.
    with (
        _no_server_yet(),
        gr.Blocks(title="Diptych", fill_width=True, analytics_enabled=False, delete_cache=(3600, 86400)) as page,
    ):
        corner = view("status", status(None), elem_id="dt-status")
        refreshes = [Refresh((), (corner,), lambda request, _inputs: [status(request)])]
        if names:
            gr.on(None, _met(status), None, corner, **_AT_LOAD)
        with gr.Tabs(elem_id="dt-tabs"):
            for tab in tabs:
                with gr.Tab(tab.title, id=tab.name, elem_id=f"dt-tab-{tab.name}"):
                    refreshes.append(tab.build())
        _poll(refreshes, version)
    return page


def _no_server_yet() -> AbstractContextManager[Any]:
    """Gradio makes a server of a page as it begins, ends and gets its queue: only the one that is mounted is used."""
    return patch.object(App, "create_app", return_value=None)


def _met(status: Callable[[gr.Request | None], dict[str, Any]]) -> Callable[[gr.Request], dict[str, Any]]:
    def met(request: gr.Request) -> dict[str, Any]:
        return status(request)

    return met


def _poll(refreshes: list[Refresh], version: Callable[[], int]) -> None:
    """Two events: Gradio builds every output of an event anew, also a skipped one. What each open page fires all the
    time has a single number for output.
    """
    known = gr.State(-1)
    inputs = [component for refresh in refreshes for component in refresh.inputs]
    outputs = [component for refresh in refreshes for component in refresh.outputs]

    async def tick() -> int:
        return version()

    async def refresh_all(request: gr.Request, *values: Any) -> list[Any]:
        shown: list[Any] = []
        start = 0
        for refresh in refreshes:
            shown += refresh.values(request, values[start : start + len(refresh.inputs)])
            start += len(refresh.inputs)
        return shown

    gr.Timer(_POLL_S).tick(tick, None, known, **QUIET)
    known.change(refresh_all, inputs, outputs, **QUIET)


def build_server(
    page: gr.Blocks,
    *,
    assets: Path,
    rules: GuardRules,
    provider: Provider | None,
    running: Callable[[], AbstractAsyncContextManager[None]],
    export: Callable[[str, str], tuple[str, str]],
    picture: Callable[[str], Path],
    routes: Sequence[Callable[[FastAPI], None]],
    max_file_bytes: int,
    blocked: list[Path],
    recorded: bool = False,
) -> FastAPI:
    """The ASGI app. ``export`` gives (body, media type) of a trace, ``picture`` the file of a canonical image.

    ``provider`` is where people sign in, if not by accounts of this app alone.
    ``routes`` are further functions that add routes of their own.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with running():
            yield

    server = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    _add_routes(server, export, picture)
    if provider is not None:
        sign_in_routes(provider, rules.roll)(server)
    for add in routes:
        add(server)
    server.mount("/look", StaticFiles(directory=assets), name="look")  # /assets is Gradio's own
    with _no_server_yet():
        page.queue(max_size=256, default_concurrency_limit=4)
    page._queue.sleep_when_free = _QUEUE_POLL_S  # noqa: SLF001  # it has no public setting
    _skip_matplotlib()
    head = page_head(assets, recorded=recorded)
    gr.mount_gradio_app(
        server, page, path="/", theme=diptych_theme(), css_paths=page_css(assets), head=head,
        show_error=False, max_file_size=max_file_bytes, blocked_paths=[str(path) for path in blocked],
        enable_monitoring=False, run_history=False, footer_links=[], ssr_mode=False, mcp_server=False,
        auth_dependency=lambda request: getattr(person_of(request.scope), "name", "visitor"),
    )  # fmt: skip
    server.add_middleware(Guard, rules=rules)
    if provider is not None:
        add_sessions(server, provider)
    return server


def _skip_matplotlib() -> None:
    """Gradio tries to import it twice per update of the page; where it is missing, every try walks the whole path."""
    if importlib.util.find_spec("matplotlib") is None:
        sys.modules["matplotlib"] = None  # type: ignore[assignment]  # Python's own way to say: do not look


def _add_routes(server: FastAPI, export: Callable[[str, str], tuple[str, str]], picture: Callable[[str], Path]) -> None:
    @server.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @server.get(ACCOUNT_PATH)
    def signin() -> RedirectResponse:
        # The guard asks for name and password before this is reached; the browser then sends them along.
        return RedirectResponse("/")

    @server.get("/media/{name}.png")
    def media(name: str) -> Response:
        # Content-addressed, so it can never change.
        return FileResponse(
            picture(name), media_type="image/png", headers={"cache-control": "private, max-age=31536000, immutable"}
        )

    @server.get("/traces/{name}")
    def traces(name: str) -> Response:
        trace_id, _, kind = name.partition(".")
        body, media_type = export(trace_id, kind)
        headers = {"content-disposition": f'attachment; filename="{trace_id[:64]}.{kind}"'}
        return Response(body, media_type=media_type, headers=headers)

    @server.exception_handler(AppError)
    async def refused(_: Request, exc: Any) -> JSONResponse:
        status = 404 if isinstance(exc, RecordNotFoundError) else 400
        return JSONResponse({"error": exc.as_record()}, status_code=status)
