"""API endpoints ``/benchmark``, ``/results`` and ``/card``, through the same services as the page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import gradio as gr

from components.benchmark.service import BenchmarkService
from components.benchmark.view_model import result_view
from components.core.errors import AppError, InputError
from components.ui.access import Access
from components.ui.messages import as_api_error

CardOf = Callable[[str], dict[str, Any]]


def add_benchmark_api(benchmarks: BenchmarkService, card_of: CardOf, access: Access) -> None:
    """Register the endpoints inside the current Blocks context."""

    async def submit(spec: Any, request: gr.Request) -> dict[str, str]:
        try:
            access.check_jobs(request)
            return {"job_id": await asyncio.to_thread(benchmarks.submit, _object(spec, "spec"))}
        except AppError as exc:
            raise as_api_error(exc) from None

    async def results(wanted: Any) -> list[dict[str, Any]]:
        try:
            found = await asyncio.to_thread(benchmarks.results, _object(wanted, "filter"))
        except AppError as exc:
            raise as_api_error(exc) from None
        return [result_view(record) for record in found]

    async def card(model: str) -> dict[str, Any]:
        try:
            return await asyncio.to_thread(card_of, model)
        except AppError as exc:
            raise as_api_error(exc) from None

    endpoints = ((submit, "benchmark", "spec"), (results, "results", "filter"))
    for function, name, argument in endpoints:
        # Components nobody sees: they give the argument its name and take any value.
        with gr.Row(visible=False):
            given = gr.JSON({}, label=argument)
            result = gr.JSON(label=name)
            button = gr.Button(name)
        button.click(function, given, result, api_name=name, concurrency_limit=None)
    with gr.Row(visible=False):
        model = gr.Textbox(label="model")
        shown = gr.JSON(label="card")
        button = gr.Button("card")
    button.click(card, model, shown, api_name="card", concurrency_limit=None)


def _object(value: Any, name: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        fields = "models, suite, overrides" if name == "spec" else "source, model, suite, job_id"
        raise InputError(f"The {name} is no object.", f"Accepted fields: {fields}.", field=name)
    return value
