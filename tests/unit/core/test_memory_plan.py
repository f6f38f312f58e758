"""The worked numbers of the project's reference (quantize_bench, "Memory, disk and time"), within 5 %."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from components.core.errors import InputError
from components.core.memory_plan import (
    GIB,
    LEAST_CONTEXT,
    ModelMemory,
    Use,
    activation_bytes,
    calibration_cache_bytes,
    fit_alone,
    fit_pair,
    hessian_bytes,
    image_tokens,
    kv_bytes_per_token,
    layer_work_bytes,
    memory_of_figures,
    room_for_kv_bytes,
)
from components.core.model_shape import Linear, architecture_of, packed_bytes

ROOT = Path(__file__).parents[3]
FIGURES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "assets/published/models.yaml").read_text())
SMALL = FIGURES["mistralai/Mistral-Small-3.2-24B-Instruct-2506"]
LARGE = FIGURES["neuralmagic/Pixtral-Large-Instruct-2411-hf"]
TWELVE = FIGURES["mgoin/pixtral-12b"]


def within_5_percent(value: float) -> Any:
    return pytest.approx(value, rel=0.05)


def small(scheme: str) -> ModelMemory:
    return memory_of_figures(scheme, SMALL, scheme)


@pytest.mark.parametrize(
    ("figures", "scheme", "gib"),
    [
        (SMALL, "BF16", 44.72), (SMALL, "W8A8", 24.03), (SMALL, "FP8-Dynamic", 24.03), (SMALL, "NVFP4A16", 14.96),
        (SMALL, "W4A16", 13.99), (LARGE, "BF16", 248e9 / GIB), (LARGE, "W8A8", 126.5e9 / GIB),
        (LARGE, "W4A16", 67.5e9 / GIB), (TWELVE, "BF16", 23.6),
    ],
)  # fmt: skip
def test_weights(figures: dict[str, Any], scheme: str, gib: float) -> None:
    assert memory_of_figures("m", figures, scheme).weights_bytes / GIB == within_5_percent(gib)


def test_card_002_and_004_name_the_same_sizes() -> None:
    """Shards of 2.9 + 2.9 + 2.9 + 2.9 + 2.7 GB, and one file of about 15.0 GB, which are GiB by the reference."""
    assert small("W4A16").weights_bytes / GIB == within_5_percent(14.07)
    assert small("NVFP4A16").weights_bytes / GIB == within_5_percent(15.0)


def test_parts_add_up_and_say_their_type() -> None:
    parts = {part.part: part for part in small("W4A16").parts}
    assert parts["decoder layers"].dtype == "W4A16"
    assert {parts[name].dtype for name in ("embeddings", "lm_head", "vision tower and projector")} == {"BF16"}
    assert parts["embeddings"].size_bytes == parts["lm_head"].size_bytes == 2 * 131072 * 5120
    assert small("W4A16").weights_bytes == sum(part.size_bytes for part in small("W4A16").parts)


@pytest.mark.parametrize(
    ("figures", "bits", "kib"), [(SMALL, 16, 160), (SMALL, 8, 80), (LARGE, 16, 352), (TWELVE, 16, 160)]
)
def test_kv_bytes_of_a_token(figures: dict[str, Any], bits: int, kib: int) -> None:
    model = architecture_of(figures)
    assert kv_bytes_per_token(model, bits) == kib * 1024
    assert kv_bytes_per_token(model, bits, 4) == kib * 256
    assert kv_bytes_per_token(model, bits, 16) == kib * 128, "8 heads on 16 GPUs: each GPU keeps a whole one"


@pytest.mark.parametrize(
    ("width", "height", "tokens"),
    [(1680, 2240, (2365, 1073, 3136)), (640, 480, (432, 432, 1230)), (480, 360, (247, 247, 713))],
)
def test_picture_tokens(width: int, height: int, tokens: tuple[int, int, int]) -> None:
    found = tuple(image_tokens(width, height, limit, patch) for limit, patch in ((1540, 28), (1024, 28), (1024, 16)))
    assert found == tokens


def test_activations_and_calibration() -> None:
    model = architecture_of(SMALL)
    assert activation_bytes(model, 8192) / GIB == within_5_percent(1.3)
    assert calibration_cache_bytes(512 * 2048, model.hidden) / GIB == 10.0
    assert calibration_cache_bytes(512 * 2048, LARGE["hidden_size"]) / GIB == 24.0
    hessians = [hessian_bytes(architecture_of(f).layer_matrices()) / GIB for f in (SMALL, LARGE, TWELVE)]
    assert hessians == [within_5_percent(4.55), within_5_percent(6.4), within_5_percent(1.3)]
    assert 10 < layer_work_bytes(model.layer_matrices(), "autoround") / GIB < 12
    assert layer_work_bytes((), "gptq") == 0


@pytest.mark.parametrize(
    ("memory_gib", "scheme", "left_gib"),
    [
        (79.65, "W8A8", 0.92), (79.65, "W4A16", 10.9), (79.65, "NVFP4A16", 9.9), (95.6, "W8A8", 16.1),
        (95.6, "W4A16", 26.1), (95.6, "NVFP4A16", 25.1), (139.8, "W8A8", 58.1), (139.8, "W4A16", 68.1),
        (139.8, "NVFP4A16", 67.1),
    ],
)  # fmt: skip
def test_room_beside_both_models(memory_gib: float, scheme: str, left_gib: float) -> None:
    left = room_for_kv_bytes((small("BF16"), small(scheme)), Use(context=8192), int(memory_gib * GIB))
    assert left / GIB == within_5_percent(left_gib)


def test_tokens_in_that_room() -> None:
    """80 GB beside W4A16: 71k tokens in 16 bits, 143k in FP8, shared by both; one H200: 446k."""
    fit = fit_pair(small("BF16"), small("W4A16"), Use(context=131072), int(79.65 * GIB), 1)
    assert (fit.verdict, fit.shared) == ("together", True)
    assert sum(seat.context for seat in fit.seats) == within_5_percent(71_000)
    fit = fit_pair(small("BF16"), small("W4A16"), Use(context=131072, kv_bits=8), int(79.65 * GIB), 1)
    assert sum(seat.context for seat in fit.seats) == within_5_percent(143_000)
    fit = fit_pair(small("BF16"), small("W4A16"), Use(context=1_000_000), int(139.8 * GIB), 1)
    assert sum(seat.context for seat in fit.seats) == within_5_percent(446_000)


def test_verdicts() -> None:
    use = Use(context=32768)
    base, candidate = small("BF16"), small("W8A8")
    assert fit_pair(base, candidate, use, int(79.65 * GIB), 1).verdict == "alternately", "0.9 GiB are no KV cache"
    assert fit_pair(base, candidate, use, int(79.65 * GIB), 2).verdict == "together"
    assert fit_pair(base, small("W4A16"), use, int(44.42 * GIB), 1).verdict == "candidate_only"
    assert fit_alone(base, use, int(44.42 * GIB), 1).verdict == "no", "44.7 GiB of weights on a 48 GB card"
    two = fit_alone(base, use, int(44.42 * GIB), 2)
    assert (two.verdict, two.tensor_parallel) == ("fits", 2)
    assert fit_pair(base, candidate, use, int(10 * GIB), 1).verdict == "no"
    twelve = memory_of_figures("12b", TWELVE, "BF16")
    alone = fit_alone(twelve, Use(context=131072), int(31.84 * GIB), 1)
    assert alone.seats[0].kv_bytes / GIB == pytest.approx(4, rel=0.15), "the reference says about 4 GiB"


def test_no_seat_takes_more_than_it_may() -> None:
    for memory_gib in (23.64, 31.84, 44.42, 79.65, 95.6, 139.8):
        for gpus in (1, 2, 4, 8):
            for scheme in ("W8A8", "W4A16", "NVFP4A16"):
                for users in (1, 16):
                    use = Use(context=65536, users=users)
                    fit = fit_pair(small("BF16"), small(scheme), use, int(memory_gib * GIB), gpus)
                    on_gpu: dict[int, int] = {}
                    for seat in fit.seats if fit.verdict == "together" else fit.seats[:1]:
                        for gpu in seat.gpus:
                            taken = seat.weights_bytes + seat.kv_bytes + seat.reserve_bytes
                            on_gpu[gpu] = on_gpu.get(gpu, 0) + taken
                    assert all(gpu < gpus for gpu in on_gpu)
                    assert all(taken <= 0.95 * memory_gib * GIB for taken in on_gpu.values())
                    if fit.shared:
                        assert sum(seat.share for seat in fit.seats) <= 0.95 + 1e-9
                    assert all(LEAST_CONTEXT <= seat.context <= 65536 for seat in fit.seats)


@pytest.mark.parametrize(
    ("scheme", "group", "zero_points", "bits"),
    [
        ("W8A8", None, False, 8.003), ("FP8-Dynamic", None, False, 8.003), ("W4A16", 128, False, 4.125),
        ("W4A16", 128, True, 4.156), ("NVFP4A16", 16, False, 4.5), ("MXFP4", 32, False, 4.25),
    ],
)  # fmt: skip
def test_bits_of_a_weight(scheme: str, group: int | None, zero_points: bool, bits: float) -> None:
    matrix = Linear("m", 5120, 5120)
    found = 8 * packed_bytes(matrix, scheme, group, zero_points=zero_points) / matrix.weights
    assert found == pytest.approx(bits, abs=0.001)


def test_architecture_of_every_kind_of_configuration() -> None:
    params = {"dim": 5120, "n_layers": 40, "hidden_dim": 32768, "n_heads": 32, "n_kv_heads": 8, "head_dim": 128,
              "vocab_size": 131072, "vision_encoder": {"patch_size": 14, "spatial_merge_size": 2}}  # fmt: skip
    assert architecture_of(params) == architecture_of(SMALL)
    config = {"text_config": {"model_type": "mistral", "hidden_size": 5120, "num_hidden_layers": 40, "head_dim": 128,
                              "intermediate_size": 14336, "num_key_value_heads": 8, "vocab_size": 131072},
              "vision_config": {"patch_size": 16}}  # fmt: skip
    assert architecture_of(config) == architecture_of(TWELVE)
    with pytest.raises(InputError, match="num_hidden_layers") as raised:
        architecture_of({"hidden_size": 4})
    assert raised.value.field == "model"
