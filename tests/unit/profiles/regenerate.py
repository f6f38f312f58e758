"""What the reviewed files should hold: the command of every profile, and the tables of profiles/README.md.

After a wanted change, from the repository's root, then review the difference:
    PYTHONPATH=. .venv/bin/python tests/unit/profiles/regenerate.py
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args, get_origin

from components.core.answers import Sampling
from components.profiles import recipe, schema
from components.profiles.argv import engine_command
from components.profiles.loader import list_pairs

ROOT = Path(__file__).parents[3]
GOLDEN = Path(__file__).parent / "golden"
README = ROOT / "profiles" / "README.md"
TABLES = (
    ("Pair", schema.PairProfile),
    ("serve", schema.ServeSettings),
    ("sampling", Sampling),
    ("models", schema.ModelProfile),
    ("source, kind hub", schema.HubSource),
    ("source, kind local", schema.LocalSource),
    ("source, kind pypi-gguf", schema.PypiGgufSource),
    ("source, kind remote", schema.RemoteSource),
    ("source, kind folder", schema.FolderSource),
    ("source, kind folder", schema.FolderSource),
    ("examples", schema.Example),
    ("Hardware", schema.HardwareProfile),
    ("Recipe", recipe.RecipeProfile),
    ("calibration", recipe.CalibrationProfile),
    ("sources, kind bundled", recipe.BundledSource),
    ("sources, kind hub", recipe.HubDataSource),
    ("sources, kind slot", recipe.SlotSource),
    ("sources, kind file", recipe.FileSource),
    ("sources, kind traces", recipe.TracesSource),
    ("sources, kind review", recipe.ReviewSource),
    ("sources, kind flips", recipe.FlipsSource),
)


def command_text(pair: schema.PairProfile, device: str) -> str:
    """The commands of one pair, one argument or variable a line."""
    parts = []
    for model in (pair.base, *pair.candidates):
        command = engine_command(
            pair,
            model,
            model_path=f"/models/{model.id}",
            socket=Path("/run/diptych/engine.sock"),
            device=device,
            python=Path("/venv/bin/python"),
            api_key="KEY",
            cache_root=Path("/state/cache"),
            hook_path=Path("/app/inside_vllm"),
            exchange=Path("/state/exchange"),
            cpu_threads=1,
            inherited={"PATH": "/usr/bin", "HOME": "/home/user", "HF_TOKEN": "secret"},
        )
        lines = [*command.argv, "", *(f"{name}={value}" for name, value in sorted(command.env.items()))]
        parts.append("\n".join([f"### {pair.engine_id(model)} on {device}", *lines, ""]))
    return "\n".join(parts)


def golden_files() -> dict[str, str]:
    """Name → text of every reviewed file."""
    pairs, errors = list_pairs(ROOT / "profiles")
    assert not errors, errors
    return {f"{pair.id}.{device}.txt": command_text(pair, device) for pair in pairs for device in ("cpu", "cuda")}


def readme_tables() -> str:
    """Every field of every record."""
    parts = []
    for title, model in TABLES:
        rows = [f"### {title}", "", "| field | accepted | default | meaning, unit |", "|---|---|---|---|"]
        for name, field in model.model_fields.items():
            default = "needed" if field.is_required() else _default(field.default)
            rows.append(f"| `{name}` | {_accepted(field)} | {default} | {field.description} |")
        parts.append("\n".join(rows))
    return "\n\n".join(parts) + "\n"


def _default(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value == () else "all defaults" if hasattr(value, "model_dump") else str(value)


def _accepted(field: object) -> str:
    limits = []
    for item in field.metadata:
        for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<")):
            if hasattr(item, name):
                limits.append(f"{sign} {getattr(item, name)}")
    return ", ".join([_type(field.annotation), *limits])


def _type(annotation: object) -> str:
    arguments = get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        return _type(arguments[0])
    if str(get_origin(annotation)).endswith("Literal"):
        return ", ".join(str(value) for value in arguments)
    if get_origin(annotation) is tuple:
        return f"list of {_type(arguments[0])}"
    if arguments:
        return " or ".join(_type(argument) for argument in arguments)
    names = {"str": "text", "int": "whole number", "float": "number", "bool": "true, false", "NoneType": "null"}
    name = getattr(annotation, "__name__", str(annotation))
    return names.get(name, re.sub(r"(?<!^)(?=[A-Z])", " ", name).lower())


def readme_text() -> str:
    """The README with its tables renewed."""
    head, mark, _ = README.read_text(encoding="utf-8").partition("## Every field\n")
    return f"{head}{mark}\n{readme_tables()}"


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for old in GOLDEN.glob("*.txt"):
        old.unlink()
    for file_name, text in golden_files().items():
        (GOLDEN / file_name).write_text(text, encoding="utf-8")
    README.write_text(readme_text(), encoding="utf-8")
