"""The moment that records carry. Durations are taken from ``time.monotonic`` instead."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Aware, in UTC."""
    return datetime.now(UTC)
