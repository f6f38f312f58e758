"""Which GPUs an engine gets, and which share of their memory. Pure arithmetic over a profile; asks no driver.

GPUs that a profile names are taken as they are. Else, enough GPUs for base and candidate: each has its own, with the
profile's whole share. Too few: both stand on the same ones and split that share by the size of their weights. Where the
profile says ``alternately``, each has all of it, one at a time. What really fits is vLLM's to say when it loads.
"""

from __future__ import annotations

from dataclasses import dataclass

from components.core.memory_plan import ALTERNATING_SHARE
from components.profiles.schema import ModelProfile, PairProfile

# Bits of a weight by scheme, scales included; only their ratio matters here.
_WEIGHT_BITS = {
    "BF16": 16.0,
    "W8A8": 8.5,
    "W8A16": 8.5,
    "FP8-Dynamic": 8.5,
    "W4A16": 4.5,
    "NVFP4A16": 4.5,
    "NVFP4": 4.5,
    "MXFP4": 4.5,
}
SLEEPING_SHARE = 0.04  # of a GPU's memory: what a sleeping vLLM keeps, 1 to 3 GB; an estimate, not yet tried on a GPU
_LEAST_SHARE = 0.25  # of the split: a 4-bit model still needs its KV cache, and its vision part in 16 bits


@dataclass(frozen=True)
class Placement:
    """Where one engine runs.

    Attributes:
        device: engines of one device start one after the other and share its memory.
        gpus: indices for CUDA_VISIBLE_DEVICES.
        share: gpu_memory_utilization on each of them, 0 to 1.
    """

    device: str
    gpus: tuple[int, ...]
    share: float


def place(pair: PairProfile, model: ModelProfile, gpu_count: int) -> Placement:
    """The placement of one model of a pair on a machine with ``gpu_count`` GPUs."""
    serve, base = pair.serve_of(model), pair.serve_of(pair.base)
    wanted = serve.gpu_memory_utilization
    if pair.placement == "alternately":  # one device, whatever GPUs each stands on: only one is up
        return Placement("cuda:0", model.gpus or tuple(range(serve.gpu_count)), min(wanted, ALTERNATING_SHARE))
    if model.gpus:
        return Placement(f"cuda:{min(model.gpus)}", model.gpus, wanted)
    widest = max((pair.serve_of(candidate).gpu_count for candidate in pair.candidates), default=0)
    if gpu_count >= base.gpu_count + widest:
        first = 0 if model.role == "base" else base.gpu_count
        gpus = tuple(range(first, first + serve.gpu_count))
        return Placement(f"cuda:{first}", gpus, wanted)
    gpus = tuple(range(serve.gpu_count))
    if wanted <= 0.5 or not pair.candidates:
        return Placement("cuda:0", gpus, wanted)
    share = _candidate_share(pair, model if model.role == "candidate" else pair.candidates[0])
    return Placement("cuda:0", gpus, round(wanted * (share if model.role == "candidate" else 1.0 - share), 2))


def _candidate_share(pair: PairProfile, candidate: ModelProfile) -> float:
    base, own = _WEIGHT_BITS[pair.base.scheme], _WEIGHT_BITS[candidate.scheme]
    return max(_LEAST_SHARE, own / (base + own))
