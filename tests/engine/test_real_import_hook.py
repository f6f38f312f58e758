"""The import hook with the packages that are really installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.engine

HOOK = Path(__file__).parents[2] / "components" / "engines" / "inside_vllm"


def run(code: str) -> str:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(HOOK), "VLLM_LOGGING_LEVEL": "ERROR"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_torchvision_imports_beside_torch() -> None:
    code = "import transformers.audio_utils; from torchvision.transforms import v2; print(v2.Resize.__name__)"
    assert run(code) == "Resize"


def test_vllms_parsers_find_their_patterns_again() -> None:
    """1,000 special tokens, as Tekken has: each is compiled once, not for every request."""
    code = (
        "import vllm.parser.engine.streaming_parser_engine, regex; "
        "patterns = [regex.compile(f'special {n}') for n in range(1000)];"
        "again = [regex.compile(f'special {n}') for n in range(1000)]; "
        "print(all(a is b for a, b in zip(patterns, again, strict=True)))"
    )
    assert run(code).splitlines()[-1] == "True"
