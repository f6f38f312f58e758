"""A catalog grows by what jobs make; nothing that is there changes."""

from __future__ import annotations

from pathlib import Path

from components.engines.catalog import Catalog
from components.profiles.loader import load_pair
from components.profiles.schema import FolderSource, ModelProfile

PROFILES = Path(__file__).parents[3] / "profiles"


def made(name: str = "w4a16-gptq-1a2b3c") -> ModelProfile:
    return ModelProfile(
        id=name, role="candidate", label="Made here", scheme="W4A16",
        source=FolderSource(kind="folder", folder="/state/jobs/quantize-1a2b3c/result"), description="Made by a job.",
    )  # fmt: skip


def test_a_made_candidate_joins_its_pair() -> None:
    catalog = Catalog([load_pair(PROFILES, "embedded"), load_pair(PROFILES, "smollm2-135m")])
    before = [entry.engine_id for entry in catalog.entries()]
    added = catalog.add(catalog.pairs[0], made())
    assert added.engine_id == "embedded/w4a16-gptq-1a2b3c"
    assert catalog.version == 1
    assert [entry.engine_id for entry in catalog.of_pair("embedded")][-1] == added.engine_id
    assert set(before) < {entry.engine_id for entry in catalog.entries()}
    assert catalog.find(added.engine_id).pair.model(added.model.id) == made()
    assert catalog.add(catalog.pairs[0], made()) == added
    assert catalog.version == 1


def test_a_new_pair_brings_its_base() -> None:
    catalog = Catalog([load_pair(PROFILES, "embedded")])
    catalog.add(load_pair(PROFILES, "smollm2-135m"), made())
    assert [pair.id for pair in catalog.pairs] == ["embedded", "smollm2-135m"]
    assert catalog.of_pair("smollm2-135m")[0].model.role == "base"
