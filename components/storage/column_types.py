"""Column types that keep what they are given, on SQLite and PostgreSQL alike. No tables, no queries."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, String, Text
from sqlalchemy.types import TypeDecorator

# PostgreSQL takes no NUL and no database takes half of a surrogate pair, yet a prompt or a model may hold either.
# They are written as SUBSTITUTE (U+001A) and their hex code; a SUBSTITUTE itself likewise. All else is unchanged,
# so ordinary text can be read and searched in the database as it is.
_UNSTORABLE = re.compile("[\x00\x1a\ud800-\udfff]")
_ESCAPED = re.compile("\x1a([0-9a-f]{4})")


def to_stored(text: str) -> str:
    """Text as the database holds it."""
    return _UNSTORABLE.sub(lambda match: f"\x1a{ord(match[0]):04x}", text)


def from_stored(text: str) -> str:
    """The inverse of ``to_stored``."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)


class ExactText(TypeDecorator[str]):
    """Text that comes back character by character, whatever it holds."""

    impl: type[String] = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """To the database."""
        return None if value is None else to_stored(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> str | None:
        """From the database."""
        return None if value is None else from_stored(value)


class ExactName(ExactText):
    """A short text, such as an id. What a caller sends as one is compared safely, whatever it holds."""

    impl = String
    cache_ok = True


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC. SQLite forgets time zones, so everything is stored in one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To the database."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a stored moment needs a time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """From the database."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
