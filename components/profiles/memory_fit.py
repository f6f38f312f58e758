"""A model or a pair on a kind of GPU: what fits, with vLLM's flags. Pure; the formulas are in core/memory_plan.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from components.core.memory_plan import GIB, Fit, ModelMemory, Seat, Spread, Use, fit_alone, fit_pair
from components.profiles.argv import capacity_flags
from components.profiles.schema import HardwareProfile, ServeSettings

GPU_COUNTS = (1, 2, 4, 8)
_KV_BITS = {"fp8": 8, "fp8_e4m3": 8, "fp8_e5m2": 8}


@dataclass(frozen=True)
class HardwareFit:
    """One cell of the plan: so many GPUs of one size, and what they can do."""

    hardware: HardwareProfile
    gpus: int
    fit: Fit
    flags: tuple[tuple[str, ...], ...]  # one list for each seat of the fit


def use_of(
    serve: ServeSettings, *, users: int = 1, context: int | None = None, kv_dtype: str | None = None,
    spread: Spread | None = None,
) -> Use:  # fmt: skip
    """What a profile's settings ask of the memory; arguments that are given go before them.

    Args:
        context: tokens of one user.
        kv_dtype: a value of ``ServeSettings.kv_cache_dtype``.
    """
    return Use(
        context=context or serve.max_model_len,
        users=users,
        kv_bits=_KV_BITS.get(kv_dtype or serve.kv_cache_dtype, 16),
        batched_tokens=serve.max_num_batched_tokens or Use.batched_tokens,
        utilization=serve.gpu_memory_utilization,
        spread=spread or Spread(),
    )


def seat_flags(serve: ServeSettings, seat: Seat, users: int = 1, kv_dtype: str | None = None) -> tuple[str, ...]:
    """The capacity flags of a seat, by the builder of every engine's command line."""
    changed = {
        "max_model_len": seat.context,
        "gpu_memory_utilization": seat.share,
        "tensor_parallel_size": seat.grid.tensor,
        "pipeline_parallel_size": seat.grid.pipeline,
        "data_parallel_size": seat.grid.replicas,
        "kv_cache_dtype": kv_dtype or serve.kv_cache_dtype,
        "max_num_seqs": max(serve.max_num_seqs, users),
    }
    return tuple(capacity_flags(serve.model_copy(update=changed), "cuda"))


def hardware_table(
    models: Sequence[tuple[ModelMemory, ServeSettings]], use: Use, hardware: Sequence[HardwareProfile],
    *, gpu_counts: Sequence[int] = GPU_COUNTS, kv_dtype: str | None = None,
) -> tuple[HardwareFit, ...]:  # fmt: skip
    """Every size of GPU × every count, smallest first: what one model, or a base and a candidate, can do there.

    Args:
        models: one, or base and candidate, each with the settings it is served with.
        hardware: profiles; of several with the same size the first is taken, those without a size are left out.
    """
    return tuple(
        hardware_fit(models, use, same[0], count, kv_dtype=kv_dtype)
        for same in by_size(hardware).values()
        for count in gpu_counts
    )


def by_size(hardware: Sequence[HardwareProfile]) -> dict[int, list[HardwareProfile]]:
    """GPUs by the gigabytes they are sold with, smallest first; those without a known size are left out."""
    found: dict[int, list[HardwareProfile]] = {}
    for one in sorted(hardware, key=lambda one: one.sold_as_gb or 0):
        if one.sold_as_gb is not None and one.memory_gib is not None:
            found.setdefault(one.sold_as_gb, []).append(one)
    return found


def hardware_fit(
    models: Sequence[tuple[ModelMemory, ServeSettings]], use: Use, hardware: HardwareProfile, gpus: int,
    *, kv_dtype: str | None = None,
) -> HardwareFit:  # fmt: skip
    """One cell of that table."""
    memory_bytes = int((hardware.memory_gib or 0) * GIB)
    first, *others = [memory for memory, _ in models]
    alone = not others
    fit = fit_alone(first, use, memory_bytes, gpus) if alone else fit_pair(first, others[0], use, memory_bytes, gpus)
    serves = {memory.name: serve for memory, serve in models}
    flags = tuple(seat_flags(serves[seat.model], seat, use.users, kv_dtype) for seat in fit.seats)
    return HardwareFit(hardware, gpus, fit, flags)
