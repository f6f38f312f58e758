"""API endpoint ``/compare``: one turn without the page, through the same service."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from components.compare.request import MAX_COLUMNS, Ask, ColumnRequest, check_options, check_tools, parse_sampling
from components.compare.turns import TurnService
from components.core.answers import ImageRecord, Sampling
from components.core.errors import InputError
from components.core.trace_export import trace_to_dict
from components.engines.catalog import Catalog
from components.engines.supervisor import EngineHub
from components.profiles.schema import PairProfile
from components.storage.images import ImageLimits, ImageStore
from components.ui.access import Access
from components.ui.endpoints import answering

_OPTIONS = ("pair", "columns", "system", "temperature", "top_p", "max_tokens", "seed", "stop", "tools")
_SAMPLING = ("temperature", "top_p", "max_tokens", "seed", "stop")


def add_compare_api(
    *, turns: TurnService, store: ImageStore, catalog: Catalog, hub: EngineHub, pair: PairProfile, access: Access
) -> None:
    """Register the endpoint inside the current Blocks context."""

    async def compare(
        prompt: str,
        images: list[str] | None = None,
        options: dict[str, Any] | None = None,
        request: gr.Request | None = None,
    ) -> dict[str, Any]:
        options = options or {}
        columns = read_columns(options, catalog, hub, pair, access.usual)
        access.spend(request, [column.sampling.max_tokens for column in columns])
        await _ensure_started(columns, hub, access, request)
        limits = access.picture_limits(request, store.limits)
        records = await asyncio.to_thread(_ingest, store, images or [], limits)
        ask = Ask(
            key=secrets.token_hex(16), prompt=prompt, system=str(options.get("system") or ""),
            tools=check_tools(options.get("tools") or ()), images=records, columns=columns,
        )  # fmt: skip
        live = await turns.begin(ask)
        await turns.finish(live, [stored.slot for stored in live.trace.latest_answers])
        return trace_to_dict(live.trace)

    # Components nobody sees: they turn uploads into files. The arguments' names are the function's.
    with gr.Row(visible=False):
        prompt = gr.Textbox(label="prompt")
        files = gr.File(label="images", file_count="multiple", type="filepath")
        options = gr.JSON({}, label="options")
        result = gr.JSON(label="trace")
        button = gr.Button("compare")
    button.click(answering(compare), [prompt, files, options], result, api_name="compare", concurrency_limit=None)


def read_columns(
    options: Mapping[str, Any], catalog: Catalog, hub: EngineHub, pair: PairProfile,
    usual: Callable[[Sampling], Sampling],
) -> tuple[ColumnRequest, ...]:  # fmt: skip
    """Columns of an API call: engine ids, or objects with an engine and own parameters.

    ``usual`` gives what counts where the call says nothing, from the pair's own.

    Raises:
        InputError: naming the option and what it accepts.
    """
    check_options(options, _OPTIONS)
    pair_id = str(options.get("pair") or pair.id)
    own = next((p for p in catalog.pairs if p.id == pair_id), None)
    if own is None:
        accepted = ", ".join(p.id for p in catalog.pairs)
        raise InputError(f"There is no pair {pair_id!r}.", f"Accepted: {accepted}.", field="pair")
    shared = parse_sampling({name: options.get(name) for name in _SAMPLING}, usual(own.sampling))
    wanted = options.get("columns") or default_columns(own, catalog, hub)
    if not isinstance(wanted, list) or len(wanted) > MAX_COLUMNS:
        raise InputError(
            "columns is not acceptable.", f"Accepted: a list of 1 to {MAX_COLUMNS} engine ids.", field="columns"
        )
    columns = []
    for position, column in enumerate(wanted):
        given = column if isinstance(column, dict) else {"engine": column}
        engine_id = catalog.find(str(given.get("engine")), field="columns").engine_id
        sampling = parse_sampling({name: given.get(name) for name in _SAMPLING}, shared)
        columns.append(ColumnRequest(position=position, engine_id=engine_id, sampling=sampling))
    return tuple(columns)


def default_columns(pair: PairProfile, catalog: Catalog, hub: EngineHub) -> list[str]:
    """The base and its first ready candidate; the first of all while none is ready."""
    entries = catalog.of_pair(pair.id)
    candidates = [entry.engine_id for entry in entries if entry.model.role == "candidate"]
    ready = [engine_id for engine_id in candidates if (now := hub.status(engine_id)).ready or now.is_asleep]
    return [entries[0].engine_id, *(ready or candidates)[:1]]


async def _ensure_started(
    columns: Sequence[ColumnRequest], hub: EngineHub, access: Access, request: gr.Request | None
) -> None:
    for column in columns:
        if hub.status(column.engine_id).is_off:
            access.check_control(request)
            await hub.start(column.engine_id)


def _ingest(store: ImageStore, files: Sequence[str], limits: ImageLimits) -> tuple[ImageRecord, ...]:
    store.check_count(len(files))  # before anything is decoded
    return tuple(store.ingest(Path(file), Path(file).name, limits) for file in files)
