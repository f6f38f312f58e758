"""API endpoints ``/job`` and ``/cancel``: any kind of job, through the same service as the page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import gradio as gr

from components.jobs.service import JobService, JobView
from components.quantize.view_model import job_api_view
from components.ui.access import Access
from components.ui.endpoints import add_endpoint


def add_job_api(jobs: JobService, access: Access) -> None:
    """Register both endpoints inside the current Blocks context."""

    async def job(job_id: str, request: gr.Request) -> dict[str, Any]:
        return await _answer(jobs, jobs.view, job_id, may_control=access.may_control(request))

    async def cancel(job_id: str, request: gr.Request) -> dict[str, Any]:
        access.check_jobs(request)
        return await _answer(jobs, jobs.cancel, job_id, may_control=True)

    add_endpoint(job, "job")
    add_endpoint(cancel, "cancel")


async def _answer(
    jobs: JobService, call: Callable[[str], JobView], job_id: str, *, may_control: bool
) -> dict[str, Any]:
    view = await asyncio.to_thread(call, job_id)
    log_tail = await asyncio.to_thread(jobs.log_tail, job_id) if may_control else []
    return job_api_view(view, log_tail, may_control=may_control)
