"""Safetensors files rewritten tensor by tensor. Needs no torch, and never more memory than one vision tensor.

A safetensors file is a length, a JSON header (name → type, shape, place) and the raw bytes of the tensors. Names and
places are all we change; rows of a matrix are runs of bytes, so even a permutation of rows needs no number format.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import orjson

from components.core.errors import PreparationError

_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100 * 1024 * 1024  # the format's own limit
_COPY_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class Tensor:
    """Where one tensor lies."""

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int  # in the file
    size_bytes: int


@dataclass(frozen=True)
class Piece:
    """One tensor of a file to be written: the bytes of ``source``, its rows reordered if ``heads`` is set.

    ``back``: from Mistral's order of rows to Hugging Face's, instead of the other way.
    """

    name: str
    source: Tensor
    heads: int | None = None
    back: bool = False


def read_header(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name.

    Raises:
        PreparationError: the file is not such a file, or is shorter than its header says (F44).
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            if not 0 < length <= _MAX_HEADER_BYTES:
                raise ValueError(f"header of {length} bytes")
            header = orjson.loads(file.read(length))
        header.pop("__metadata__", None)
        offset = _LENGTH_BYTES + length
        tensors = {name: _tensor(path, name, entry, offset) for name, entry in header.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise PreparationError(
            f"{path.name} is not a safetensors file.", "Download or copy it again.", detail=f"{path}: {exc!r}"
        ) from exc
    end = max((tensor.start + tensor.size_bytes for tensor in tensors.values()), default=offset)
    if path.stat().st_size != end:
        raise PreparationError(
            f"{path.name} is incomplete: it has {path.stat().st_size:,} bytes, its header says {end:,}.",
            "Download or copy it again.",
            detail=str(path),
        )
    return tensors


def _tensor(path: Path, name: str, entry: Mapping[str, object], offset: int) -> Tensor:
    shape, places = entry["shape"], entry["data_offsets"]
    if not isinstance(shape, list) or not isinstance(places, list):
        raise TypeError(name)
    start, end = places
    return Tensor(name, path, str(entry["dtype"]), tuple(shape), offset + start, end - start)


def write_shard(path: Path, pieces: Iterable[Piece], advance: Callable[[int], None]) -> None:
    """A new file of these tensors; ``advance`` is told the bytes written."""
    ordered = list(pieces)
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    place = 0
    for piece in ordered:
        end = place + piece.source.size_bytes
        header[piece.name] = {"dtype": piece.source.dtype, "shape": piece.source.shape, "data_offsets": [place, end]}
        place = end
    text = orjson.dumps(header)
    text += b" " * (-len(text) % _LENGTH_BYTES)
    with path.open("wb") as target:
        target.write(len(text).to_bytes(_LENGTH_BYTES, "little") + text)
        for piece in ordered:
            _copy(piece, target, advance)


def _copy(piece: Piece, target: BinaryIO, advance: Callable[[int], None]) -> None:
    with piece.source.file.open("rb") as source:
        source.seek(piece.source.start)
        if piece.heads is not None:
            reorder = split_rows if piece.back else interleave_rows
            target.write(reorder(source.read(piece.source.size_bytes), piece.source, piece.heads))
            advance(piece.source.size_bytes)
            return
        left = piece.source.size_bytes
        while left:
            data = source.read(min(_COPY_BYTES, left))
            if not data:
                raise PreparationError(f"{piece.source.file.name} became shorter while it was read.", "Try again.")
            target.write(data)
            left -= len(data)
            advance(len(data))


def interleave_rows(data: bytes, tensor: Tensor, heads: int) -> bytes:
    """Rows of a rotary q or k from split halves (Hugging Face) to interleaved pairs (Mistral), head by head.

    The same as ``w.view(heads, 2, d // heads // 2, n).transpose(1, 2).reshape(d, n)``.

    Raises:
        PreparationError: the rows don't divide into that many heads of even size.
    """
    half = _rows(tensor, heads) // heads // 2
    view = np.frombuffer(data, dtype=np.uint8).reshape(heads, 2, half, -1)
    return view.transpose(0, 2, 1, 3).tobytes()


def split_rows(data: bytes, tensor: Tensor, heads: int) -> bytes:
    """The way back: from interleaved pairs (Mistral) to split halves (Hugging Face).

    Raises:
        PreparationError: the rows don't divide into that many heads of even size.
    """
    half = _rows(tensor, heads) // heads // 2
    view = np.frombuffer(data, dtype=np.uint8).reshape(heads, half, 2, -1)
    return view.transpose(0, 2, 1, 3).tobytes()


def _rows(tensor: Tensor, heads: int) -> int:
    rows = tensor.shape[0] if len(tensor.shape) == 2 else 0
    if rows == 0 or rows % (2 * heads) or math.prod(tensor.shape) == 0:
        raise PreparationError(
            f"{tensor.name} of shape {list(tensor.shape)} does not divide into {heads} attention heads.",
            "The repository's config.json does not fit its weights; report it to its author.",
        )
    return rows
