"""Routes of review: files of a batch come in, exports go out. The rights are the caller's; sizes are limited."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from components.core.errors import InputError
from components.storage.images import display_name

MAX_UPLOAD_BYTES = 1_000_000_000
_ENDINGS = (".zip", ".csv", ".jsonl", ".parquet", ".png", ".jpg", ".jpeg", ".webp")
_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/jsonl; charset=utf-8",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
    "html": "text/html; charset=utf-8",
    "markdown": "text/markdown; charset=utf-8",
}


def review_routes(
    folder_of: Callable[[str], Path],
    export: Callable[[dict[str, Any], Request], str | bytes],
    check_loading: Callable[[Request], None],
) -> Callable[[FastAPI], None]:
    """What adds the routes to a server.

    Args:
        folder_of: where the files of an upload lie, by its token.
        export: (filter, request) → an export as a text, or as a file's bytes; refuses who may not have it.
        check_loading: refuses who may not load a batch.
    """

    def add(server: FastAPI) -> None:
        @server.post("/review/upload")
        async def upload(request: Request, name: str, token: str = "") -> JSONResponse:
            check_loading(request)
            token = token or secrets.token_hex(16)
            folder = folder_of(token)
            await _receive(request, folder, _file_name(name))
            return JSONResponse({"token": token})

        @server.get("/review/export/{batch}.{kind}")
        async def download(request: Request, batch: str, kind: str, reviewer: str = "") -> Response:
            wanted = {"batch": batch, "format": kind, "reviewer": reviewer}
            content = await asyncio.to_thread(export, wanted, request)
            ending = "md" if kind == "markdown" else kind
            headers = {"content-disposition": f'attachment; filename="review-{secrets.token_hex(3)}.{ending}"'}
            return Response(content, media_type=_TYPES.get(kind, "text/plain"), headers=headers)

    return add


def _file_name(name: str) -> str:
    shown = display_name(name)
    if not shown.lower().endswith(_ENDINGS):
        raise InputError(f"“{shown}” can't be used.", f"Accepted: {', '.join(_ENDINGS)}.", field="source")
    return shown.lstrip(".") or "file"


async def _receive(request: Request, folder: Path, name: str) -> None:
    await asyncio.to_thread(folder.mkdir, 0o700, parents=True, exist_ok=True)
    path, written = folder / name, 0
    try:
        with path.open("wb") as file:
            async for chunk in request.stream():
                written += len(chunk)
                if written > MAX_UPLOAD_BYTES:
                    raise InputError(f"“{name}” is larger than {MAX_UPLOAD_BYTES:,} bytes.", field="source")
                await asyncio.to_thread(file.write, chunk)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
