"""A recipe's calibration data for one model: which sources are really read, and where their files are."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson

from components.core.errors import InputError
from components.profiles.recipe import (
    BundledSource,
    CalibrationProfile,
    FileSource,
    FlipsSource,
    HubDataSource,
    RecipeProfile,
    ReviewSource,
    SlotSource,
    TracesSource,
)
from components.quantize.targets import Target
from components.storage.atomic_write import make_private_folder


class AppRows(Protocol):
    """What the app itself holds that can calibrate; see ``app_rows.StoredRows``."""

    def choices(self) -> list[dict[str, Any]]:
        """What can be picked: ``{label, source}``."""

    def turns_of_review(self, batch_id: str, outcome: str | None) -> tuple[str, ...]:
        """Ids of the turns of a batch's answered items."""

    def write_turns(self, trace_ids: tuple[str, ...], folder: Path) -> None:
        """Their rows and pictures."""

    def flips(self, model: str) -> list[dict[str, Any]]:
        """Benchmark items that a candidate lost."""

    def write_flips(self, items: list[dict[str, Any]], folder: Path) -> None:
        """Their rows and pictures."""


# The embedded models are so small that the cards' amounts would only cost time.
SMALL = {"samples": 64, "max_seq_length": 256, "min_tokens_per_chunk": 256}
SMALL_ITERATIONS = 100


@dataclass(frozen=True)
class CalibrationPlan:
    """The tool's settings, and what a person should know about them."""

    settings: dict[str, Any] | None
    notes: tuple[str, ...] = ()
    reads_hub: tuple[str, ...] = ()


def with_defaults_for(recipe: RecipeProfile, overrides: dict[str, Any], target: Target) -> tuple[RecipeProfile, str]:
    """The recipe with bundled data in place of a hub's, for the models that come with Diptych; and a note about it."""
    given = overrides.get("calibration") or {}
    calibration = recipe.calibration
    if calibration is None or not recipe.reads_data or not target.offline or "sources" in given:
        return recipe, ""
    text_only = recipe.tool == "autoround" or not target.pair.vision
    name = "text" if not target.pair.vision else "embedded-text" if text_only else "embedded-pictures"
    changes: dict[str, Any] = {
        "sources": (BundledSource(kind="bundled", name=name),),
        "modality": "text" if text_only else "image+text",
    }
    small = SMALL if text_only else {"samples": 128, "min_tokens_per_chunk": 0}
    changes |= {key: value for key, value in small.items() if key not in given}
    update: dict[str, Any] = {"calibration": calibration.model_copy(update=changes)}
    if recipe.tool == "autoround" and "iterations" not in overrides:
        update["iterations"] = min(recipe.iterations, SMALL_ITERATIONS)
    if not target.pair.vision:
        update["sequential_targets"] = None
    note = f"The bundled set {name!r} stands in for the recipe's own data, and less of it: this model is tiny."
    return recipe.model_copy(update=update), note


def plan_calibration(recipe: RecipeProfile, assets: Path, store: Path, rows: AppRows | None) -> CalibrationPlan:
    """Where the recipe's data is read from.

    Args:
        assets: folder of the bundled sets.
        store: folder for what is written out of the app's own records.
        rows: the app's own records; None where there is no database.

    Raises:
        InputError: a file is missing, or no source is left; names the field.
    """
    calibration = recipe.calibration
    if calibration is None or not recipe.reads_data:
        return CalibrationPlan(None)
    sources, notes, hub = [], [], []
    for index, source in enumerate(calibration.sources):
        place = f"overrides.calibration.sources[{index}]"
        shared = {"weight": source.weight, "repeat": source.repeat}
        if isinstance(source, HubDataSource):
            fields = source.model_dump(mode="json", include={"kind", "repo_id", "split", "template", "shuffle"})
            sources.append({"name": source.label, **fields, **shared})
            hub.append(source.repo_id)
        elif isinstance(source, SlotSource):
            notes.append(f"The slot {source.label!r} ({source.original}) is empty and left out.")
        elif isinstance(source, FileSource):
            _check_file(source, place)
            sources.append(
                {"name": source.label or Path(source.file).name, "kind": "file", "file": source.file, **shared}
            )
        elif isinstance(source, TracesSource | ReviewSource | FlipsSource):
            name, folder = _written(source, store, rows, place)
            sources.append({"name": name, "kind": "file", "file": str(folder), **shared})
        else:
            folder = assets / "calibration" / source.name
            sources.append({"name": f"bundled: {source.name}", "kind": "file", "file": str(folder), **shared})
    if not sources:
        raise InputError(
            "No calibration data is left: every source is an empty slot.", "Add a file, a data set or traces.",
            field="overrides.calibration.sources",
        )  # fmt: skip
    return CalibrationPlan(_settings(calibration, recipe, sources), tuple(notes), tuple(hub))


def _settings(calibration: CalibrationProfile, recipe: RecipeProfile, sources: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "samples": calibration.samples,
        "max_seq_length": calibration.max_seq_length,
        "min_tokens_per_chunk": calibration.min_tokens_per_chunk,
        "pictures": calibration.modality == "image+text",
        "seed": recipe.seed,
        "sources": sources,
    }


def _check_file(source: FileSource, place: str) -> None:
    path = Path(source.file)
    if not path.exists():
        raise InputError(
            f"There is no {source.file}.", "Accepted: a .jsonl, a .txt or a folder.", field=f"{place}.file"
        )
    if path.is_file() and path.suffix not in (".jsonl", ".txt"):
        hint = "Accepted: a .jsonl, a .txt or a folder of them and pictures."
        raise InputError(f"{path.name} is no calibration data.", hint, field=f"{place}.file")


def _written(
    source: TracesSource | ReviewSource | FlipsSource, store: Path, rows: AppRows | None, place: str
) -> tuple[str, Path]:
    """Its name, and a folder named by what it holds: a job reads a copy, whatever becomes of the records."""
    if rows is None:
        raise InputError("The app's records can't be read here.", field=place)
    if isinstance(source, FlipsSource):
        items = rows.flips(source.model)
        if not items:
            hint = "Run an accuracy benchmark of it first."
            raise InputError(f"No benchmark item is known that {source.model} lost.", hint, field=f"{place}.model")
        folder = store / f"flips-{_digest(items)}"
        if not (folder / "rows.jsonl").is_file():
            make_private_folder(folder)
            rows.write_flips(items, folder)
        return f"benchmark items that {source.model} lost", folder
    name, trace_ids = "traces of this app", source.trace_ids if isinstance(source, TracesSource) else ()
    if isinstance(source, ReviewSource):
        trace_ids = rows.turns_of_review(source.batch_id, source.outcome)
        name = f"review items: {source.outcome or 'all'}"
        if not trace_ids:
            hint = "Choose another batch or outcome."
            raise InputError(f"The batch has no answered item that is {source.outcome or 'there'}.", hint, field=place)
    folder = store / f"traces-{_digest(list(trace_ids))}"
    if not (folder / "rows.jsonl").is_file():
        make_private_folder(folder)
        rows.write_turns(trace_ids, folder)
    return name, folder


def _digest(value: list[Any]) -> str:
    return hashlib.sha256(orjson.dumps(value)).hexdigest()[:16]
