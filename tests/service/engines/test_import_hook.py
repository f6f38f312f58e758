"""The hook that lets CPU torch live beside CUDA builds of its companions, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.service

HOOK = Path(__file__).parents[3] / "components" / "engines" / "inside_vllm"
TORCH = """
import types
defined = []
class Library:
    def __init__(self, name, kind):
        defined.append((name, kind))
    def define(self, schema):
        defined.append(schema.split("(")[0])
library = types.SimpleNamespace(Library=Library)
def load_library(path):
    if not {loads}:
        raise OSError(path)
ops = types.SimpleNamespace(load_library=load_library)
"""
LOOK = """
import importlib.util, sys
import torch, torchvision
print(torch.defined, [importlib.util.find_spec(name) is not None for name in ("torchaudio", "torchcodec")])
"""


def run(code: str, *paths: Path) -> str:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(map(str, paths))}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def fake_packages(folder: Path, *, torch_build: str, loads: bool) -> Path:
    versions = {"torch": torch_build, "torchvision": "cu130", "torchaudio": "cu130", "torchcodec": "cpu"}
    for name, build in versions.items():
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(TORCH.format(loads=loads) if name == "torch" else "")
        (folder / name / "version.py").write_text(f"__version__ = '2.0+{build}'")
    (folder / "torchvision" / "_C.so").touch()
    return folder


def test_missing_operators_are_declared_and_broken_packages_hidden(tmp_path: Path) -> None:
    fakes = fake_packages(tmp_path, torch_build="cpu", loads=False)
    assert run(LOOK, HOOK, fakes) == "[('torchvision', 'DEF'), 'nms', 'qnms'] [False, True]"


def test_nothing_happens_where_the_real_operators_are(tmp_path: Path) -> None:
    fakes = fake_packages(tmp_path, torch_build="cu130", loads=True)
    assert run(LOOK, HOOK, fakes) == "[] [True, True]"


def test_a_process_that_imports_none_of_them_pays_nothing() -> None:
    code = "import sys; print(len(sys.modules), 'torch' in sys.modules)"
    count, imported = run(code, HOOK).split()
    assert imported == "False"
    assert int(count) <= int(run(code).split()[0]) + 2, "itself and __future__"


def test_regex_remembers_more_patterns_once_vllms_parsers_are_imported(tmp_path: Path) -> None:
    package = tmp_path / "vllm" / "parser" / "engine"
    package.mkdir(parents=True)
    for folder in (package, *package.parents[:2]):
        (folder / "__init__.py").touch()
    (package / "streaming_parser_engine.py").touch()
    look = "import regex._main as m; before = m._MAXCACHE; {}; print(m._MAXCACHE > before)"
    parsers = "import vllm.parser.engine.streaming_parser_engine"
    assert run(look.format(parsers), HOOK, tmp_path) == "True"
    assert run(look.format("import vllm"), HOOK, tmp_path) == "False"
