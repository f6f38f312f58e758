"""Routes of a job's files: its live log, and what can be downloaded. Reading only; visitors of a demo see neither."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse

from components.jobs.service import MAX_LOG_LINES, JobService
from components.ui.access import Access


def job_routes(jobs: JobService, access: Access) -> Callable[[FastAPI], None]:
    """What adds the routes to a server."""

    def add(server: FastAPI) -> None:
        @server.get("/jobs/{job_id}/log")
        def log(request: Request, job_id: str, count: int = MAX_LOG_LINES) -> JSONResponse:
            access.check(request, "read the files of jobs")
            return JSONResponse({"lines": jobs.log_tail(job_id, count)})

        @server.get("/jobs/{job_id}/files/{name}")
        def file(request: Request, job_id: str, name: str) -> Response:
            access.check(request, "read the files of jobs")
            # Never shown by the browser: a script or a log may hold anything.
            headers = {"content-disposition": f'attachment; filename="{job_id}-{_plain(name)}"'}
            return FileResponse(jobs.file(job_id, name), media_type="application/octet-stream", headers=headers)

    return add


def _plain(name: str) -> str:
    return "".join(char if char.isascii() and (char.isalnum() or char in "._-") else "_" for char in name)
