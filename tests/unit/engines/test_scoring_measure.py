"""The statistics as computed inside the engine equal the app's own, which are tested against the literature."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.core import divergence

torch = pytest.importorskip("torch")
INSIDE = Path(__file__).parents[3] / "components" / "engines" / "inside_vllm"


@pytest.fixture(scope="module")
def measure() -> ModuleType:
    """The module as the engine imports it, without vLLM."""
    sys.path.insert(0, str(INSIDE))
    try:
        return importlib.import_module("diptych_scoring.measure")
    finally:
        sys.path.remove(str(INSIDE))


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), tokens=st.integers(1, 9), ids=st.integers(3, 400), noise=st.floats(0, 2))
def test_every_statistic_equals_the_reference(
    measure: ModuleType, seed: int, tokens: int, ids: int, noise: float
) -> None:
    draw = np.random.default_rng(seed)
    hidden = torch.tensor(draw.normal(size=(tokens, 16)) * 3, dtype=torch.bfloat16)
    other = hidden + torch.tensor(draw.normal(size=(tokens, 16)) * noise, dtype=torch.bfloat16)
    weight = torch.tensor(draw.normal(size=(ids, 16)), dtype=torch.bfloat16)
    weight_2 = weight + torch.tensor(draw.normal(size=(ids, 16)) * noise / 10, dtype=torch.bfloat16)
    targets = draw.integers(ids, size=tokens)
    inputs = hidden, measure.Head(weight), other, measure.Head(weight_2), torch.tensor(targets), min(5, ids)
    found, quick = measure.measure(*inputs), measure.measure(*inputs, quick=True)
    log_p = divergence.log_softmax((hidden.double() @ weight.double().T).numpy())
    log_q = divergence.log_softmax((other.double() @ weight_2.double().T).numpy())
    expected = [
        divergence.kl_nats(log_p, log_q), divergence.kl_nats(log_q, log_p),
        divergence.jensen_shannon_nats(log_p, log_q), divergence.total_variation(log_p, log_q),
        divergence.entropy_nats(log_p), divergence.entropy_nats(log_q),
        divergence.of_target(log_p, targets), divergence.of_target(log_q, targets),
        divergence.margin_nats(log_p), divergence.margin_nats(log_q),
        divergence.rank_of_target(log_p, targets), divergence.rank_of_target(log_q, targets),
    ]  # fmt: skip
    np.testing.assert_allclose(found["statistics"].numpy(), np.stack(expected, axis=1), atol=1e-9)
    without_ranks = np.stack(expected, axis=1)[:, : len(measure.QUICK_COLUMNS)]
    np.testing.assert_allclose(quick["statistics"].numpy(), without_ranks, atol=2e-5)
    np.testing.assert_array_equal(found["base_top_ids"].numpy(), divergence.top_k_ids(log_p, min(5, ids)))
    assert (found["statistics"][:, :4] >= 0).all()


def test_tiles_give_what_one_piece_gives(measure: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(7)
    hidden, other = (torch.tensor(draw.normal(size=(23, 8)), dtype=torch.float32) for _ in range(2))
    head = measure.Head(torch.tensor(draw.normal(size=(50, 8)), dtype=torch.bfloat16), 0.5, 30.0)
    targets = torch.arange(23)
    whole = measure.measure(hidden, head, other, head, targets, 4)
    monkeypatch.setattr(measure, "_BLOCK_BYTES", 8 * 50 * 7 * 3)
    monkeypatch.setattr(measure, "_TILE_BYTES", 8 * 50 * 3)
    monkeypatch.setattr(measure, "_HEAD_TILE_ELEMENTS", 8 * 11)
    parts = measure.measure(hidden, head, other, head, targets, 4, threads=3)
    for name, value in whole.items():
        assert torch.allclose(value.double(), parts[name].double(), atol=1e-12), name


def test_other_vocabularies_are_refused(measure: ModuleType) -> None:
    hidden = torch.zeros(1, 4)
    with pytest.raises(ValueError, match="the base has 5 ids, the candidate 6"):
        measure.measure(
            hidden, measure.Head(torch.zeros(5, 4)), hidden, measure.Head(torch.zeros(6, 4)), torch.tensor([0]), 2
        )


def test_a_scale_and_a_cap_are_applied_as_the_model_does(measure: ModuleType) -> None:
    head = measure.Head(torch.eye(2), scale=2.0, soft_cap=10.0)
    logits = head.logits(torch.tensor([[30.0, 0.0]]), torch.float64)
    assert logits[0, 0] == pytest.approx(20 * np.tanh(3.0))


@pytest.mark.parametrize("side", ["base", "candidate"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_states_that_are_no_numbers_are_refused_with_side_and_token(
    measure: ModuleType, side: str, value: float
) -> None:
    good, bad = torch.ones(3, 4), torch.ones(3, 4)
    bad[1, 2] = value
    states = (bad, good) if side == "base" else (good, bad)
    head = measure.Head(torch.ones(5, 4))
    with pytest.raises(ValueError, match=f"the {side}'s logits are not finite numbers at token 2"):
        measure.measure(states[0], head, states[1], head, torch.zeros(3, dtype=torch.int64), 2)


def test_tiny_differences_keep_their_digits_and_none_is_exactly_zero(measure: ModuleType) -> None:
    draw = np.random.default_rng(11)
    weight = torch.tensor(draw.normal(size=(3000, 32)), dtype=torch.float64)
    hidden = torch.tensor(draw.normal(size=(4, 32)), dtype=torch.float64)
    other = hidden + 1e-6 * torch.tensor(draw.normal(size=(4, 32)), dtype=torch.float64)
    head, targets = measure.Head(weight), torch.zeros(4, dtype=torch.int64)
    log_p, log_q = (divergence.log_softmax((states @ weight.T).numpy()) for states in (hidden, other))
    table = measure.measure(hidden, head, other, head, targets, 2)["statistics"].numpy()
    np.testing.assert_allclose(table[:, 0], divergence.kl_nats(log_p, log_q), rtol=1e-3)  # some 1e-11 nats
    assert (measure.measure(hidden, head, hidden, head, targets, 2)["statistics"][:, :4] == 0).all()


@pytest.mark.parametrize(("ids", "k"), [(64, 2), (3000, 20), (3001, 20), (8192, 1)])
def test_the_likeliest_ids_are_found_among_groups_as_in_one_row(measure: ModuleType, ids: int, k: int) -> None:
    logits = torch.tensor(np.random.default_rng(ids).normal(size=(5, ids)))
    logits[0, -3:] = 9.0  # equal ones, among those that may fill no group
    found = measure._top(logits, k)
    values, expected = torch.topk(logits, max(k, 2), dim=1)
    assert torch.equal(found[1:], expected[1:])
    assert torch.equal(logits.gather(1, found), values)
    assert found[0, :2].tolist() == [ids - 3, ids - 2]


@pytest.mark.parametrize("noise", [0.0, 1e-6, 1e-3, 0.1, 3.0])
@pytest.mark.parametrize("spread", [1.0, 6.0])
def test_float32_holds_a_millionth_of_what_float64_makes_of_the_same_logits(
    measure: ModuleType, noise: float, spread: float
) -> None:
    draw = np.random.default_rng(3)
    base = draw.normal(size=(40, 4000)).astype(np.float32) * np.float32(spread)
    base[::2, 7] += np.float32(5 * spread)  # every second one is all but certain
    other = base + draw.normal(size=base.shape).astype(np.float32) * np.float32(noise)
    targets = torch.tensor(draw.integers(4000, size=40))
    logits = torch.tensor(base), torch.tensor(other)
    single = measure._in_single(*logits, targets, 5)
    double = measure._tile(*logits, targets, 5, quick=True)
    assert [tensor.dtype for tensor in logits] == [torch.float32] * 2
    one, two = single["statistics"].numpy(), double["statistics"].numpy()
    near = 2e-6 if noise < 1 else 1e-5
    np.testing.assert_allclose(one, two, rtol=near, atol=near)
    np.testing.assert_allclose(one[:, :2].mean(axis=0), two[:, :2].mean(axis=0), rtol=1e-3 if noise > 1e-5 else 0.3)
    assert (one[:, :4] >= 0).all()
    assert bool((one[:, :4] == 0).all()) == (noise == 0)
    for name in ("base_top_base_logprobs", "base_top_candidate_logprobs"):
        np.testing.assert_allclose(single[name].numpy(), double[name].numpy(), atol=2e-6)


def test_rows_that_are_too_far_apart_for_float32_are_made_in_float64(measure: ModuleType) -> None:
    base, other = torch.zeros(3, 900), torch.zeros(3, 900)
    other[1, 5] = 200.0  # all else has a chance of exp(-200)
    base[2, 4], other[2, 3] = 150.0, 150.0
    targets = torch.tensor([0, 5, 3])
    single = measure._in_single(base, other, targets, 2)["statistics"]
    double = measure._tile(base, other, targets, 2, quick=True)["statistics"]
    assert torch.isfinite(single).all()
    np.testing.assert_allclose(single.numpy(), double.numpy(), rtol=1e-9, atol=1e-9)
