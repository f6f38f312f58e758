"""A resumed training run goes on as if it had never stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("cv2")
pytest.importorskip("mistral_common")

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import Dataset
from train import Phase, Plan

pytestmark = pytest.mark.service


class Numbers(Dataset):
    def __len__(self) -> int:
        return 100

    def __getitem__(self, step: int) -> torch.Tensor:
        return torch.full((1, 1), float(step))


def phase(work: Path, steps: int) -> Phase:
    torch.manual_seed(0)
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.AdamW([{"params": list(model.parameters()), "lr": 0.1, "peak": 0.1}])
    plan = Plan(steps=steps, matrix_rate=0.0, rate=0.1, vision_share=1.0, warm_up=2, fall=10, zero_at=12)

    def loss_of(batch: torch.Tensor, _step: int) -> tuple[torch.Tensor, dict[str, float]]:
        return (model(batch) - 1).square().mean(), {}

    mean = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    return Phase("p", plan, {"model": model}, [optimizer], Numbers(), loss_of, dict, work, mean)


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = phase(tmp_path / "whole", 10)
    whole.run()
    phase(tmp_path / "parts", 4).run()
    parts = phase(tmp_path / "parts", 10)
    parts.run()
    assert parts.step == 10
    assert parts.groups[0]["lr"] == whole.groups[0]["lr"] == pytest.approx(0.1 * 0.3)
    for name, value in whole.modules["model"].state_dict().items():
        assert torch.equal(parts.modules["model"].state_dict()[name], value)
    assert whole.mean is not None
    assert parts.mean is not None
    assert torch.equal(parts.mean.module.weight, whole.mean.module.weight)
