"""Memory of a model while it is served or quantized, and what fits where. Pure arithmetic; sizes in bytes.

Formulas: reference of the project, "Memory, disk and time". Beside weights and KV cache a vLLM process takes some
3 GiB (CUDA context, CUDA graphs, activations, the vision part's peak); ``Use.utilization`` keeps a share free.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from components.core.model_shape import (
    BYTES_16_BIT,
    GROUP_OF_SCHEME,
    Architecture,
    Linear,
    architecture_of,
    packed_bytes,
)

GIB = 1024**3
RESERVE_BYTES = 3 * GIB
_CONTEXT_AND_GRAPHS_BYTES = int(1.3 * GIB)
_FLOAT32 = 4
_WINDOW = 3  # copies of the largest matrix while a layer is quantized
_AUTOROUND_FACTOR = 10  # of one block, as AutoRound's documentation says
LEAST_CONTEXT = 8192  # tokens; with less, a few pictures and an answer don't fit, and the plan says "does not fit"
_CONTEXT_STEP = 16  # vLLM's block

# Of a GPU's memory, for the one that is up where engines take turns: the others' sleeping processes keep the rest, an
# estimate that no GPU has tried.
ALTERNATING_SHARE = 0.9

Arrangement = Literal["auto", "shared", "apart", "alternately"]
ARRANGEMENTS: tuple[Arrangement, ...] = get_args(Arrangement)
Verdict = Literal["together", "alternately", "base_only", "candidate_only", "fits", "no"]


@dataclass(frozen=True)
class WeightPart:
    """The weights of one part of a model in one type of number."""

    part: str
    dtype: str
    size_bytes: int


@dataclass(frozen=True)
class ModelMemory:
    """What a model weighs. ``source`` says how we know: its files' headers, the hub's, or published figures."""

    name: str
    parts: tuple[WeightPart, ...]
    architecture: Architecture
    source: Literal["files", "hub", "formula"]

    @property
    def weights_bytes(self) -> int:
        """Of all parts."""
        return sum(part.size_bytes for part in self.parts)


@dataclass(frozen=True)
class Spread:
    """How models are laid over GPUs, as far as a person says so.

    Attributes:
        arrangement: both on the same GPUs, each on its own, or one at a time; auto = the first of these that fits.
        tensor: GPUs that share every layer of a copy; None = the fewest that fit.
        pipeline: parts with whole layers that a copy is cut into.
        replicas: copies of the model, between which requests are divided.
    """

    arrangement: Arrangement = "auto"
    tensor: int | None = None
    pipeline: int = 1
    replicas: int = 1


@dataclass(frozen=True)
class Grid:
    """How one model lies on its GPUs; the three numbers are vLLM's options of these names."""

    tensor: int = 1
    pipeline: int = 1
    replicas: int = 1

    @property
    def per_copy(self) -> int:
        """GPUs of one copy."""
        return self.tensor * self.pipeline

    @property
    def gpus(self) -> int:
        """GPUs of all copies."""
        return self.per_copy * self.replicas


@dataclass(frozen=True)
class Use:
    """What a server shall do."""

    context: int  # tokens of one user, prompt and answer
    users: int = 1
    kv_bits: int = 16
    batched_tokens: int = 8192
    utilization: float = 0.95  # share of a GPU's memory that may be used
    spread: Spread = Spread()


@dataclass(frozen=True)
class Seat:
    """Where one model is served, and what it takes on each of its GPUs."""

    model: str
    gpus: tuple[int, ...]
    weights_bytes: int  # on each GPU, like the other two
    kv_bytes: int
    reserve_bytes: int
    context: int  # tokens that each of the users gets; less than asked for where memory is short
    share: float  # gpu_memory_utilization
    grid: Grid = Grid()


@dataclass(frozen=True)
class Fit:
    """What can be done with some GPUs of one kind."""

    verdict: Verdict
    seats: tuple[Seat, ...] = ()
    shared: bool = False  # both models on the same GPUs at the same time

    @property
    def tensor_parallel(self) -> int:
        """GPUs of the widest model; 0 where nothing fits."""
        return max((seat.grid.tensor for seat in self.seats), default=0)

    @property
    def gpus_of_widest(self) -> int:
        """GPUs that the widest model stands on."""
        return max((len(seat.gpus) for seat in self.seats), default=0)


