"""gr.HTML components whose drawing lives in assets/js: a static template, data in ``value``, no interpolation.

Gradio evaluates templates that hold data (gradio.md P1), so these hold none. An event name must stand in quotes in
``js_on_load`` for Gradio to offer it as a listener.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

# Options of the page's own events: not part of the API, no spinner of Gradio's, none waits for another.
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}
PLAIN: dict[str, Any] = {**QUIET, "preprocess": False, "postprocess": False}  # values go out as they are
# Unless told otherwise Gradio drops an event while one of the same name is on its way: right for a start that is
# clicked twice, wrong where the second one is another wish.
EACH: dict[str, Any] = {**PLAIN, "trigger_mode": "multiple"}


@dataclass(frozen=True)
class Refresh:
    """What a tab shows of the engines. The page asks all tabs with one event, and only when something has changed.

    Attributes:
        inputs: components whose values ``values`` takes, in order.
        outputs: components that get what ``values`` returns, in order.
    """

    inputs: Sequence[Any]
    outputs: Sequence[Any]
    values: Callable[[gr.Request, Sequence[Any]], Sequence[Any]]


def view(
    kind: str,
    value: dict[str, Any] | None = None,
    *,
    events: Sequence[str] = (),
    server_functions: Sequence[Callable[..., Any]] = (),
    elem_id: str | None = None,
    elem_classes: Sequence[str] = (),
    visible: bool = True,
) -> gr.HTML:
    """A component drawn by ``window.diptych.<kind>(element, props, trigger, watch, server, upload)``.

    Args:
        kind: name of the drawing function in assets/js.
        value: the first value.
        events: names of custom events, each a listener of the component.
        server_functions: Python functions the view may call; they check their arguments themselves.
        elem_id: id in the document.
        elem_classes: classes in the document.
        visible: whether it is drawn at all.
    """
    listed = ", ".join(f"'{name}'" for name in events)
    script = (
        f"/* events: {listed} */ const mount = () => window.diptych && window.diptych.{kind}"
        f" ? window.diptych.{kind}(element, props, trigger, watch, server, upload) : setTimeout(mount, 20); mount();"
    )
    return gr.HTML(
        value or {},
        html_template="",
        js_on_load=script,
        server_functions=list(server_functions) or None,
        elem_id=elem_id,
        elem_classes=["dt-view", *elem_classes],
        apply_default_css=False,
        visible=visible,
    )
