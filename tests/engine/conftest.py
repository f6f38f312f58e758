"""Engines that several modules ask: a start takes half a minute."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engine.serving import Engines, embedded_engines


@pytest.fixture(scope="session")
def engines() -> Iterator[Engines]:
    with embedded_engines() as engines:
        yield engines
