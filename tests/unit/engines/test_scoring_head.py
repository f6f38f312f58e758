"""Which weight counts as a model's output projection."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

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


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_a_quantized_head_is_refused(jobs: ModuleType, dtype: torch.dtype) -> None:
    """Its weight holds codes, not values: figures from them would be wrong by hundreds of nats."""
    head = model(torch.zeros(8, 2))
    head.lm_head.weight = torch.nn.Parameter(torch.zeros(8, 2).to(dtype), requires_grad=False)
    with pytest.raises(NotImplementedError, match="output projection is quantized"):
        jobs._find_head(head)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_heads_as_trained_are_taken(jobs: ModuleType, dtype: torch.dtype) -> None:
    assert jobs._find_head(model(torch.zeros(8, 2, dtype=dtype))).weight.dtype is dtype


def job_of(jobs: ModuleType, rows: torch.Tensor, **more: object) -> Any:
    job = jobs.read_job({"diptych": {"id": "a" * 32, "first_row": 0, **more}})
    job.rows.append(rows)
    job.batch_tokens.append(len(rows))
    return job


def test_a_failed_job_is_logged_with_its_reason_and_a_full_disk_ends_nothing(
    jobs: ModuleType, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    desk = jobs.Desk(model(torch.zeros(8, 2)), tmp_path)
    desk.finish(job_of(jobs, torch.zeros(1, 2)), [1, 2, 3])
    assert (tmp_path / f"{'a' * 32}.error").read_text() == "ValueError: 1 rows were captured for 2 tokens"
    assert "1 rows were captured" in caplog.text
    jobs.Desk(model(torch.zeros(8, 2)), tmp_path / "gone").finish(job_of(jobs, torch.zeros(1, 2)), [1, 2, 3])


def test_another_models_head_is_read_once(jobs: ModuleType, tmp_path: Path) -> None:
    base = jobs.Desk(model(torch.randn(8, 2)), tmp_path)
    base.finish(job_of(jobs, torch.ones(2, 2), write_head=True), [1, 2, 3])
    desk = jobs.Desk(model(torch.randn(8, 2)), tmp_path)
    for _ in range(2):
        job = job_of(jobs, torch.ones(2, 2), compare="a" * 32, top_k=2)
        job.id = "b" * 32
        desk.finish(job, [1, 2, 3])
        assert not (tmp_path / f"{'b' * 32}.error").exists()
        (tmp_path / f"{'b' * 32}.safetensors").unlink()
        for head in tmp_path.glob("head-*"):
            head.unlink()  # the second time it is known
