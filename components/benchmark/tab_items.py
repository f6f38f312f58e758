"""From the results to other rooms: an item's question for Compare, a list as a batch for Review, words for the card."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from components.benchmark.service import BenchmarkService
from components.core.errors import AppError
from components.ui.messages import warn

_LIST = ("model", "task")


@dataclass(frozen=True)
class Doors:
    """Into the other rooms.

    Attributes:
        picture_of: a picture's file → what the composer of Compare shows of a stored picture.
        start_review: (folder with rows and pictures, candidate's engine, name of the batch, request); refuses whoever
            may not start one.
        write_prose: (candidate's engine, part → text, version it is based on, request); refuses likewise.
    """

    picture_of: Callable[[Path], dict[str, Any]]
    start_review: Callable[[Path, str, str, gr.Request], None]
    write_prose: Callable[[str, Any, Any, gr.Request], None]


@dataclass(frozen=True)
class Items:
    """What the sheets of flipped items and of the card call."""

    benchmarks: BenchmarkService
    doors: Doors

    def question(self, data: Any) -> dict[str, Any]:
        """``{model, task, item}`` → the question as Compare takes it, its pictures stored. Gradio calls it in a
        thread."""
        given = data if isinstance(data, dict) else {}
        try:
            model, task, item = (str(given.get(name)) for name in (*_LIST, "item"))
            found = self.benchmarks.flipped_question(model, task, item)
            return {
                "engine": found.engine_id, "prompt": found.prompt, "other_messages": found.other_messages,
                "images": [self.doors.picture_of(picture) for picture in found.pictures],
            }  # fmt: skip
        except AppError as exc:
            return {"refused": str(exc)}

    async def review(self, event: gr.EventData, request: gr.Request) -> dict[str, Any]:
        """``{model, task, key}`` → ``{"key", "task"}`` once the batch is stored, else ``{}`` and a message."""
        data = event._data or {}  # noqa: SLF001
        try:
            model, task = (str(data.get(name)) for name in _LIST)
            folder = await asyncio.to_thread(self.benchmarks.flipped_folder, model, task)
            await asyncio.to_thread(self.doors.start_review, folder, model, f"Flipped: {task}", request)
        except AppError as exc:
            warn(exc)
            return {}
        return {"key": str(data.get("key")), "task": task}

    async def write(self, event: gr.EventData, request: gr.Request) -> dict[str, Any]:
        """``{model, parts, version, key}`` → ``{"key"}``, with ``refused`` where it was not stored."""
        data = event._data or {}  # noqa: SLF001
        key = str(data.get("key"))
        try:
            given = str(data.get("model")), data.get("parts"), data.get("version"), request
            await asyncio.to_thread(self.doors.write_prose, *given)
        except AppError as exc:
            return {"key": key, "refused": str(exc)}
        return {"key": key}
