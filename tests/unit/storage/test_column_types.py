"""What the database is given comes back exactly."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateTable

from components.storage.column_types import UtcDateTime, from_stored, to_stored
from components.storage.tables import Base

DIALECT = sqlite.dialect()


@given(st.text(alphabet=st.one_of(st.characters(exclude_categories=()), st.sampled_from("\x00\x1a\ud800\udfff01a"))))
def test_f37_text_comes_back_exactly_and_is_storable(text: str) -> None:
    stored = to_stored(text)
    assert from_stored(stored) == text
    assert "\x00" not in stored
    stored.encode("utf-8")


def test_ordinary_text_is_stored_as_it_is() -> None:
    text = "Grüße, 你好 🎨 \\ \n\t%"
    assert to_stored(text) == text


def test_moments_are_utc_whatever_zone_they_come_in() -> None:
    kind = UtcDateTime()
    moment = datetime(2026, 11, 21, 3, 0, tzinfo=timezone(timedelta(hours=2)))
    stored = kind.process_bind_param(moment, DIALECT)
    assert stored == datetime(2026, 11, 21, 1, 0, tzinfo=UTC)
    assert kind.process_result_value(datetime(2026, 11, 21, 1, 0), DIALECT) == moment  # noqa: DTZ001
    with pytest.raises(ValueError, match="time zone"):
        kind.process_bind_param(datetime(2026, 11, 21), DIALECT)  # noqa: DTZ001


def test_every_table_can_be_made_on_postgresql() -> None:
    for table in Base.metadata.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=postgresql.dialect()))
