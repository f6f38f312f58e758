"""What the Benchmarks room refuses before a job is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.benchmark.service import BenchmarkService, BenchmarkSettings
from components.core.errors import InputError
from components.engines.catalog import Catalog
from components.profiles.loader import load_pair

ROOT = Path(__file__).parents[3]


def test_engines_that_take_turns_are_not_measured_side_by_side() -> None:
    pair = load_pair(ROOT / "profiles", "embedded").model_copy(update={"placement": "alternately"})
    settings = BenchmarkSettings(ROOT, ROOT, "embedded", "cpu")
    service = BenchmarkService(Catalog([pair]), None, None, settings)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="take turns") as raised:
        service.prepare({"models": ["embedded/w4a16"], "suite": "quality"})
    assert "--placement together" in raised.value.hint
