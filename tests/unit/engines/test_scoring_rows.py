"""Rows of llama.cpp's base file: the same bits and the same figures as its own code, transcribed here line by line."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
INSIDE = Path(__file__).parents[3] / "components" / "engines" / "inside_vllm"
F = np.float32


@pytest.fixture(scope="module")
def rows_module() -> ModuleType:
    """As the engine imports it."""
    sys.path.insert(0, str(INSIDE))
    try:
        return importlib.import_module("diptych_scoring.rows")
    finally:
        sys.path.remove(str(INSIDE))


def llama_cpp_row(logits: np.ndarray) -> np.ndarray:
    """``log_softmax(n_vocab, logits, log_prob, tok)`` of perplexity.cpp."""
    ids = len(logits)
    largest = F(logits.max())
    smallest = max(F(logits.min()), F(largest - F(16)))
    log_sum = F(math.log(sum(float(np.exp(F(value - largest))) for value in logits)))
    scale = F((largest - smallest) / F(65535))
    row = np.zeros(2 * ((ids + 1) // 2) + 4, dtype=np.uint16)
    row[:4] = np.array([scale, F(F(smallest - largest) - log_sum)], dtype=np.float32).view(np.uint16)
    if scale:
        inverse = F(F(1) / scale)
        for place, value in enumerate(logits):
            row[4 + place] = int(np.rint(F(inverse * F(value - smallest)))) if value > smallest else 0
    return row


def llama_cpp_kl(row: np.ndarray, logits: np.ndarray, target: int) -> tuple[float, float, bool]:
    """KL, Δ of nothing but the base's log-probability of the target, and same top, of perplexity.cpp's second part."""
    scale, lowest = row[:4].view(np.float32)
    log_sum = F(math.log(sum(float(np.exp(F(value - logits.max()))) for value in logits)))
    largest, total = F(logits.max() + log_sum), 0.0
    base = [F(F(scale * F(code)) + lowest) for code in row[4 : 4 + len(logits)]]
    for log_p, logit in zip(base, logits, strict=True):
        if log_p > -16:
            total += float(np.exp(log_p) * F(F(log_p - logit) + largest))
    return total, float(base[target]), int(np.argmax(base)) == int(np.argmax(logits))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), ids=st.integers(2, 60), spread=st.sampled_from([0.0, 0.3, 3.0, 12.0]))
def test_rows_and_figures_are_llama_cpps(rows_module: ModuleType, seed: int, ids: int, spread: float) -> None:
    draw = np.random.default_rng(seed)
    weight = torch.tensor(spread * draw.normal(size=(ids, 8)), dtype=torch.bfloat16)
    hidden, other = (torch.tensor(draw.normal(size=(5, 8)), dtype=torch.bfloat16) for _ in range(2))
    head = importlib.import_module("diptych_scoring.measure").Head(weight)
    rows = rows_module.rows_of(hidden, head, 2)
    found = rows.numpy().view(np.uint16)
    expected = np.stack([llama_cpp_row(logits) for logits in head.logits(hidden, torch.float32).numpy()])
    assert found.shape == expected.shape == (5, rows_module.words(ids))
    # The last bit of expf differs from library to library.
    np.testing.assert_allclose(found[:, :4].copy().view(np.float32), expected[:, :4].copy().view(np.float32), rtol=1e-5)
    assert np.abs(found[:, 4:].astype(int) - expected[:, 4:].astype(int)).max() <= 1

    targets = torch.tensor(draw.integers(ids, size=5))
    table = rows_module.measure_rows(rows, other, head, targets, 2).numpy()
    for place, logits in enumerate(head.logits(other, torch.float32).numpy()):
        kl, target, same = llama_cpp_kl(found[place], logits, int(targets[place]))
        assert table[place, 0] == pytest.approx(kl, abs=2e-5 + 1e-5 * abs(kl))
        assert table[place, 1] == pytest.approx(target, abs=1e-5)
        assert bool(table[place, 4]) == same


def test_log_probabilities_come_back_to_half_a_step(rows_module: ModuleType) -> None:
    draw = np.random.default_rng(3)
    logits = torch.tensor(5 * draw.normal(size=(7, 301)), dtype=torch.float32)
    true = torch.log_softmax(logits.double(), dim=1).numpy()
    back = rows_module.decode(rows_module._encode(logits), 301).numpy()
    near = true > true.max(axis=1, keepdims=True) - 15.9
    assert np.abs(back - true)[near].max() < 16 / 65535 / 2 + 1e-5


def test_another_vocabulary_is_refused(rows_module: ModuleType) -> None:
    head = importlib.import_module("diptych_scoring.measure").Head(torch.zeros(9, 4))
    with pytest.raises(ValueError, match="another vocabulary than the model's 9 ids"):
        rows_module.measure_rows(torch.zeros(1, 10, dtype=torch.int16), torch.zeros(1, 4), head, torch.tensor([0]))