def memory_of_figures(name: str, figures: Mapping[str, Any], scheme: str) -> ModelMemory:
    """From published figures (assets/published/models.yaml): the decoder's matrices in the scheme, the rest in 16 bits.

    Raises:
        InputError: a figure is missing; names it.
    """
    model = architecture_of(figures)
    matrices, table = model.layer_matrices(), BYTES_16_BIT * model.vocabulary * model.hidden
    if scheme == "BF16":
        decoder = float(BYTES_16_BIT * sum(matrix.weights for matrix in matrices))
    else:
        group = GROUP_OF_SCHEME.get(scheme)
        decoder = sum(packed_bytes(matrix, scheme, group, zero_points=False) for matrix in matrices)
    parts = [WeightPart("decoder layers", scheme, int(model.layers * decoder)), WeightPart("embeddings", "BF16", table)]
    if not figures["tied_head"]:
        parts.append(WeightPart("lm_head", "BF16", table))
    if figures["other_parameters"]:
        vision = BYTES_16_BIT * figures["other_parameters"]
        parts.append(WeightPart("vision tower and projector", "BF16", vision))
    return ModelMemory(name, tuple(parts), model, "formula")


def kv_bytes_per_token(model: Architecture, bits: int = 16, tensor_parallel: int = 1) -> float:
    """Keys and values of one token in all layers, on each of the GPUs; where heads are too few they are copied."""
    heads = max(1.0, model.kv_heads / tensor_parallel)
    return 2 * model.layers * heads * model.head_dim * bits / 8


def image_tokens(width: int, height: int, limit: int, patch: int) -> int:
    """Tokens of a picture as mistral-common counts them.

    Args:
        limit: pixels to which the longer side is scaled down.
        patch: pixels of a side that become one token (patch size times spatial merge).
    """
    scale = max(width / limit, height / limit, 1.0)
    columns = math.ceil(int(width / scale) / patch)
    return (columns + 1) * math.ceil(int(height / scale) / patch)


def activation_bytes(model: Architecture, batched_tokens: int) -> int:
    """Of the widest layer, for the tokens computed in one step."""
    return batched_tokens * (2 * model.intermediate + 4 * model.hidden) * BYTES_16_BIT


def reserve_bytes(model: Architecture, batched_tokens: int) -> int:
    """Beside weights and KV cache, of one vLLM process."""
    return max(RESERVE_BYTES, _CONTEXT_AND_GRAPHS_BYTES + activation_bytes(model, batched_tokens))


def calibration_cache_bytes(tokens: int, hidden: int, copies: int = 1) -> int:
    """What a tool keeps of all calibration tokens between two layers, in the host's memory."""
    return tokens * hidden * BYTES_16_BIT * copies


def hessian_bytes(layer: Iterable[Linear]) -> int:
    """GPTQ's second moments of one layer: inputs squared, 32 bits each."""
    return sum(matrix.columns**2 for matrix in layer) * _FLOAT32


def layer_work_bytes(layer: Iterable[Linear], method: str) -> int:
    """What quantizing one decoder layer takes beside the model; 0 for no layer."""
    matrices = list(layer)
    if not matrices:
        return 0
    weights = sum(matrix.weights for matrix in matrices) * BYTES_16_BIT
    if method == "autoround":
        return _AUTOROUND_FACTOR * weights
    hessians = hessian_bytes(matrices) if "gptq" in method else 0
    return weights + hessians + _WINDOW * max(matrix.weights for matrix in matrices) * _FLOAT32


def fit_alone(model: ModelMemory, use: Use, memory_bytes: int, gpus: int, *, first: int = 0) -> Fit:
    """One model on up to ``gpus`` GPUs: the fewest that hold the whole context, else the most context there is."""
    room, grids = int(memory_bytes * use.utilization), _grids(model, use, gpus)
    seats = [seat for grid in grids if (seat := _seat(model, use, room, use.utilization, grid, first))]
    whole = [seat for seat in seats if seat.context >= use.context]
    best = whole[0] if whole else max(seats, key=lambda seat: seat.context, default=None)
    return Fit("fits", (best,)) if best else Fit("no")


def fit_pair(base: ModelMemory, candidate: ModelMemory, use: Use, memory_bytes: int, gpus: int) -> Fit:
    """Both models on ``gpus`` GPUs of ``memory_bytes`` each.

    In this order: each on GPUs of its own or both on the same, with the whole context; the same with less of it; one
    after the other; one of them alone; none. Where ``use.spread`` names an arrangement, that or none.
    """
    wanted = use.spread.arrangement
    makers = [make for name, make in (("apart", _apart), ("shared", _shared)) if wanted in ("auto", name)]
    found = [make(base, candidate, use, memory_bytes, gpus) for make in makers]
    together = [fit for fit in found if fit is not None]
    whole = [fit for fit in together if all(seat.context >= use.context for seat in fit.seats)]
    if together:
        return (whole or together)[0]
    if wanted in ("apart", "shared"):
        return Fit("no")
    in_turn = replace(use, utilization=min(use.utilization, ALTERNATING_SHARE))
    one, other = (fit_alone(model, in_turn, memory_bytes, gpus) for model in (base, candidate))
    if one.seats and other.seats:
        return Fit("alternately", (*one.seats, *other.seats))
    if wanted == "alternately":
        return Fit("no")
    if one.seats:
        return Fit("base_only", one.seats)
    return Fit("candidate_only", other.seats) if other.seats else Fit("no")


