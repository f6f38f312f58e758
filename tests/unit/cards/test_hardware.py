"""The card's hardware table: rows of the memory plan, never a size that was not planned."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from components.cards.card import build_card
from components.cards.hardware import HardwareTable
from components.core.errors import InputError
from components.core.memory_plan import ModelMemory, memory_of_figures
from components.engines.catalog import Catalog, CatalogEntry
from components.engines.model_memory import ModelMemoryReader
from components.profiles.loader import load_pair
from components.profiles.strict_yaml import parse
from tests.unit.cards.test_card import facts

ROOT = Path(__file__).parents[3]
FIGURES: Any = parse((ROOT / "assets" / "published" / "models.yaml").read_bytes(), "models.yaml").plain()


class Reader:
    """In place of the files: a model of published figures."""

    def __init__(self, memory: ModelMemory | None = None, fault: Exception | None = None) -> None:
        self._memory, self._fault = memory, fault

    def of_entry(self, _entry: CatalogEntry) -> ModelMemory | None:
        if self._fault:
            raise self._fault
        return self._memory


def table(reader: Reader, pair: str, candidate: str) -> Any:
    entry = Catalog([load_pair(ROOT / "profiles", pair)]).find(f"{pair}/{candidate}")
    return HardwareTable(cast(ModelMemoryReader, reader), ROOT / "profiles").of(entry)


def test_a_large_model_needs_more_of_the_small_gpus() -> None:
    name = next(name for name in FIGURES if "Pixtral-Large" in name)
    rows = table(Reader(memory_of_figures(name, FIGURES[name], "W4A16")), "pixtral-large-2411", "w4a16")
    assert [row.gpu_gb for row in rows] == sorted({row.gpu_gb for row in rows})
    needed = {row.gpu_gb: row.gpus for row in rows}
    assert needed[141] == 1  # 67 GB of weights
    assert needed[24] is None or needed[24] >= 4
    for row in rows:
        if row.gpus is not None:
            assert row.context is not None and row.context >= 8192
            assert any(flag.startswith("--max-model-len") for flag in row.flags)
            assert f"--tensor-parallel-size={row.gpus}" in row.flags
    card = build_card(facts(hardware=rows), [])
    assert "| 141 GB (" in card.markdown
    assert not any("Hardware table" in words for words in card.missing)
    assert "not measured on these GPUs" in card.markdown


@pytest.mark.parametrize("reader", [Reader(), Reader(fault=InputError("A figure is missing."))])
def test_a_model_of_unknown_shape_has_no_table_and_the_card_says_so(reader: Reader) -> None:
    assert table(reader, "embedded", "w4a16") == ()
    assert "Hardware table (the model's shape is not known here)" in build_card(facts(), []).missing
