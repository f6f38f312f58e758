"""What several modules need and what takes long to be there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from components.quantize.environment import ToolEnvironment
from components.quantize.tool_run import child_environment
from tests.engine.serving import ROOT, Engines, embedded_engines


@pytest.fixture(scope="session")
def engines() -> Iterator[Engines]:
    with embedded_engines() as engines:
        yield engines


@pytest.fixture(scope="session")
def quantizer() -> None:
    """The environment of llm-compressor, which the first job of all makes; it takes minutes on a fresh clone."""
    ToolEnvironment(ROOT / ".envs", "llmcompressor").ensure(child_environment(), print)
