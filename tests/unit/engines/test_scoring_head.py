"""Which weight counts as a model's output projection."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

HOOK = Path(__file__).parents[3] / "components" / "engines" / "inside_vllm"


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(HOOK))
    found = importlib.import_module("diptych_scoring.jobs")
    monkeypatch.delitem(sys.modules, "diptych_scoring.jobs")
    return found


def model(weight: torch.Tensor, **attributes: object) -> torch.nn.Module:
    """A model whose head pads five ids to eight."""
    head = torch.nn.Module()
    head.weight = torch.nn.Parameter(weight)
    head.tp_size = 1
    for name, value in attributes.items():
        setattr(head, name, value)
    whole = torch.nn.Module()
    whole.lm_head = head
    whole.logits_processor = SimpleNamespace(org_vocab_size=5, scale=1.0, soft_cap=None)
    return whole


def test_padding_is_no_part_of_the_head(jobs: ModuleType) -> None:
    weight = torch.arange(16.0).reshape(8, 2)
    assert torch.equal(jobs._find_head(model(weight)).weight, weight[:5])


def test_a_weight_that_vllm_packed_and_emptied_was_kept(jobs: ModuleType) -> None:
    """vLLM on a CPU, AutoRound's checkpoints."""
    weight = torch.arange(16.0).reshape(8, 2)
    emptied = model(torch.empty(0), **{jobs.KEPT_HEAD: weight})
    assert torch.equal(jobs._find_head(emptied).weight, weight[:5])
