"""Rules that keep the tree readable: who may import gradio, how long files may be, what may be committed."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted([*(ROOT / "components").rglob("*.py"), ROOT / "app.py"])
SCRIPTS = sorted((ROOT / "scripts").rglob("*.py"))
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60  # the aim is 40; layout builders and argument lists may be longer


def _imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_only_tabs_and_ui_import_gradio(path: Path) -> None:
    relative = path.relative_to(ROOT)
    allowed = path.name.startswith("tab") or "ui" in relative.parts
    assert allowed or "gradio" not in _imports(path)


@pytest.mark.parametrize("path", sorted((ROOT / "components" / "core").glob("*.py")), ids=lambda p: p.name)
def test_core_is_pure(path: Path) -> None:
    assert not _imports(path) & {
        "asyncio",
        "os",
        "subprocess",
        "socket",
        "httpx",
        "sqlalchemy",
        "time",
        "random",
        "pathlib",
    }


@pytest.mark.parametrize(
    "path", [p for p in (*SOURCES, *SCRIPTS) if "migrations" not in p.parts], ids=lambda p: str(p.relative_to(ROOT))
)
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= MAX_FILE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{node.name} has {length} lines"


def test_the_two_requirement_files_agree() -> None:
    def pins(name: str) -> set[str]:
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        return {line for line in lines if line and not line.startswith(("#", "--", "vllm", "torch"))}

    assert pins("requirements.txt") == pins("requirements-cpu.txt")
    assert all("==" in pin for pin in pins("requirements.txt"))


def test_security_floors_are_kept() -> None:
    """reliability.md 5.1."""
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    versions = dict(re.findall(r"^([a-z-]+)==([0-9.]+)", text, flags=re.MULTILINE))
    floors = {"gradio": (6, 31), "vllm": (0, 32), "pillow": (12, 3), "openai": (3, 52)}
    for name, floor in floors.items():
        assert tuple(int(part) for part in versions[name].split("."))[: len(floor)] >= floor


def test_nothing_committed_names_a_machine_path_or_a_registry() -> None:
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    pattern = re.compile(r"(?<![\w.])/(?:work|root)/|" + "|".join(["py" + "pi.org", "registry." + "npmjs"]))
    kinds = {".py", ".md", ".yaml", ".toml", ".txt", ".js", ".css", ".sh", ""}
    found = [
        name
        for name in files
        if Path(name).suffix in kinds
        and (ROOT / name).is_file()
        and pattern.search((ROOT / name).read_text(encoding="utf-8", errors="replace"))
    ]
    assert found == []
