"""The profiles that ship: all load, agree with the cards, say what they are, and invent no number."""

from __future__ import annotations

import pytest
from regenerate import README, ROOT, readme_text

from components.profiles.loader import list_pairs, load_hardware, load_pair
from components.profiles.schema import HubSource

PROFILES = ROOT / "profiles"
PAIRS = {"embedded", "smollm2-135m", "mistral-small-3.2-24b", "pixtral-large-2411", "pixtral-12b"}


def test_every_shipped_profile_loads() -> None:
    for found in (list_pairs(PROFILES), load_hardware(PROFILES)):
        assert found[0]
        assert found[1] == ()
    assert {pair.id for pair in list_pairs(PROFILES)[0]} == PAIRS


def test_the_readme_is_in_step_with_the_schema() -> None:
    """After a wanted change: PYTHONPATH=. .venv/bin/python tests/unit/profiles/regenerate.py, then review."""
    assert README.read_text(encoding="utf-8") == readme_text()


def test_the_embedded_pair() -> None:
    pair = load_pair(PROFILES, "embedded")
    assert [model.id for model in (pair.base, *pair.candidates)] == ["base", "w4a16", "w8a8", "coarse"]
    assert "Deliberately bad" in pair.model("coarse").description
    assert (pair.max_image_size, pair.max_images, pair.sampling.temperature) == (112, 4, 0.0)


def test_the_text_pair_says_that_its_base_is_a_dequantized_file() -> None:
    assert "dequantized Q4_1" in load_pair(PROFILES, "smollm2-135m").description


def test_mistral_small_is_served_as_on_the_cards() -> None:
    pair = load_pair(PROFILES, "mistral-small-3.2-24b")
    for model in pair.models:
        serve = pair.serve_of(model)
        assert (serve.tokenizer_mode, serve.config_format, serve.dtype) == ("mistral", "mistral", "bfloat16")
        assert (serve.max_model_len, serve.max_num_batched_tokens, serve.max_num_seqs) == (131072, 8192, 32)
        assert (serve.kv_cache_dtype, serve.gpu_memory_utilization) == ("fp8_e4m3", 0.96)
        assert (serve.tool_call_parser, serve.enable_auto_tool_choice) == ("mistral", True)
        assert serve.disable_custom_all_reduce
        assert model.prepare != "none", "the pair's image limit is written into each folder"
    assert pair.serve_of(pair.base).load_format == "mistral"
    assert (pair.sampling.temperature, pair.max_images) == (0.15, 4)


@pytest.mark.parametrize("name", ["pixtral-12b", "pixtral-large-2411"])
def test_pixtral_is_served_as_on_the_card(name: str) -> None:
    pair = load_pair(PROFILES, name)
    for model in pair.models:
        serve = pair.serve_of(model)
        assert (serve.max_model_len, serve.max_num_seqs, serve.gpu_memory_utilization) == (25000, 8, 0.9)
        assert (serve.dtype, serve.load_format, serve.config_format) == ("float16", "safetensors", "hf")
    assert (pair.sampling.temperature, pair.max_images, pair.max_image_size) == (0.2, 7, 1024)


def test_pixtral_large_has_the_gpus_of_the_card() -> None:
    pair = load_pair(PROFILES, "pixtral-large-2411")
    gpus = {model.scheme: pair.serve_of(model).tensor_parallel_size for model in pair.models}
    assert gpus == {"BF16": 4, "W8A8": 2, "W4A16": 2, "FP8-Dynamic": 2}


def test_no_shipped_profile_runs_foreign_code() -> None:
    for pair in list_pairs(PROFILES)[0]:
        assert not any(pair.serve_of(model).trust_remote_code for model in pair.models)


def test_pictures_of_examples_are_there() -> None:
    for pair in list_pairs(PROFILES)[0]:
        for example in pair.examples:
            assert example.image is None or (ROOT / example.image).is_file(), example.image


def test_repositories_are_named_once_in_a_pair() -> None:
    for pair in list_pairs(PROFILES)[0]:
        names = [model.source.repo_id for model in pair.models if isinstance(model.source, HubSource)]
        assert len(names) == len(set(names))


def test_only_the_prices_that_the_cards_imply_are_given() -> None:
    prices = {
        hardware.id: (hardware.price_usd_per_hour, str(hardware.price_date))
        for hardware in load_hardware(PROFILES)[0]
        if hardware.price_usd_per_hour is not None
    }
    assert prices == {"a100-80gb": (1.79, "2025-02-18"), "h100-80gb": (3.19, "2025-02-18")}
