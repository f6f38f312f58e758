"""API endpoints ``/job`` and ``/cancel``: any kind of job, through the same service as the page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import gradio as gr

from components.core.errors import AppError
from components.jobs.service import JobService, JobView
from components.quantize.view_model import job_api_view
from components.ui.access import Access
from components.ui.messages import as_api_error


def add_job_api(jobs: JobService, access: Access) -> None:
    """Register both endpoints inside the current Blocks context."""

    async def job(job_id: str, request: gr.Request) -> dict[str, Any]:
        return await _answer(jobs, jobs.view, job_id, may_control=access.may_control(request))

    async def cancel(job_id: str, request: gr.Request) -> dict[str, Any]:
        try:
            access.check_jobs(request)
        except AppError as exc:
            raise as_api_error(exc) from None
        return await _answer(jobs, jobs.cancel, job_id, may_control=True)

    for function, name in ((job, "job"), (cancel, "cancel")):
        # Components nobody sees: they give the argument its name and take any text.
        with gr.Row(visible=False):
            job_id = gr.Textbox(label="job_id")
            result = gr.JSON(label="job")
            button = gr.Button(name)
        button.click(function, job_id, result, api_name=name, concurrency_limit=None)


async def _answer(
    jobs: JobService, call: Callable[[str], JobView], job_id: str, *, may_control: bool
) -> dict[str, Any]:
    try:
        view = await asyncio.to_thread(call, job_id)
        log_tail = await asyncio.to_thread(jobs.log_tail, job_id) if may_control else []
    except AppError as exc:
        raise as_api_error(exc) from None
    return job_api_view(view, log_tail, may_control=may_control)
