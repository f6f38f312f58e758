"""Records too large for a row as bytes: gzip of JSON, readable without Diptych. No files, no database."""

from __future__ import annotations

import gzip
import zlib
from typing import TypeVar

from pydantic import ValidationError

from components.core.answers import Record
from components.core.errors import BlobDamagedError

PACKED_SUFFIX = ".json.gz"
# Log-probabilities hardly compress: 256 tokens take 4 ms and 110 KB at level 1, 13 ms and 97 KB at level 6 [measured].
_LEVEL = 1
_Kind = TypeVar("_Kind", bound=Record)


def pack(record: Record) -> bytes:
    """The record as bytes, the same for the same record. NaN and infinities become null."""
    return gzip.compress(record.model_dump_json(exclude_defaults=True).encode(), _LEVEL, mtime=0)


def unpack(kind: type[_Kind], data: bytes) -> _Kind:
    """The inverse of ``pack``.

    Raises:
        BlobDamagedError: this is no such record that this version can read.
    """
    try:
        return kind.model_validate_json(gzip.decompress(data))
    except (OSError, EOFError, zlib.error, ValidationError) as exc:
        raise BlobDamagedError(
            "The stored tokens of an answer can't be read.",
            "Restore the state directory's blobs folder from a backup, or open it with a newer Diptych.",
            detail=str(exc),
        ) from exc
