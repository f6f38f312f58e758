"""Components of the Compare tab and where they stand. No logic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from components.compare.request import MAX_COLUMNS
from components.core.answers import Sampling
from components.ui.views import view

# Text boxes, for an empty number box comes back from the browser as 0.
_OWN_LABELS = ("Temperature", "Top-p", "Max tokens", "Seed")


@dataclass(frozen=True)
class ColumnParts:
    """One column: its box, engine, head, conversation and own parameters."""

    box: gr.Column
    engine: gr.Dropdown
    head: gr.HTML
    view: gr.HTML
    own: tuple[gr.Textbox, ...]  # as _OWN_LABELS; empty = shared


@dataclass(frozen=True)
class CompareParts:
    """Everything on the tab that events speak of."""

    composer: gr.HTML
    notices: gr.HTML
    recent: gr.HTML
    divergence: gr.HTML
    repeat: gr.HTML
    columns: tuple[ColumnParts, ...]
    count: gr.State
    add: gr.Button
    remove: gr.Button
    shared: tuple[Any, ...]  # system, temperature, top-p, max tokens, seed, stop, tools

    def setup_inputs(self) -> list[Any]:
        """Inputs of every asking event, in the order that ``tab_handlers.read_setup`` takes them."""
        own = [part for column in self.columns for part in (column.engine, *column.own)]
        return [self.count, *self.shared, *own]


def build_layout(
    engines: list[tuple[str, str]],
    chosen: list[str],
    sampling: Sampling,
    composer: gr.HTML,
    columns_now: int,
    *,
    asking: bool = True,
) -> CompareParts:
    """The tab's components, in reading order: picture, columns, settings; the composer stays at the bottom.

    ``asking``: whether anything can be asked; what serves that alone is left out of sight otherwise.
    """
    with gr.Row(elem_id="dt-compare", equal_height=False):
        with gr.Column(elem_id="dt-left", scale=0, min_width=240):
            view("viewer", elem_id="dt-viewer", elem_classes=["dt-card"])
            with gr.Accordion("Settings", open=False, elem_id="dt-settings", visible=asking):
                shared = _shared_settings(sampling)
            recent = view("recent", {"items": []}, events=["open"], elem_id="dt-recent")
        with gr.Column(elem_id="dt-main", scale=1, min_width=300):
            notices = view("notices", {"alarms": [], "turn": None}, elem_id="dt-notices")
            with gr.Row(elem_id="dt-columns", elem_classes=["dt-card"], equal_height=True):
                columns = tuple(
                    _column(position, engines, chosen[position], visible=position < columns_now, asking=asking)
                    for position in range(MAX_COLUMNS)
                )
            divergence = view("divergence", {"state": "none"}, events=["score", "eyes"], elem_id="dt-divergence")
            repeat = view(
                "repeat", {"state": "none"}, events=["look", "run", "halt"], elem_id="dt-repeat", visible=asking
            )
            with gr.Row(elem_id="dt-count", visible=asking):
                remove = gr.Button("− column", size="sm", elem_classes=["dt-quiet"])
                add = gr.Button("+ column", size="sm", elem_classes=["dt-quiet"])
    composer.render()
    return CompareParts(
        composer=composer,
        notices=notices,
        recent=recent,
        divergence=divergence,
        repeat=repeat,
        columns=columns,
        count=gr.State(columns_now),
        add=add,
        remove=remove,
        shared=shared,
    )


def _column(position: int, engines: list[tuple[str, str]], chosen: str, *, visible: bool, asking: bool) -> ColumnParts:
    with gr.Column(elem_classes=["dt-col", f"dt-col-{position}"], visible=visible, min_width=240) as box:
        engine = gr.Dropdown(
            engines, value=chosen, label=f"Engine of column {position + 1}", show_label=False, container=False,
            filterable=len(engines) > 8, elem_classes=["dt-engine"], interactive=asking,
        )  # fmt: skip
        head = view("head", events=["start"], elem_classes=["dt-head"])
        body = view("column", events=["stop", "retry", "force"], elem_classes=["dt-body"])
        with gr.Accordion("Own parameters", open=False, elem_classes=["dt-own"], visible=asking):
            gr.Markdown("Empty means: as in Settings.", elem_classes=["dt-soft"])
            with gr.Row():
                own = tuple(
                    gr.Textbox("", label=name, placeholder="shared", max_lines=1, min_width=90) for name in _OWN_LABELS
                )
    return ColumnParts(box, engine, head, body, own)


def _shared_settings(sampling: Sampling) -> tuple[Any, ...]:
    system = gr.Textbox("", label="System prompt", lines=2, max_lines=8, placeholder="None")
    temperature = gr.Slider(0, 2, sampling.temperature, step=0.05, label="Temperature")
    top_p = gr.Slider(0.01, 1, sampling.top_p, step=0.01, label="Top-p")
    with gr.Row():
        max_tokens = gr.Number(
            sampling.max_tokens, label="Max tokens", minimum=1, maximum=32768, precision=0, min_width=90
        )
        seed = gr.Textbox(_text(sampling.seed), label="Seed", placeholder="random", max_lines=1, min_width=90)
    stop = gr.Textbox("", label="Stop strings, one a line", lines=1, max_lines=8)
    tools = gr.Code("", language="json", label="Tools as JSON", lines=3, max_lines=12)
    return (system, temperature, top_p, max_tokens, seed, stop, tools)


def _text(number: int | None) -> str:
    return "" if number is None else str(number)
