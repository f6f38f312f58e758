"""The parts of a card that people write: kept version by version, never overwritten. Blocking."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from components.cards.facts import PROSE_PARTS, Prose
from components.core.errors import InputError, StorageError
from components.storage.atomic_write import write_atomically

MAX_CHARACTERS = 8000


def _now() -> datetime:
    return datetime.now(UTC)


class ProseStore:
    """One file a version: ``<folder>/<pair>/<model>/0001.json``."""

    def __init__(self, folder: Path, now: Callable[[], datetime] = _now) -> None:
        self._folder, self._now = folder, now
        self._lock = threading.Lock()

    def newest(self, engine_id: str) -> Prose:
        """The last version that was saved; version 0, without text, where there is none.

        Raises:
            StorageError: its file can't be read.
        """
        files = sorted(self._of(engine_id).glob("[0-9][0-9][0-9][0-9].json"))
        if not files:
            return Prose()
        try:
            return Prose.model_validate_json(files[-1].read_bytes())
        except (OSError, ValidationError) as exc:
            raise StorageError(
                f"{files[-1].name} of the card's text can't be read.", "Restore or delete the file.", detail=str(exc)
            ) from exc

    def save(self, engine_id: str, parts: Mapping[str, object], based_on: int, by: str) -> Prose:
        """Store a new version; one that changes nothing is not stored.

        Args:
            based_on: version that the writer saw.
            by: name of the sign-in; empty without one.

        Raises:
            InputError: a part can't be used, or somebody else saved meanwhile. StorageError: nothing was stored.
        """
        texts = {name: _checked(name, value) for name, value in parts.items()}
        with self._lock:
            last = self.newest(engine_id)
            if last.version != based_on:
                raise InputError(
                    f"Version {last.version} was saved meanwhile; this text is based on version {based_on}.",
                    "Copy your text, open the card again, and put it in there.", field="version",
                )  # fmt: skip
            kept = {name: text for name, text in {**last.parts, **texts}.items() if text}
            if kept == last.parts:
                return last
            made = Prose(version=last.version + 1, parts=kept, written_at=self._now(), written_by=by)
            folder = self._of(engine_id)
            write_atomically(folder / f"{made.version:04d}.json", made.model_dump_json(indent=1).encode(), folder)
            return made

    def _of(self, engine_id: str) -> Path:
        pair, _, model = engine_id.partition("/")
        return self._folder / pair / model


def _checked(name: str, value: object) -> str:
    if name not in PROSE_PARTS:
        raise InputError(
            f"There is no part {name[:40]!r}.", f"Accepted: {', '.join(PROSE_PARTS)}.", field="parts"
        )  # fmt: skip
    if not isinstance(value, str) or len(value) > MAX_CHARACTERS or "\x00" in value:
        raise InputError(
            f"{PROSE_PARTS[name]} can't be used.", f"Accepted: text of up to {MAX_CHARACTERS:,} characters.",
            field=f"parts.{name}",
        )  # fmt: skip
    return value.replace("\r\n", "\n").strip()
