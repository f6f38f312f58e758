"""Gradio, imported without what it does only for people who write components or serve MCP: half the time of a start."""

from __future__ import annotations

import importlib
import inspect
import sys
from typing import Any
from unittest.mock import patch

_STUBS = "create_or_modify_pyi"  # gradio/component_meta.py: reads and parses each component's source, writes a .pyi


def import_gradio() -> None:
    """Import it once; later imports find it.

    Gradio writes type stubs into its own folder as it makes its classes, and passes over a class whose file can't be
    found; the import of mcp is optional, and no MCP server of Gradio's runs here.
    """
    if "gradio" in sys.modules:
        return
    find = inspect.getfile

    def getfile(wanted: Any) -> str:
        if sys._getframe(1).f_code.co_name == _STUBS:  # noqa: SLF001
            raise OSError("no stubs")
        return find(wanted)

    absent = "mcp" not in sys.modules
    if absent:
        sys.modules["mcp"] = None  # type: ignore[assignment]  # Python's own way to say: it is not there
    try:
        with patch.object(inspect, "getfile", getfile):
            importlib.import_module("gradio")
    finally:
        if absent:
            del sys.modules["mcp"]
