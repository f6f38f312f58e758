"""What a job has finished, piece by piece, so that the next attempt goes on from there. Arrays only, no pickle."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import orjson

from components.core.divergence import Floats
from components.storage.atomic_write import make_private_folder, write_atomically


class PieceStore:
    """Pieces of one piece of work by name; a damaged one counts as missing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        make_private_folder(folder)

    def table(self, name: str) -> Floats | None:
        """A table that was saved."""
        try:
            found = np.load(self._folder / f"{name}.npy", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return np.asarray(found, dtype=np.float64)

    def save_table(self, name: str, table: Floats) -> None:
        """Whole or not at all."""
        buffer = io.BytesIO()
        np.save(buffer, table, allow_pickle=False)
        write_atomically(self._folder / f"{name}.npy", buffer.getvalue(), self._folder)

    def document(self, name: str) -> dict[str, object] | None:
        """A document that was saved."""
        try:
            return dict(orjson.loads((self._folder / f"{name}.json").read_bytes()))
        except (OSError, orjson.JSONDecodeError, TypeError, ValueError):
            return None

    def save_document(self, name: str, document: dict[str, object]) -> None:
        """Whole or not at all."""
        write_atomically(self._folder / f"{name}.json", orjson.dumps(document), self._folder)
