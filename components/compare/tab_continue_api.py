"""API endpoint ``/continue``: give a model the beginning of an answer and a chosen token, and let it go on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from components.compare.continuation import Choice, continuation_note
from components.compare.request import check_options
from components.compare.turns import TurnService
from components.core.errors import InputError
from components.core.trace_export import trace_to_dict
from components.core.traces import StoredAnswer, Trace
from components.ui.access import Access
from components.ui.endpoints import add_endpoint

GOING_ON = "letting a model go on from a token"
_ROLES = ("base", "candidate")
_OPTIONS = ("path", "into", "index", "token_id")


def add_continue_api(turns: TurnService, access: Access) -> None:
    """Register the endpoint inside the current Blocks context."""

    async def continue_answer(
        trace_id: str, options: dict[str, Any] | None = None, request: gr.Request | None = None
    ) -> dict[str, Any]:
        options = check_options(options, _OPTIONS)
        trace = (await turns.conversation(trace_id))[-1]
        source, target = read_side(trace, options, "path", "base"), read_side(trace, options, "into", "candidate")
        choice = Choice.read({**options, "answer_id": source.slot.id})
        with access.one_visitor_at_a_time(request, GOING_ON, answers=1):
            live, slot = await turns.continue_from(trace_id, target.slot.position, choice)
            await turns.finish(live, [slot])
        stored = next(a for a in live.trace.answers if a.slot.id == slot.id)
        column = next(c for c in trace_to_dict(live.trace)["columns"] if c["id"] == slot.id)
        return {**column, "verdict": "".join(text for _, text in continuation_note(live.trace, stored) or ())}

    add_endpoint(continue_answer, "continue")


def read_side(trace: Trace, options: Mapping[str, Any], name: str, default: str) -> StoredAnswer:
    """The first answer of a role.

    Raises:
        InputError: ``name`` is no role, or the turn has no answer of it.
    """
    role = options.get(name) or default
    if role not in _ROLES:
        raise InputError(f"{role!r} is no side.", f"Accepted: {', '.join(_ROLES)}.", field=name)
    found = next((a for a in trace.latest_answers if a.slot.label.role == role), None)
    if found is None:
        raise InputError(f"This turn has no answer of a {role}.", f"Ask a {role} too.", field=name)
    return found
