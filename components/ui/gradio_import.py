"""Gradio, imported without what it does only for who writes components, serves MCP or types commands: half the time."""

from __future__ import annotations

import importlib
import inspect
import sys
from types import ModuleType
from typing import Any
from unittest.mock import patch

_STUBS = "create_or_modify_pyi"  # gradio/component_meta.py: reads and parses each component's source, writes a .pyi


def import_gradio() -> None:
    """Import it once; later imports find it.

    Gradio writes type stubs into its own folder as it makes its classes, and passes over a class whose file can't be
    found; the import of mcp is optional, and no MCP server of Gradio's runs here. Its command line gives one function
    to the package, which nothing here calls.
    """
    if "gradio" in sys.modules:
        return
    find = inspect.getfile

    def getfile(wanted: Any) -> str:
        if sys._getframe(1).f_code.co_name == _STUBS:  # noqa: SLF001
            raise OSError("no stubs")
        return find(wanted)

    command_line = ModuleType("gradio.cli")
    command_line.deploy = None  # type: ignore[attr-defined]
    stand_ins: dict[str, Any] = {"mcp": None, "gradio.cli": command_line}  # None is Python's own "it is not there"
    stand_ins = {name: module for name, module in stand_ins.items() if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        with patch.object(inspect, "getfile", getfile):
            importlib.import_module("gradio")
    finally:
        for name in stand_ins:
            del sys.modules[name]
