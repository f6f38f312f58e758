"""What service tests of several rooms share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from components.services import Services, build_services
from components.settings import Settings


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """The app's services on an empty state folder, engines not started."""
    services = build_services(Settings(state_dir=tmp_path / "state", start_engines=False))
    yield services
    services.close()
