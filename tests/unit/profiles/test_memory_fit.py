"""The plan says what the published cards say of their hardware."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from components.core.memory_plan import GIB, fit_alone, memory_of_figures
from components.profiles.argv import capacity_flags
from components.profiles.loader import list_pairs, load_hardware, load_pair
from components.profiles.memory_fit import GPU_COUNTS, HardwareFit, hardware_fit, hardware_table, use_of
from components.profiles.schema import PairProfile

ROOT = Path(__file__).parents[3]
PROFILES = ROOT / "profiles"
FIGURES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "assets/published/models.yaml").read_text())
CARDS = list(yaml.safe_load((ROOT / "assets/published/figures.yaml").read_text())["cards"].values())
HARDWARE = {one.id: one for one in load_hardware(PROFILES)[0]}
SIZES = [24, 32, 48, 80, 96, 141]


def planned(pair: PairProfile, model_id: str) -> tuple[Any, Any]:
    model, base = pair.model(model_id), pair.base
    figures = FIGURES[base.source.repo_id]  # type: ignore[union-attr]
    return memory_of_figures(pair.engine_id(model), figures, model.scheme), pair.serve_of(model)


def table_of(pair: PairProfile, *model_ids: str) -> dict[tuple[int | None, int], HardwareFit]:
    models = [planned(pair, model_id) for model_id in model_ids]
    cells = hardware_table(models, use_of(models[-1][1]), list(HARDWARE.values()))
    return {(cell.hardware.sold_as_gb, cell.gpus): cell for cell in cells}


@pytest.mark.parametrize("pair_id", ["mistral-small-3.2-24b", "pixtral-12b", "pixtral-large-2411"])
def test_the_cards_models_on_every_size_and_count(pair_id: str) -> None:
    pair = load_pair(PROFILES, pair_id)
    rank = {"no": 0, "candidate_only": 1, "base_only": 1, "alternately": 2, "together": 3}
    for candidate in pair.candidates:
        cells = table_of(pair, "base", candidate.id)
        assert sorted(cells) == [(size, count) for size in SIZES for count in GPU_COUNTS]
        for size in SIZES:
            ranks = [rank[cells[size, count].fit.verdict] for count in GPU_COUNTS]
            assert ranks == sorted(ranks), "more GPUs never do less"
        assert cells[141, 8].fit.verdict == "together"


def test_card_001_the_gpus_of_its_speed_table() -> None:
    """A100 and H100 of 80 GB: the base on four, each quantized version on two."""
    pair = load_pair(PROFILES, "pixtral-large-2411")
    card = next(card for card in CARDS if card["id"] == "pixtral-large-2411-w8a8")
    ids = {"base": "base", "w8a8": "w8a8", "w4a16": "w4a16", "fp8_dynamic": "fp8-dynamic"}
    for row in card["performance"]["single_stream"]["rows"]:
        models = [planned(pair, ids[row["scheme"]])]
        hardware = HARDWARE[f"{row['hardware'].lower()}-80gb"]
        fit = hardware_fit(models, use_of(models[0][1]), hardware, 8).fit
        assert fit.tensor_parallel == row["num_gpus"], row["model"]
        assert fit.seats[0].context == 25000


@pytest.mark.parametrize(("card_id", "model_id"), [(1, "w4a16-autoround"), (2, "nvfp4a16")])
def test_cards_002_and_004_their_hardware_table(card_id: int, model_id: str) -> None:
    pair = load_pair(PROFILES, "mistral-small-3.2-24b")
    memory, serve = planned(pair, model_id)
    told = CARDS[card_id]["hardware"]
    assert {row["vram_gb"] for row in told["recommendations"]} == {96, 32}
    for row in told["recommendations"]:
        own = serve.model_copy(update={"gpu_memory_utilization": row["gpu_memory_utilization"]})
        hardware = next(one for one in HARDWARE.values() if one.sold_as_gb == row["vram_gb"])
        with_fp8 = hardware_fit([(memory, own)], use_of(own, kv_dtype="fp8_e4m3"), hardware, 1).fit
        assert with_fp8.seats[0].context == row["max_model_len"]
        without = hardware_fit([(memory, own)], use_of(own, kv_dtype="auto"), hardware, 1).fit
        optional = "optional" in row["kv_cache_dtype"]
        assert (without.seats[0].context == row["max_model_len"]) == optional, "FP8 is optional where 16 bits fit too"
    least = hardware_fit([(memory, serve)], use_of(serve), HARDWARE["rtx-4090"], 1).fit
    assert told["minimum"]["vram_gb"] == HARDWARE["rtx-4090"].sold_as_gb
    assert 8192 <= least.seats[0].context < 131072, "with FP8 KV cache and reduced context"


def test_the_reference_on_32_gb() -> None:
    """0.96 · 31.84 - 14.07 - 3 = 13.5 GiB = 177k tokens in FP8."""
    memory, serve = planned(load_pair(PROFILES, "mistral-small-3.2-24b"), "w4a16-autoround")
    use = use_of(serve, context=1_000_000)
    seat = fit_alone(memory, use, int(31.84 * GIB), 1).seats[0]
    assert seat.context == pytest.approx(177_000, rel=0.05)


def test_profiles_ask_for_the_gpus_that_the_plan_finds() -> None:
    """tensor_parallel_size of every hub pair is what the plan finds on the 80 GB GPUs of card 001."""
    for pair in list_pairs(PROFILES)[0]:
        if pair.base.source.kind != "hub":
            continue
        for model in pair.models:
            models = [planned(pair, model.id)]
            fit = hardware_fit(models, use_of(models[0][1]), HARDWARE["h100-80gb"], 8).fit
            assert fit.tensor_parallel == pair.serve_of(model).tensor_parallel_size, pair.engine_id(model)


def test_flags_are_those_of_the_command_line() -> None:
    cell = table_of(load_pair(PROFILES, "mistral-small-3.2-24b"), "base", "nvfp4a16")[96, 1]
    pair = load_pair(PROFILES, "mistral-small-3.2-24b")
    for seat, flags, model in zip(cell.fit.seats, cell.flags, (pair.base, pair.model("nvfp4a16")), strict=True):
        serve = pair.serve_of(model).model_copy(update={"gpu_memory_utilization": seat.share})
        assert list(flags) == capacity_flags(serve, "cuda")
        assert f"--gpu-memory-utilization={seat.share}" in flags
