"""A pair laid over this machine as the app was asked to: as its profile says, together, alternately, or as planned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from components.core.errors import InputError
from components.core.memory_plan import Arrangement, ModelMemory, Spread
from components.engines.catalog import CatalogEntry
from components.engines.memory import in_gib
from components.engines.model_memory import ModelMemoryReader
from components.engines.specs import cpu_memory_bytes
from components.profiles.placed import Overrides, fit_of, planned, with_overrides
from components.profiles.schema import PairProfile

Choice = Literal["profile", "together", "alternately", "planned", "shared", "apart"]


@dataclass(frozen=True)
class Machine:
    """What engines can have here.

    Attributes:
        gpu_memory_bytes: of each GPU; empty = engines run on the CPU.
        free_memory_bytes: of main memory.
    """

    gpu_memory_bytes: Sequence[int]
    free_memory_bytes: int


def place_pair(
    pair: PairProfile, choice: Choice, overrides: Overrides, reader: ModelMemoryReader, machine: Machine
) -> PairProfile:
    """The pair as it is to be served.

    Raises:
        InputError: it can't be; names the setting and what is accepted. PreparationError: a model's files are damaged.
    """
    pair = with_overrides(pair, overrides)
    if choice in ("planned", "shared", "apart") and all(model.source.kind != "remote" for model in pair.models):
        if not machine.gpu_memory_bytes:
            return _on_cpu(pair, machine)
        arrangement: Arrangement = "auto" if choice == "planned" else choice  # type: ignore[assignment]
        spread = replace(overrides.spread, arrangement=arrangement)
        return _checked(with_overrides(_on_gpus(pair, spread, reader, machine), overrides), machine)
    if choice in ("together", "alternately"):
        pair = pair.model_copy(update={"placement": choice})
    return pair


def _on_gpus(pair: PairProfile, spread: Spread, reader: ModelMemoryReader, machine: Machine) -> PairProfile:
    models = (pair.base, *pair.candidates[:1])
    memories: list[ModelMemory] = []
    for model in models:
        memory = reader.of_entry(CatalogEntry(pair.engine_id(model), pair, model))
        if memory is None:
            raise InputError(
                f"The shape of {pair.engine_id(model)} is not known here, so it can't be planned.",
                "Choose --placement together or alternately, or name its GPUs in the profile.",
                field="placement",
            )
        memories.append(memory)
    return planned(pair, fit_of(pair, memories, machine.gpu_memory_bytes, spread))


def _on_cpu(pair: PairProfile, machine: Machine) -> PairProfile:
    needed = sum(cpu_memory_bytes(pair.serve_of(model)) for model in (pair.base, *pair.candidates[:1]))
    fits = needed <= machine.free_memory_bytes
    return pair.model_copy(update={"placement": "together" if fits else "alternately"})


def _checked(pair: PairProfile, machine: Machine) -> PairProfile:
    """What a person set after the plan may ask for GPUs that are not there."""
    count = len(machine.gpu_memory_bytes)
    for model in pair.models:
        if count and model.gpus and max(model.gpus) >= count:
            sizes = ", ".join(in_gib(size) for size in machine.gpu_memory_bytes)
            raise InputError(
                f"{pair.engine_id(model)} would stand on GPU {max(model.gpus)}; this machine has {count} ({sizes}).",
                "Choose smaller parallel sizes.",
                field="serve",
            )
    return pair
