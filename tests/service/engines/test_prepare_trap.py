"""The trap, with a real (small, random) model as transformers saves it: the prepared folder holds what the embedded
model's own exporter, written apart with torch, makes of the same weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from components.engines.prepare import ModelPreparer
from components.engines.prepare_shards import Tensor, read_header
from components.profiles.schema import PairProfile
from tests.unit.engines.checkpoints import pair_document

pytestmark = pytest.mark.service

ROOT = Path(__file__).parents[3]
SAVE_BOTH = """
import shutil, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import export, model, torch
target = Path(sys.argv[2])
network = model.build_model(3).to(torch.bfloat16)
network.save_pretrained(target / "hf")
export.write_base(network.state_dict(), target / "right")
for name in ("params.json", "tekken.json"):
    shutil.copy(target / "right" / name, target / "hf" / name)
"""


def content(folder: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    def data(tensor: Tensor) -> bytes:
        with tensor.file.open("rb") as file:
            file.seek(tensor.start)
            return file.read(tensor.size_bytes)

    tensors = {n: t for path in folder.glob("*.safetensors") for n, t in read_header(path).items()}
    return {name: (tensor.dtype, tensor.shape, data(tensor)) for name, tensor in tensors.items()}


def test_a_model_saved_by_transformers_is_prepared_to_the_last_byte(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", SAVE_BOTH, str(ROOT / "scripts" / "embedded"), str(tmp_path)]
    subprocess.run(argv, check=True, capture_output=True, timeout=300)
    names = set(read_header(tmp_path / "hf" / "model.safetensors"))
    assert any(name.startswith("vision_tower.") for name in names)
    pair = PairProfile.model_validate(pair_document("hf") | {"max_image_size": 112})
    preparer = ModelPreparer(tmp_path / "state", tmp_path, offline=True)
    folder = Path(preparer.prepare(pair, pair.base, lambda message, share: None))
    made, right = content(folder), content(tmp_path / "right")
    assert set(made) == set(right)
    assert [name for name in made if made[name] != right[name]] == []
    weight_map = json.loads((folder / "model.safetensors.index.json").read_bytes())["weight_map"]
    assert set(weight_map) == set(made)
