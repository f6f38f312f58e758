"""Turns of this app as calibration rows: the chat up to the turn, its pictures, and the base's answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from components.core.errors import AppError, InputError
from components.core.states import Outcome
from components.core.traces import Trace
from components.storage.images import ImageStore
from components.storage.traces import TraceRepository


class TraceExport:
    """Writes ``rows.jsonl`` and pictures of turns into a folder."""

    def __init__(self, traces: TraceRepository, images: ImageStore) -> None:
        self._traces, self._images = traces, images

    def write(self, trace_ids: tuple[str, ...], folder: Path) -> None:
        """One row for each turn.

        Raises:
            InputError: there is no such turn.
        """
        rows = [self._row(trace_id, folder) for trace_id in trace_ids]
        text = b"".join(orjson.dumps(row) + b"\n" for row in rows)
        (folder / "rows.jsonl.partial").write_bytes(text)
        (folder / "rows.jsonl.partial").rename(folder / "rows.jsonl")

    def _row(self, trace_id: str, folder: Path) -> dict[str, Any]:
        try:
            trace = self._traces.get(trace_id)
        except AppError as exc:
            raise InputError(
                f"There is no turn {trace_id!r}.", "Choose turns on the Compare tab.",
                field="overrides.calibration.sources",
            ) from exc  # fmt: skip
        names = []
        for image in trace.images:
            name = f"{image.sha256}.png"
            (folder / name).write_bytes(self._images.png(image.sha256))
            names.append(name)
        system = [{"role": "system", "content": trace.system}] if trace.system else []
        answer = _answer(trace)
        said = [{"role": "assistant", "content": answer}] if answer else []
        return {"messages": [*system, {"role": "user", "content": trace.prompt}, *said], "images": names}


def _answer(trace: Trace) -> str:
    """The base's finished answer; calibration wants what the model should go on doing."""
    for stored in trace.latest_answers:
        if stored.slot.label.role == "base" and stored.answer.outcome is Outcome.FINISHED:
            return stored.answer.text
    return ""
