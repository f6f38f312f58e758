"""GPUs of a pair: side by side where there are enough, else a split that never asks for more than there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.engines.placement import place
from components.profiles.loader import load_pair

PROFILES = Path(__file__).resolve().parents[3] / "profiles"
PAIRS = ("mistral-small-3.2-24b", "pixtral-12b", "pixtral-large-2411", "embedded")


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("gpus", [1, 2, 4, 6, 8])
def test_base_and_any_one_candidate_never_ask_for_more_than_there_is(name: str, gpus: int) -> None:
    pair = load_pair(PROFILES, name)
    base = place(pair, pair.base, gpus)
    for candidate in pair.candidates:
        other = place(pair, candidate, gpus)
        if set(base.gpus) & set(other.gpus):
            assert base.device == other.device
            assert base.share + other.share <= 1.0
        assert other.share > 0.1


def test_with_two_gpus_each_24b_model_has_its_own_and_the_cards_share() -> None:
    pair = load_pair(PROFILES, "mistral-small-3.2-24b")
    base, other = place(pair, pair.base, 2), place(pair, pair.candidates[0], 2)
    assert (base.gpus, other.gpus) == ((0,), (1,))
    assert base.share == pair.serve_of(pair.base).gpu_memory_utilization


def test_on_one_gpu_the_base_gets_the_larger_part() -> None:
    pair = load_pair(PROFILES, "mistral-small-3.2-24b")
    base, other = place(pair, pair.base, 1), place(pair, pair.candidates[0], 1)
    assert base.share > 2 * other.share
