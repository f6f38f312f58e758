"""The complete script of a job: one Python file that holds its spec and all it needs, to be run without this app.

It is the very file that a job runs: the tool's ``quantize.py`` with the parts it shares put in front of it.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

from components.jobs import tool_reporting
from components.profiles.recipe import Tool

TOOLS = Path(__file__).parent / "tools"
_SHARED = tuple(TOOLS / "shared" / f"{name}.py" for name in ("rows", "coders", "calibration", "models"))
_PARTS = (Path(tool_reporting.__file__), *_SHARED)
_OWN_PACKAGE = "components."
_EMPTY_SPEC = "SPEC: str | None = None"


def requirements_file(tool: Tool) -> Path:
    """The pinned requirements beside a tool's script."""
    return TOOLS / tool / "requirements.txt"


def complete_script(tool: Tool, spec: dict[str, Any]) -> str:
    """The script's text.

    Args:
        spec: what the tool's ``quantize.py`` reads; see there.
    """
    parts = [_header(tool)]
    for file in _PARTS:
        parts.append(f"# {'-' * 20} {file.stem}\n{_without_own_imports(file.read_text(encoding='utf-8'))}")
    own = _without_own_imports((TOOLS / tool / "quantize.py").read_text(encoding="utf-8"))
    text = json.dumps(spec, indent=1, ensure_ascii=True)
    parts.append(f"# {'-' * 20} {tool}\n" + own.replace(_EMPTY_SPEC, f"SPEC: str | None = {_literal(text)}", 1))
    return "\n\n".join(parts)


def _header(tool: Tool) -> str:
    pins = [line for line in requirements_file(tool).read_text(encoding="utf-8").splitlines() if "==" in line]
    return "\n".join(
        [
            "# Made by Diptych; runs without it. The interpreter needs these packages (python -m pip install …):",
            *(f"#   {pin}" for pin in pins),
            "# python quantize.py            quantizes as SPEC below says",
            "# python quantize.py spec.json  as that file says",
            "# The model `model` is a folder of that name here, in Hugging Face's format; the result is in `work`.",
            "from __future__ import annotations",
        ]
    )


def _literal(text: str) -> str:
    """A Python literal of a JSON text that stays readable."""
    return 'r"""' + text + '"""' if '"""' not in text and "\\" not in text else repr(text)


def _without_own_imports(source: str) -> str:
    """The source without its documentation string, without imports of this package and of the future."""
    dropped: set[int] = set()
    for number, node in enumerate(ast.parse(source).body):
        first = number == 0 and isinstance(node, ast.Expr)
        own = isinstance(node, ast.ImportFrom) and (node.module or "").startswith((_OWN_PACKAGE, "__future__"))
        if first or own:
            dropped |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = [line for place, line in enumerate(source.splitlines(), start=1) if place not in dropped]
    return "\n".join(lines).strip() + "\n"
