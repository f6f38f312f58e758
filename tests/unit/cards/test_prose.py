"""What people write of a model: kept version by version, told apart from what was measured, never markup of ours."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from components.cards.card import build_card
from components.cards.facts import PROSE_PARTS, Prose
from components.cards.markdown import prose
from components.cards.prose import MAX_CHARACTERS, ProseStore
from components.core.errors import InputError, StorageError
from tests.unit.cards.test_card import ENGINE, facts, measured

WHEN = datetime(2026, 3, 4, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> ProseStore:
    return ProseStore(tmp_path / "cards", lambda: WHEN)


def test_every_version_is_kept_and_the_newest_shown(store: ProseStore, tmp_path: Path) -> None:
    assert store.newest(ENGINE) == Prose()
    first = store.save(ENGINE, {"summary": "One.\r\nTwo. "}, 0, "ada")
    assert (first.version, first.parts, first.written_by) == (1, {"summary": "One.\nTwo."}, "ada")
    second = store.save(ENGINE, {"notes": "Mind the gap."}, 1, "")
    assert second.parts == {"summary": "One.\nTwo.", "notes": "Mind the gap."}
    third = store.save(ENGINE, {"summary": ""}, 2, "")
    assert store.newest(ENGINE) == third
    assert third.parts == {"notes": "Mind the gap."}
    assert store.save(ENGINE, {"notes": "Mind the gap."}, 3, "") == third, "nothing changed"
    assert sorted(path.name for path in (tmp_path / "cards").rglob("*.*")) == ["0001.json", "0002.json", "0003.json"]
    assert store.newest("embedded/w8a8") == Prose()


def test_two_writers_do_not_overwrite_each_other(store: ProseStore) -> None:
    store.save(ENGINE, {"notes": "mine"}, 0, "")
    with pytest.raises(InputError, match="Version 1 was saved meanwhile"):
        store.save(ENGINE, {"notes": "yours"}, 0, "")
    assert store.newest(ENGINE).parts == {"notes": "mine"}


@pytest.mark.parametrize(
    ("parts", "field"),
    [({"title": "x"}, "parts"), ({"notes": 3}, "parts.notes"), ({"notes": "x" * (MAX_CHARACTERS + 1)}, "parts.notes"),
     ({"summary": "a\x00b"}, "parts.summary")],
)  # fmt: skip
def test_what_is_no_text_of_a_part_is_refused_by_field(store: ProseStore, parts: dict[str, object], field: str) -> None:
    with pytest.raises(InputError) as refused:
        store.save(ENGINE, parts, 0, "")
    assert refused.value.field == field
    assert store.newest(ENGINE) == Prose()


def test_a_damaged_version_is_said_not_skipped(store: ProseStore, tmp_path: Path) -> None:
    store.save(ENGINE, {"notes": "x"}, 0, "")
    next((tmp_path / "cards").rglob("*.json")).write_text("half")
    with pytest.raises(StorageError, match=r"0001\.json"):
        store.newest(ENGINE)


def test_the_card_says_what_was_written_by_hand(store: ProseStore) -> None:
    written = store.save(ENGINE, {name: f"Words of {name}." for name in PROSE_PARTS}, 0, "ada")
    card = build_card(facts(prose=written), measured())
    for name in PROSE_PARTS:
        assert f"Words of {name}." in card.markdown.replace("\\_", "_")
    assert "Written by hand, not measured: summary, intended use and limitations" in card.markdown
    assert "(version 1, 2026-03-04)" in card.markdown
    assert facts().model.description not in card.markdown
    assert ModelCard(card.markdown).data.base_model == "embedded/base"
    assert build_card(facts(), measured()).prose == Prose()


def test_words_of_people_break_no_structure() -> None:
    hostile = "<script>alert(1)</script>\n# A heading\nTitle\n===\n---\n```\nopen fence\n  ## two\n- item\n\n1 < 2"
    found = prose(hostile)
    assert "<" not in found
    assert not re.search(r"^\s{0,3}(#|=+$|-+$|```)", found, flags=re.MULTILINE)
    assert "- item" in found
