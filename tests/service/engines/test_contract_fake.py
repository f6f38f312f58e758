"""The scripted server keeps the contract that the real one is held to in tests/engine."""

from __future__ import annotations

import pytest

from components.engines.transport import EngineClient
from tests.fakes.stream_contract import StreamContract
from tests.service.engines.conftest import FakeEngine

pytestmark = pytest.mark.service


class TestFake(StreamContract):
    """All of the contract."""

    @pytest.fixture
    def client(self, engine: FakeEngine) -> EngineClient:
        return engine.client
