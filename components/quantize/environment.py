"""The interpreters of the quantizers."""

from __future__ import annotations

from pathlib import Path

from components.jobs.tool_environment import ToolEnvironment
from components.profiles.recipe import Tool
from components.quantize.script import requirements_file


def quantizer_environment(root: Path, tool: Tool) -> ToolEnvironment:
    """That of one quantizer; ``root`` as of ``environments_root``."""
    return ToolEnvironment(root, tool, requirements_file(tool))
