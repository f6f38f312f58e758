"""Engine statuses → plain values that assets/js/models.js draws. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from components.core.states import EngineState
from components.engines.catalog import Catalog, CatalogEntry
from components.engines.supervisor import EngineHub, EngineStatus


def board_view(catalog: Catalog, hub: EngineHub, problems: Sequence[str], *, may_control: bool) -> dict[str, Any]:
    """All pairs with their engines, and what is wrong with the profiles that could not be loaded."""
    pairs = [
        {
            "id": pair.id,
            "title": pair.title,
            "description": pair.description,
            "engines": [
                engine_view(entry, hub.status(entry.engine_id), may_control=may_control)
                for entry in catalog.of_pair(pair.id)
            ],
        }
        for pair in catalog.pairs
    ]
    return {"pairs": pairs, "problems": list(problems)}


def engine_view(entry: CatalogEntry, status: EngineStatus, *, may_control: bool) -> dict[str, Any]:
    """One engine's row."""
    down = status.state in (EngineState.STOPPED, EngineState.FATAL)
    return {
        "id": entry.engine_id,
        "label": entry.model.label,
        "role": entry.model.role,
        "scheme": entry.model.scheme,
        "description": entry.model.description,
        "state": status.state.value,
        "ready": status.ready,
        "turn": status.turn.value if status.turn else "",
        "sight": status.sight.value,
        "message": status.message or "",
        "progress": status.progress,
        "reason": status.reason or "",
        "hint": status.hint or "",
        "log": list(status.log_lines),
        "facts": _facts(status),
        "actions": _actions(status, down=down) if may_control else [],
        "metrics": f"engines/{entry.engine_id}/metrics" if may_control and status.ready and not status.remote else "",
        "has_log": may_control and not status.remote and status.state is not EngineState.STOPPED,
    }


def _actions(status: EngineStatus, *, down: bool) -> list[str]:
    if status.is_asleep:
        return ["wake", "stop"]
    if status.remote:
        return ["start"] if down else ["stop"]
    return ["start"] if down else ["stop", "restart"]


def _facts(status: EngineStatus) -> str:
    parts = [
        f"vLLM {status.engine_version}" if status.engine_version and not status.remote else "",
        f"pid {status.pid}" if status.pid else "",
        f"{status.restarts} restart{'s' if status.restarts != 1 else ''}" if status.restarts else "",
        f"since {status.since:%H:%M:%S} UTC" if status.since else "",
        "remote" if status.remote else "",
    ]
    return " · ".join(part for part in parts if part)


def models_api_view(catalog: Catalog, hub: EngineHub) -> list[dict[str, Any]]:
    """Result of the API endpoint ``/models``."""
    return [
        {
            "id": entry.engine_id,
            "pair": entry.pair.id,
            "role": entry.model.role,
            "scheme": entry.model.scheme,
            "state": status.state.value,
            "ready": status.ready,
            "turn": status.turn.value if status.turn else None,
            "sight": status.sight.value,
            "label": entry.model.label,
            "message": status.reason or status.message,
            "hint": status.hint,
        }
        for entry in catalog.entries()
        for status in (hub.status(entry.engine_id),)
    ]
