"""API endpoints ``/benchmark``, ``/results`` and ``/card``, through the same services as the page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import gradio as gr

from components.benchmark.service import BenchmarkService
from components.benchmark.view_model import result_view
from components.core.errors import InputError
from components.ui.access import Access
from components.ui.endpoints import add_endpoint

CardOf = Callable[[str], dict[str, Any]]


def add_benchmark_api(benchmarks: BenchmarkService, card_of: CardOf, access: Access) -> None:
    """Register the endpoints inside the current Blocks context."""

    async def submit(request: gr.Request, spec: Any = None) -> dict[str, str]:
        access.check_jobs(request)
        return {"job_id": await asyncio.to_thread(benchmarks.submit, _object(spec, "spec"))}

    async def results(wanted: Any = None) -> list[dict[str, Any]]:
        found = await asyncio.to_thread(benchmarks.results, _object(wanted, "filter"))
        return [result_view(record) for record in found]

    async def card(model: str) -> dict[str, Any]:
        return await asyncio.to_thread(card_of, model)

    add_endpoint(submit, "benchmark")
    add_endpoint(results, "results")
    add_endpoint(card, "card")


def _object(value: Any, name: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        fields = "models, suite, overrides" if name == "spec" else "source, model, suite, job_id"
        raise InputError(f"The {name} is no object.", f"Accepted fields: {fields}.", field=name)
    return value
