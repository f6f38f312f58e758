"""What a job needs, by formula: memory, disk, time. Pure; every figure says what it rests on."""

from __future__ import annotations

from dataclasses import dataclass

from components.core.jobs import JobNeeds
from components.core.memory_plan import GIB, calibration_cache_bytes, layer_work_bytes
from components.core.model_shape import Linear
from components.profiles.recipe import RecipeProfile
from components.quantize.shapes import ModelShape, quantized_linears, size_after_bytes

_TOOL_BYTES = int(0.8 * GIB)  # the interpreter with torch and the tool; 0.5 to 0.75 GiB were seen
# Seconds that don't depend on the model: the tool's start, two servers' starts and their questions, on two cores.
_TOOL_START_S, CHECK_S = 12.0, 75.0
_BYTES_PER_S = 200e6  # read, round and write again
# Share of a plain matrix product's speed that the tools reach on a CPU; from the embedded model's measured times.
_EFFICIENCY = 0.15


@dataclass(frozen=True)
class Work:
    """What decides the cost of a job."""

    shape: ModelShape
    recipe: RecipeProfile
    server_bytes: int  # one server of the check, beside the weights
    counted_tokens: int | None = None  # of the calibration data, where it could be read

    @property
    def tokens(self) -> int:
        """Of the calibration data; what the recipe asks for at most where it could not be read."""
        if self.counted_tokens is not None:
            return self.counted_tokens
        calibration = self.recipe.calibration
        if calibration is None or not self.recipe.reads_data:
            return 0
        return calibration.samples * calibration.max_seq_length


def needs_of(work: Work, *, on_gpu: bool, emulate: bool) -> JobNeeds:
    """Memory at the peak and disk of a job."""
    shape, recipe = work.shape, work.recipe
    before, after = shape.size_bytes, size_after_bytes(shape, recipe)
    cache = calibration_cache_bytes(work.tokens, shape.hidden, copies=2 if recipe.method == "autoround" else 1)
    host = before + cache + _TOOL_BYTES
    layer = layer_work_bytes(_one_layer(shape, recipe), recipe.method)
    check = 2 * work.server_bytes + before + after
    disk = 2 * before + 2 * after + (2 * before if emulate else 0)
    if on_gpu:
        return JobNeeds(memory_bytes=host, gpu_memory_bytes=max(layer + GIB, before + after), disk_bytes=disk)
    return JobNeeds(memory_bytes=max(host + layer, check), disk_bytes=disk)


def _one_layer(shape: ModelShape, recipe: RecipeProfile) -> list[Linear]:
    return [one for one in quantized_linears(shape, recipe) if "layers.0." in one.name and "vision" not in one.name]


def seconds_of(work: Work, flops_per_s: float) -> float:
    """The whole job on a CPU that multiplies matrices at that speed.

    GPTQ: two passes of all tokens and a Hessian per matrix. AutoRound: forward and backward of a block per step.
    """
    shape, recipe = work.shape, work.recipe
    linears = quantized_linears(shape, recipe)
    weights = sum(one.weights for one in linears)
    operations = 0.0
    if recipe.method == "autoround" and recipe.calibration is not None:
        per_step = recipe.calibration.batch_size * recipe.calibration.max_seq_length
        operations = 6.0 * weights * per_step * recipe.iterations
    elif recipe.reads_data:
        operations = 4.0 * weights * work.tokens + 2.0 * work.tokens * sum(one.columns**2 for one in linears)
    moved = (shape.size_bytes + size_after_bytes(shape, recipe)) / _BYTES_PER_S
    return _TOOL_START_S + CHECK_S + moved + operations / (flops_per_s * _EFFICIENCY)
