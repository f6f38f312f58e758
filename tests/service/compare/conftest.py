"""What the tests of Compare's services share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.service.compare.scene import Scene


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """Scripted engines with the services that ask them."""
    scene = Scene(tmp_path)
    await scene.start()
    yield scene
    await scene.close()