def room_for_kv_bytes(models: Iterable[ModelMemory], use: Use, memory_bytes: int, tensor_parallel: int = 1) -> int:
    """What is left on each GPU for the KV caches of models that share it; negative where they don't fit."""
    return int(memory_bytes * use.utilization) - sum(_fixed_bytes(model, use, tensor_parallel) for model in models)


def _fixed_bytes(model: ModelMemory, use: Use, width: int) -> int:
    return math.ceil(model.weights_bytes / width) + reserve_bytes(model.architecture, use.batched_tokens)


def _grids(model: ModelMemory, use: Use, gpus: int) -> list[Grid]:
    """What may be tried on so many GPUs, the fewest first."""
    spread, shape = use.spread, model.architecture
    widths = (1, 2, 4, 8, 16) if spread.tensor is None else (spread.tensor,)
    if spread.pipeline > shape.layers:
        return []
    grids = [Grid(width, spread.pipeline, spread.replicas) for width in widths if shape.splits_over(width)]
    return [grid for grid in grids if grid.gpus <= gpus]


def _kv_bytes(model: ModelMemory, use: Use, grid: Grid) -> float:
    """Of one token on each GPU; the first part of a pipeline has the most layers."""
    layers = model.architecture.layers
    of_all = kv_bytes_per_token(model.architecture, use.kv_bits, grid.tensor)
    return of_all * math.ceil(layers / grid.pipeline) / layers


def _seat(model: ModelMemory, use: Use, room_bytes: int, share: float, grid: Grid, first: int = 0) -> Seat | None:
    """A model in ``room_bytes`` of each GPU of a grid, from ``first`` on; None where it does not fit."""
    reserve = reserve_bytes(model.architecture, use.batched_tokens)
    left = room_bytes - _fixed_bytes(model, use, grid.per_copy)
    per_token = _kv_bytes(model, use, grid) * math.ceil(use.users / grid.replicas)
    context = min(use.context, int(max(left, 0) / per_token) // _CONTEXT_STEP * _CONTEXT_STEP)
    if context < min(use.context, LEAST_CONTEXT):
        return None
    gpus, weights = tuple(range(first, first + grid.gpus)), math.ceil(model.weights_bytes / grid.per_copy)
    return Seat(model.name, gpus, weights, math.ceil(context * per_token), reserve, context, share, grid)


def _apart(base: ModelMemory, candidate: ModelMemory, use: Use, memory_bytes: int, gpus: int) -> Fit | None:
    """Each on GPUs of its own: the split that leaves the most context, the base on as few as that allows."""
    found: list[Fit] = []
    for grid in _grids(base, use, gpus - 1):
        one = _seat(base, use, int(memory_bytes * use.utilization), use.utilization, grid)
        other = fit_alone(candidate, use, memory_bytes, gpus - grid.gpus, first=grid.gpus)
        found += [Fit("together", (one, *other.seats))] if one and other.seats else []
    return max(found, key=_least_context, default=None)


def _shared(base: ModelMemory, candidate: ModelMemory, use: Use, memory_bytes: int, gpus: int) -> Fit | None:
    """Both on the same GPUs with the same context, on as few as hold the most of it."""
    found: list[Fit] = []
    for grid in set(_grids(base, use, gpus)) & set(_grids(candidate, use, gpus)):
        room = room_for_kv_bytes((base, candidate), use, memory_bytes, grid.per_copy)
        tokens = [_kv_bytes(model, use, grid) for model in (base, candidate)]
        seats = []
        for model, per_token in zip((base, candidate), tokens, strict=True):
            own = _fixed_bytes(model, use, grid.per_copy) + int(max(room, 0) * per_token / sum(tokens))
            # Rounded down: two shares that together are more than the limit would be refused.
            share = math.floor(100 * own / memory_bytes) / 100
            seats += [seat] if room > 0 and (seat := _seat(model, use, own, share, grid)) else []
        found += [Fit("together", tuple(seats), shared=True)] if len(seats) == 2 else []
    return max(found, key=lambda fit: (_least_context(fit), -fit.gpus_of_widest), default=None)


def _least_context(fit: Fit) -> int:
    return min(seat.context for seat in fit.seats)
