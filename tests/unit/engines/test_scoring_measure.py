"""The statistics as computed inside the engine equal the app's own, which are tested against the literature."""

from __future__ import annotations

import importlib.util
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
    path = INSIDE / "diptych_scoring" / "measure.py"
    spec = importlib.util.spec_from_file_location("diptych_scoring_measure", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


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
        divergence.rank_of_target(log_p, targets), divergence.rank_of_target(log_q, targets),
        divergence.margin_nats(log_p), divergence.margin_nats(log_q),
    ]  # fmt: skip
    np.testing.assert_allclose(found["statistics"].numpy(), np.stack(expected, axis=1), atol=1e-9)
    exact = [column for column, name in enumerate(measure.COLUMNS) if not name.endswith("rank")]  # of ties, either
    np.testing.assert_allclose(quick["statistics"].numpy()[:, exact], np.stack(expected, axis=1)[:, exact], atol=2e-5)
    np.testing.assert_array_equal(found["base_top_ids"].numpy(), divergence.top_k_ids(log_p, min(5, ids)))
    assert (found["statistics"][:, :4] >= 0).all()


def test_tiles_give_what_one_piece_gives(measure: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(7)
    hidden, other = (torch.tensor(draw.normal(size=(23, 8)), dtype=torch.float32) for _ in range(2))
    head = measure.Head(torch.tensor(draw.normal(size=(50, 8)), dtype=torch.bfloat16), 0.5, 30.0)
    targets = torch.arange(23)
    whole = measure.measure(hidden, head, other, head, targets, 4)
    monkeypatch.setattr(measure, "_BLOCK_ELEMENTS", 50 * 7)
    monkeypatch.setattr(measure, "_TILE_ELEMENTS", 50 * 3)
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
