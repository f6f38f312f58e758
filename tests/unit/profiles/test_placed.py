"""From the memory plan to vLLM's command lines: the cards' models on the machines that their owners have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from components.core.errors import InputError
from components.core.memory_plan import GIB, ModelMemory, Spread, memory_of_figures
from components.engines.placement import place
from components.profiles.argv import capacity_flags
from components.profiles.loader import load_pair
from components.profiles.placed import Overrides, fit_of, planned, read_overrides, with_overrides
from components.profiles.schema import PairProfile

ROOT = Path(__file__).parents[3]
PROFILES = ROOT / "profiles"
FIGURES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "assets/published/models.yaml").read_text())
GB80, GB141 = int(79.65 * GIB), int(139.8 * GIB)
SMALL, LARGE = "mistral-small-3.2-24b", "pixtral-large-2411"


def memories(pair: PairProfile) -> list[ModelMemory]:
    figures = FIGURES[pair.base.source.repo_id]  # type: ignore[union-attr]
    models = (pair.base, pair.candidates[0])
    return [memory_of_figures(pair.engine_id(model), figures, model.scheme) for model in models]


def placed(name: str, gpus: int, *, spread: Spread | None = None, each_bytes: int = GB80) -> PairProfile:
    pair = load_pair(PROFILES, name)
    return planned(pair, fit_of(pair, memories(pair), [each_bytes] * gpus, spread or Spread()))


def seats(pair: PairProfile, gpus: int) -> list[tuple[tuple[int, ...], dict[str, str]]]:
    """GPUs and parallel sizes as the engines get them, of the base and its first candidate."""
    found = []
    for model in (pair.base, pair.candidates[0]):
        where = place(pair, model, gpus)
        serve = pair.serve_of(model).model_copy(update={"gpu_memory_utilization": where.share})
        pairs = (flag.removeprefix("--").partition("=") for flag in capacity_flags(serve, "cuda"))
        found.append((where.gpus, {name: value for name, _, value in pairs}))
    return found


def sizes(flags: dict[str, str]) -> tuple[int, int, int]:
    return tuple(int(flags.get(f"{kind}-parallel-size", "1")) for kind in ("tensor", "pipeline", "data"))  # type: ignore[return-value]


def test_24b_pair_on_one_80_gb_gpu_shares_it() -> None:
    pair = placed(SMALL, 1)
    (base_gpus, base), (gpus, candidate) = seats(pair, 1)
    assert (base_gpus, gpus, pair.placement) == ((0,), (0,), "together")
    shares = [float(flags["gpu-memory-utilization"]) for flags in (base, candidate)]
    assert shares[0] > 2 * shares[1] and sum(shares) <= 0.96
    assert shares[0] * GB80 > 44.7 * GIB, "the base's weights"
    assert sizes(base) == sizes(candidate) == (1, 1, 1)
    assert int(base["max-model-len"]) == int(candidate["max-model-len"]) >= 8192


def test_24b_pair_on_two_gpus_has_one_each_with_the_whole_context() -> None:
    (base_gpus, base), (gpus, candidate) = seats(placed(SMALL, 2), 2)
    assert (base_gpus, gpus) == ((0,), (1,))
    assert base["max-model-len"] == candidate["max-model-len"] == "131072"
    assert base["gpu-memory-utilization"] == "0.96"


@pytest.mark.parametrize(
    ("gpus", "each_bytes", "placement", "expected"),
    [
        # 231 GiB in 16 bits need four of 80 GB or two of 141 GB, 118 GiB in 8 bits two.
        (2, GB141, "alternately", [((0, 1), (2, 1, 1)), ((0, 1), (2, 1, 1))]),
        (4, GB80, "alternately", [((0, 1, 2, 3), (4, 1, 1)), ((0, 1), (2, 1, 1))]),
        (4, GB141, "together", [((0, 1), (2, 1, 1)), ((2, 3), (2, 1, 1))]),
        (8, GB80, "together", [((0, 1, 2, 3), (4, 1, 1)), ((4, 5), (2, 1, 1))]),
    ],
)
def test_124b_pair_on_two_four_and_eight_gpus(gpus: int, each_bytes: int, placement: str, expected: list[Any]) -> None:
    pair = placed(LARGE, gpus, each_bytes=each_bytes)
    found = seats(pair, gpus)
    assert pair.placement == placement
    assert [(where, sizes(flags)) for where, flags in found] == expected
    for _, flags in found:
        assert flags["max-model-len"] == "25000"
        assert float(flags["gpu-memory-utilization"]) <= 0.9, "sleepers keep a part, and the card used no more"


def test_124b_pair_on_two_of_80_gb_is_refused_with_what_to_do() -> None:
    with pytest.raises(InputError, match="does not fit on the GPUs of this machine") as raised:
        placed(LARGE, 2)
    assert "max_model_len" in raised.value.hint


def test_pipeline_parallel_where_a_person_asks_for_it() -> None:
    (base_gpus, base), (gpus, candidate) = seats(placed(LARGE, 8, spread=Spread(pipeline=2)), 8)
    assert (base_gpus, sizes(base)) == ((0, 1, 2, 3), (2, 2, 1))
    assert (gpus, sizes(candidate)) == ((4, 5), (1, 2, 1))


def test_replicas_take_gpus_of_their_own() -> None:
    (base_gpus, base), (gpus, candidate) = seats(placed(SMALL, 8, spread=Spread(replicas=4)), 8)
    assert (base_gpus, sizes(base)) == ((0, 1, 2, 3), (1, 1, 4))
    assert (gpus, sizes(candidate)) == ((4, 5, 6, 7), (1, 1, 4))


def test_an_arrangement_that_is_asked_for_is_the_one_that_is_planned() -> None:
    pair = placed(SMALL, 2, spread=Spread("alternately"))
    assert [where for where, _ in seats(pair, 2)] == [(0,), (0,)]
    assert pair.placement == "alternately"
    shared = placed(SMALL, 2, spread=Spread("shared"))
    assert seats(shared, 2)[0][0] == seats(shared, 2)[1][0]
    with pytest.raises(InputError):
        placed(LARGE, 4, spread=Spread("apart"))


def test_every_other_candidate_has_the_place_of_the_first() -> None:
    pair = placed(LARGE, 8)
    assert len({model.gpus for model in pair.candidates}) == 1
    assert len(pair.candidates) > 1


def test_a_person_has_the_last_word() -> None:
    wanted = read_overrides("max_model_len=16384, base.gpu_memory_utilization=0.8, base.tensor_parallel_size=8")
    pair = with_overrides(placed(LARGE, 8), wanted)
    assert pair.serve_of(pair.candidates[0]).max_model_len == 16384
    assert pair.serve_of(pair.base).gpu_memory_utilization == 0.8
    assert pair.base.gpus == tuple(range(8)), "as many as it asks for now"
    assert read_overrides("pipeline_parallel_size=2").spread == Spread(pipeline=2)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("speed=9", "sets no field of serve"),
        ("max_model_len", "sets no field of serve"),
        ("other.max_model_len=64", "has no model 'other'"),
        ("max_model_len=few", "max_model_len"),
        ("base.trust_remote_code=true", "40 hex digits"),
    ],
)
def test_a_wrong_wish_is_named(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told) as raised:
        with_overrides(load_pair(PROFILES, SMALL), read_overrides(text))
    assert raised.value.field == "serve"


def test_a_wrong_size_is_named() -> None:
    with pytest.raises(InputError, match="tensor_parallel_size is a whole number"):
        _ = Overrides({"tensor_parallel_size": "two"}).spread


def test_a_profile_may_name_its_gpus_but_not_too_few() -> None:
    pair = load_pair(PROFILES, SMALL)
    document = pair.model_dump(exclude_unset=True)
    document["models"][0]["gpus"] = (3,)
    named = PairProfile.model_validate(document)
    assert place(named, named.base, 4).gpus == (3,) and place(named, named.base, 4).device == "cuda:3"
    document["models"][0]["gpus"] = (2, 3)
    with pytest.raises(ValueError, match="ask for 1 different GPUs; 2 are named"):
        PairProfile.model_validate(document)
