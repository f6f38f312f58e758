"""A cell of the memory plan as commands: Diptych's own, and vLLM's for each model. Pure; a person copies them."""

from __future__ import annotations

import shlex

from components.core.memory_plan import Seat
from components.models.memory_plan import MemoryPlan
from components.profiles.memory_fit import HardwareFit
from components.profiles.placed import command_line

_PLACED = ("together", "alternately", "fits")


def start_line(plan: MemoryPlan, cell: HardwareFit) -> str:
    """How Diptych is started on these GPUs so that it serves the pair like this; empty where it would not."""
    pair = plan.pair
    if pair is None or cell.fit.verdict not in _PLACED or len(plan.models) != min(2, 1 + len(pair.candidates)):
        return ""
    if pair.candidates and plan.named_candidate != pair.candidates[0].id:
        return ""  # the app plans for the first one
    arrangement = plan.use.spread.arrangement
    words = ["python", "app.py", "--pair", pair.id, "--placement", "planned" if arrangement == "auto" else arrangement]
    changes = [*plan.asked, *(_sizes(plan, cell) if arrangement == "alternately" else ())]
    changes += [f"max_num_seqs={plan.use.users}"] if plan.use.users > plan.models[-1][1].max_num_seqs else []
    return shlex.join([*words, *(["--serve", ",".join(changes)] if changes else [])])


def seat_line(plan: MemoryPlan, seat: Seat) -> str:
    """vLLM's command for one model; empty where its files have to be prepared first, which only Diptych does."""
    path = plan.paths.get(seat.model, "")
    serve = next(serve for memory, serve in plan.models if memory.name == seat.model)
    return command_line(path, seat.model, serve, seat, plan.use.users, plan.kv_cache_dtype) if path else ""


def _sizes(plan: MemoryPlan, cell: HardwareFit) -> list[str]:
    """Where the plan spreads a model otherwise than its profile, which is what the app goes by then."""
    found = []
    for (_, serve), seat in zip(plan.models, cell.fit.seats, strict=True):
        if seat.grid.tensor != serve.tensor_parallel_size:
            found.append(f"{seat.model.rpartition('/')[2]}.tensor_parallel_size={seat.grid.tensor}")
    return found
