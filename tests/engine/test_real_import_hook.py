"""The import hook with the packages that are really installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.engine

HOOK = Path(__file__).parents[2] / "components" / "engines" / "inside_vllm"


def test_torchvision_imports_beside_torch() -> None:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(HOOK)}
    code = "import transformers.audio_utils; from torchvision.transforms import v2; print(v2.Resize.__name__)"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "Resize", done.stderr
