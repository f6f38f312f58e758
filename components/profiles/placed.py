"""A pair as the memory plan lays it over a machine's GPUs, with what a person wants otherwise. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from components.core.errors import InputError
from components.core.memory_plan import Fit, ModelMemory, Seat, Spread, fit_alone, fit_pair
from components.profiles.argv import model_flags
from components.profiles.memory_fit import seat_flags, use_of
from components.profiles.schema import PairProfile, ServeSettings

_SIZES = {"tensor_parallel_size": "tensor", "pipeline_parallel_size": "pipeline", "data_parallel_size": "replicas"}
Value = int | str | None
_ACCEPTED = "Accepted: field=value or model.field=value, separated by commas; fields are those of serve in a profile."


@dataclass(frozen=True)
class Overrides:
    """Fields of ``ServeSettings`` that a person sets, over profile and plan: for every model, and by model id."""

    of_all: Mapping[str, Value] = field(default_factory=dict)
    of_model: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)

    @property
    def spread(self) -> Spread:
        """The sizes among those of every model, which the plan then keeps to.

        Raises:
            InputError: one is no size.
        """
        given = {_SIZES[name]: _size(name, value) for name, value in self.of_all.items() if name in _SIZES}
        return Spread(tensor=given.get("tensor"), pipeline=given.get("pipeline", 1), replicas=given.get("replicas", 1))


def read_overrides(text: str) -> Overrides:
    """From ``"max_model_len=8192, w4a16.gpu_memory_utilization=0.4"``.

    Raises:
        InputError: a part is not of that form, or names no field.
    """
    of_all: dict[str, Value] = {}
    of_model: dict[str, dict[str, Value]] = {}
    for part in (part.strip() for part in text.split(",") if part.strip()):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        model, _, own = name.rpartition(".")
        if not equals or own not in ServeSettings.model_fields:
            raise InputError(f"{part[:80]!r} sets no field of serve.", _ACCEPTED, field="serve")
        (of_model.setdefault(model, {}) if model else of_all)[own] = _value(value)
    return Overrides(of_all, of_model)


def with_overrides(pair: PairProfile, overrides: Overrides) -> PairProfile:
    """The pair with what a person wants otherwise. GPUs that are named follow changed sizes, from the first on.

    Raises:
        InputError: there is no such model, or a value is not accepted.
    """
    for model_id in overrides.of_model:
        if all(model.id != model_id for model in pair.models):
            names = ", ".join(model.id for model in pair.models)
            raise InputError(f"{pair.id} has no model {model_id!r}.", f"It has: {names}.", field="serve")
    changes = {model.id: {**overrides.of_all, **overrides.of_model.get(model.id, {})} for model in pair.models}
    return _changed(pair, changes, {})


def planned(pair: PairProfile, fit: Fit) -> PairProfile:
    """The pair with GPUs, sizes, shares and context of a plan for its base and its first candidate.

    All other candidates get the first one's place.

    Raises:
        InputError: by the plan not both fit.
    """
    if fit.verdict not in ("together", "alternately", "fits"):
        raise InputError(
            f"By the memory plan {pair.title} does not fit on the GPUs of this machine.",
            "Look at the Models tab for what would; less context or an FP8 KV cache may help: "
            "--serve max_model_len=8192,kv_cache_dtype=fp8_e4m3.",
            field="placement",
        )
    base, candidate = fit.seats[0], fit.seats[-1]
    seats = {model.id: base if model.role == "base" else candidate for model in pair.models}
    changes = {model.id: _of_seat(pair.serve_of(model), seats[model.id]) for model in pair.models}
    placement = "alternately" if fit.verdict == "alternately" else "together"
    return _changed(pair.model_copy(update={"placement": placement}), changes, {k: s.gpus for k, s in seats.items()})


def fit_of(pair: PairProfile, memories: Sequence[ModelMemory], gpu_memory_bytes: Sequence[int], spread: Spread) -> Fit:
    """What the plan says for these GPUs, of which the smallest counts for all.

    Args:
        memories: of the base, and of its first candidate where there is one.
        gpu_memory_bytes: of each GPU.
    """
    model = pair.candidates[0] if pair.candidates else pair.base
    use, smallest = use_of(pair.serve_of(model), spread=spread), min(gpu_memory_bytes)
    if len(memories) == 1:
        return fit_alone(memories[0], use, smallest, len(gpu_memory_bytes))
    return fit_pair(memories[0], memories[1], use, smallest, len(gpu_memory_bytes))


def command_line(model_path: str, name: str, serve: ServeSettings, seat: Seat, users: int, kv_dtype: str | None) -> str:
    """vLLM's command of a seat, to be run in a shell by hand."""
    gpus = ",".join(map(str, seat.gpus))
    flags = [*model_flags(serve), *seat_flags(serve, seat, users, kv_dtype)]
    words = ["vllm", "serve", model_path, f"--served-model-name={name}", *flags]
    return f"CUDA_VISIBLE_DEVICES={gpus} {shlex.join(words)}"


def _of_seat(serve: ServeSettings, seat: Seat) -> dict[str, object]:
    return {
        "tensor_parallel_size": seat.grid.tensor,
        "pipeline_parallel_size": seat.grid.pipeline,
        "data_parallel_size": seat.grid.replicas,
        "gpu_memory_utilization": seat.share,
        "max_model_len": min(seat.context, serve.max_model_len),
    }


def _changed(
    pair: PairProfile, changes: Mapping[str, Mapping[str, object]], gpus: Mapping[str, tuple[int, ...]]
) -> PairProfile:
    """The pair with other settings of its models, checked as a file would be."""
    document = pair.model_dump(exclude_unset=True) | {"placement": pair.placement}
    for model, own in zip(pair.models, document["models"], strict=True):
        own["serve"] = {**own.get("serve", {}), **changes[model.id]}
        if model.id in gpus:
            own["gpus"] = gpus[model.id]
    try:
        for own in document["models"]:
            if own.get("gpus"):
                serve = ServeSettings.model_validate({**document.get("serve", {}), **own["serve"]})
                first = min(own["gpus"])
                if len(own["gpus"]) != serve.gpu_count:
                    own["gpus"] = tuple(range(first, first + serve.gpu_count))
        return PairProfile.model_validate(document)
    except ValidationError as exc:
        first_error = exc.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first_error["loc"] if isinstance(part, str)) or "serve"
        raise InputError(f"{name}: {first_error['msg']}.", _ACCEPTED, field="serve") from exc


def _value(text: str) -> Value:
    """As YAML would read it; what is left as text the schema reads."""
    if text == "null":
        return None
    return int(text[:20]) if text.isascii() and text.isdigit() else text


def _size(name: str, value: Value) -> int:
    if not isinstance(value, int) or not 1 <= value <= 64:
        raise InputError(f"{name} is a whole number.", "Accepted: 1 to 64.", field="serve")
    return value
