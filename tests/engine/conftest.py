"""What several modules need and what takes long to be there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from components.jobs.tool_run import child_environment
from components.quantize.environment import quantizer_environment
from tests.engine.benchmarking import Records, measured_here
from tests.engine.serving import ROOT, Engines, embedded_engines
from tests.running_app import RunningApp, new_state_dir

# Modules that share a fixture which is slow to make: one worker takes them.
_TOGETHER = {
    **dict.fromkeys(("test_app_api", "test_app_batch", "test_app_kills"), "app"),
    **dict.fromkeys(("test_divergence_parity", "test_exact_scoring", "test_sight_trap", "test_stream_real"), "engines"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several workers the tests of a module stay together, in their order."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.xdist_group(_TOGETHER.get(item.path.stem, item.path.stem)))


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
