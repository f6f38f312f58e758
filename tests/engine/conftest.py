"""What several modules need and what takes long to be there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from components.jobs.tool_run import child_environment
from components.quantize.environment import quantizer_environment
from tests.engine.benchmarking import Records, measured_here
from tests.engine.serving import ROOT, Engines, embedded_engines
from tests.running_app import RunningApp, new_state_dir


@pytest.fixture(scope="session")
def engines() -> Iterator[Engines]:
    with embedded_engines() as engines:
        yield engines


@pytest.fixture(scope="session")
def quantizer() -> None:
    """The environment of llm-compressor, which the first job of all makes; it takes minutes on a fresh clone."""
    quantizer_environment(ROOT / ".envs", "llmcompressor").ensure(child_environment(), print)


@pytest.fixture(scope="session")
def measured() -> Records:
    """A benchmark's figures, measured on this machine."""
    return measured_here()


@pytest.fixture(scope="session")
def app() -> Iterator[RunningApp]:
    """The app with base and W4A16 ready. The last test of ``test_app_kills`` ends it; no later module asks for it."""
    app = RunningApp(new_state_dir()).start()
    try:
        app.wait_for_page()
        print(f"both engines ready after {app.wait_ready('embedded/base', 'embedded/w4a16'):.1f} s")
        yield app
    finally:
        app.close()
